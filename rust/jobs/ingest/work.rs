//! What is to be listed, and how: the order of parts, and the stream of pages of one.
//!
//! Nothing is listed before a stream is polled. What becomes of the pages is not known here.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::RecordBatch;
use futures::StreamExt as _;
use futures::stream::BoxStream;

use super::{JobArray, JobSource};
use crate::Result;
use crate::batch::{ChecksumBy, EmptyChunks};
use crate::grid::piece::{Piece, piece_of};
use crate::list::limit::ConcurrencyLimit;
use crate::list::{
    ListOptions, ListStats, Lister, Listing, SharedPage, list_chunks, neighbours, stats_of,
};
use crate::plan::{Part, PlanLimits};
use crate::source::Source;
use crate::target::container::SourceContainer;
use crate::target::locations::Locations;

/// Chunks that an array may have room for to be listed together with those beside it.
const SMALL: u64 = 500;

/// So many small arrays are worth that.
const MANY: usize = 32;

/// What is to be listed, and how.
#[derive(Clone)]
pub(in crate::jobs) struct Work<'a> {
    pub(in crate::jobs) sources: &'a [JobSource],
    /// Of each source, by position.
    pub(in crate::jobs) containers: &'a [SourceContainer],
    pub(in crate::jobs) arrays: &'a [JobArray],
    /// Chunks along each dimension of an array's manifests, by position.
    pub(in crate::jobs) splits: &'a [Vec<u32>],
    pub(in crate::jobs) empty_chunks: EmptyChunks,
    pub(in crate::jobs) checksum: ChecksumBy,
    pub(in crate::jobs) locations: Locations,
    /// When the listing was made, in seconds since 1970, unless the sources are listed.
    pub(in crate::jobs) listed_at: Option<i64>,
    /// Whether there may be references already, which what is found takes the place of.
    pub(in crate::jobs) replaces: bool,
    pub(in crate::jobs) limits: PlanLimits,
    /// Requests in flight, over all arrays.
    pub(in crate::jobs) in_flight: Arc<ConcurrencyLimit>,
}

impl<'a> Work<'a> {
    /// Where the chunks of a part are.
    pub(super) fn piece(&self, part: &Part) -> Option<(&'a Piece, &'a Source)> {
        let piece = piece_of(&self.arrays.get(part.array)?.pieces, &part.region)?;
        Some((piece, &self.sources.get(piece.source)?.source))
    }
}

/// A page of a part's listing, or its end, and what the listing has cost since the last.
pub(super) type ListedPage = (usize, Result<Option<RecordBatch>>, ListStats);

/// Whether a part is listed page by page.
pub(super) fn is_paged(work: &Work<'_>, part: &Part) -> bool {
    work.piece(part).is_some_and(|(_, source)| Lister::of(source).page_size().is_some())
}

/// The positions of parts in the order in which they are listed, and with which other ones each
/// shares a page: many small arrays in that of their keys, anything else as it comes.
pub(super) fn in_order(work: &Work<'_>, parts: &[Part]) -> Vec<(usize, Option<Arc<SharedPage>>)> {
    let mut small: BTreeMap<usize, Vec<(usize, &str, u64)>> = BTreeMap::new();
    for (number, part) in parts.iter().enumerate() {
        let Some((piece, _)) = work.piece(part) else { continue };
        let chunks = piece.array.layout.chunks();
        if chunks <= SMALL && is_paged(work, part) {
            let found = (number, piece.array.source_path.as_str(), chunks);
            small.entry(piece.source).or_default().push(found);
        }
    }
    small.retain(|_, arrays| arrays.len() >= MANY);
    let mut order = Vec::with_capacity(parts.len());
    let mut taken = vec![false; parts.len()];
    for arrays in small.values() {
        let named: Vec<_> = arrays.iter().map(|(_, path, chunks)| (*path, *chunks)).collect();
        for (at, shared) in neighbours(&named) {
            let Some((number, ..)) = arrays.get(at) else { continue };
            if let Some(taken) = taken.get_mut(*number) {
                *taken = true;
            }
            order.push((*number, shared));
        }
    }
    let others = taken.iter().enumerate().filter(|(_, taken)| !**taken);
    order.extend(others.map(|(number, _)| (number, None)));
    order
}

/// The listing of one part, which begins when it is first polled; `full` where every chunk is
/// likely to be there.
pub(super) fn listing(
    number: usize,
    work: &Work<'_>,
    part: &Part,
    shared: Option<Arc<SharedPage>>,
    full: bool,
) -> Option<BoxStream<'static, ListedPage>> {
    let (piece, source) = work.piece(part)?;
    let (source, array) = (source.clone(), piece.array.clone());
    let (region, limit) = (piece.shift.box_in_source(&part.region), Arc::clone(&work.in_flight));
    let dangling_links = work.empty_chunks.into();
    let undated = work.checksum != ChecksumBy::LastModified;
    let e_tags = work.checksum == ChecksumBy::ETag;
    let pages = futures::stream::once(async move {
        let options = ListOptions {
            e_tags,
            dangling_links,
            undated,
            full,
            shared,
            ..ListOptions::with(limit)
        };
        match list_chunks(&source, &array, region, options) {
            Ok(Listing { batches, stats, .. }) => {
                let end = futures::stream::once(std::future::ready(Ok(None)));
                let pages = batches.map(|records| records.map(Some)).chain(end);
                let mut last = ListStats::default();
                pages
                    .map(move |records| {
                        let now = stats_of(&stats);
                        let since = now.since(&last);
                        last = now;
                        (number, records, since)
                    })
                    .boxed()
            }
            Err(error) => {
                let failed = (number, Err(error), ListStats::default());
                futures::stream::once(std::future::ready(failed)).boxed()
            }
        }
    });
    Some(pages.flatten().boxed())
}
