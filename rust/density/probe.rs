//! How full a part of an array's grid is, judged by a few requests.
//!
//! Chooses how to look: at pages spread over the region ([`sample`]), at a few folders (`folders`),
//! or at the first pages of what another library lists. What follows from an estimate is decided by plan and ingest;
//! that a listing is complete never rests on one.

use std::sync::Arc;

use super::sample::sample;
use super::{Density, Looks, folders};
use crate::Result;
use crate::grid::chunk_box::ChunkBox;
use crate::list::array_keys::ArrayKeys;
use crate::list::limit::ConcurrencyLimit;
use crate::list::paging::ScanOptions;
use crate::list::{Lister, foreign, ranked_region};
use crate::source::Source;
use crate::source::page::StartAfter;
use crate::zarr::metadata::ArraySpec;

/// Estimates how many chunks of `region` exist, with a few `looks`.
///
/// Where chunks lie in clusters the estimate is rather too high than too low. A server whose
/// answers contradict each other, or do not honour start-after, is taken to hold every chunk. A
/// scalar is expected to be there. On a local file system as many folders of every level
/// are read, and files are not looked at.
///
/// # Errors
///
/// Those of listing the same region: [`ErrorKind::UnsupportedArray`](crate::ErrorKind), and what a
/// store that fails or refuses gives.
pub async fn probe(
    source: &Source,
    array: &ArraySpec,
    region: &ChunkBox,
    looks: Looks,
    limit: Arc<ConcurrencyLimit>,
) -> Result<Density> {
    if array.layout.ndim() == 0 {
        return Ok(Density { chunks_expected: 1, exact: true, list_requests: 0 });
    }
    let requests = looks.requests;
    match Lister::of(source) {
        // Every request would be one of the listing's own.
        Lister::Predicted(_) => {
            Ok(Density { chunks_expected: region.chunks(), exact: false, list_requests: 0 })
        }
        Lister::Pages(source) if source.capabilities().start_after == StartAfter::None => {
            // A few pages of a listing in no order say nothing of the rest.
            Ok(Density { chunks_expected: region.chunks(), exact: false, list_requests: 0 })
        }
        Lister::Pages(source) => {
            let (order, ranks) = ranked_region(array, region)?;
            let keys = ArrayKeys::new(&source.key(&array.source_path), order);
            let (page_size, retry) = (source.capabilities().new_keys(), source.retries());
            let options = ScanOptions { page_size, retry, limit, ordered: false, full: false };
            sample(source, keys, ranks, looks, options).await
        }
        Lister::Walk(source) => folders::sample(&source, array, region, requests).await,
        Lister::Foreign(source) => {
            let counted = foreign::count(&source, array, region, requests).await?;
            let chunks_expected = counted.unwrap_or_else(|| region.chunks());
            Ok(Density { chunks_expected, exact: counted.is_some(), list_requests: 0 })
        }
    }
}
