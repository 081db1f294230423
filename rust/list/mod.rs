//! An array's chunks as a stream of Arrow record batches.
//!
//! Which keys are chunks is decided below this module; what they become is not. Each chunk of the
//! region comes once, in unspecified order unless it is asked for. How the chunks are found depends on the source: by
//! computed ranks and independent pages ([`ranked`], else [`by_token`]), by asking for every key that there
//! could be (`predicted`), by a walk of folders (`walk`), or page by page from what another library
//! lists (`foreign`).

pub mod array_keys;
pub mod by_token;
mod examine;
mod folders;
pub(crate) mod foreign;
mod inventory_sample;
pub mod limit;
mod lister;
mod neighbours;
pub mod pages;
pub(crate) mod paging;
mod predicted;
pub mod ranked;
mod records;
pub mod stats;
pub(crate) mod walk;
mod wanted;

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};

pub use crate::source::page::PAGE_SIZE;
use array_keys::ArrayKeys;
pub use examine::{ListingTraits, examine_listing};
pub use folders::{Folder, FolderRequest, list_folders};
pub use inventory_sample::{InventorySample, sample_inventory};
use limit::ConcurrencyLimit;
pub use lister::Lister;
use neighbours::WithNeighbours;
pub use neighbours::{SharedPage, neighbours};
pub use paging::{ScanOptions, ScanPage};
use ranked::scan;
pub use records::{ChunkColumns, chunk_schema};
use records::{ChunkRecords, RecordLayout};
use stats::update;
pub use stats::{ListStats, SharedStats, stats_of};
pub use wanted::DanglingLinks;
use wanted::Wanted;

use crate::grid::chunk_box::ChunkBox;
use crate::key_order::rank::KeyOrder;
use crate::key_order::rank_region::RankRegion;
use crate::source::Source;
use crate::source::page::PageSource;
use crate::zarr::metadata::ArraySpec;
use crate::{Error, ErrorKind, Result};

/// How a listing is done and what its record batches hold.
#[derive(Debug, Clone)]
#[allow(clippy::struct_excessive_bools)] // independent switches, not a state
pub struct ListOptions {
    /// Requests in flight; may be shared by the listings of several arrays.
    pub limit: Arc<ConcurrencyLimit>,
    /// Adds a column `path`: this path, `/` and the chunk's key.
    pub paths: Option<String>,
    /// One column `chunk_0`, `chunk_1`, … a dimension, instead of one list column.
    pub flat: bool,
    /// Batches and their rows come in the byte order of their keys; see [`ScanOptions::ordered`].
    /// On a local file system folders are then read one after the other, and the names of a folder
    /// are in memory together; of a store that another library lists, all of them.
    pub ordered: bool,
    /// Rows tell the `ETag`s of objects that have one; without it the column is empty, which takes
    /// less time.
    pub e_tags: bool,
    /// Only a local file system has such.
    pub dangling_links: DanglingLinks,
    /// Objects without a time are taken, as of 1970; only web servers have such.
    pub undated: bool,
    /// Every chunk of the region is likely to be there; see [`ScanOptions::full`].
    pub full: bool,
    /// A page that small arrays beside this one are listed with too.
    pub shared: Option<Arc<SharedPage>>,
}

impl ListOptions {
    /// Always `number` requests in flight, at most.
    #[must_use]
    pub fn new(number: usize) -> Self {
        Self::with(ConcurrencyLimit::new(number))
    }

    /// Requests in flight within `limit`.
    #[must_use]
    pub fn with(limit: Arc<ConcurrencyLimit>) -> Self {
        Self {
            limit,
            paths: None,
            flat: false,
            ordered: false,
            e_tags: true,
            dangling_links: DanglingLinks::default(),
            undated: false,
            full: false,
            shared: None,
        }
    }
}

/// A running or finished listing.
pub struct Listing {
    /// Schema of the record batches.
    pub schema: SchemaRef,
    /// Record batches, none of them empty. The stream ends without an error only when every chunk
    /// of the region has been answered for; dropping it stops the listing.
    pub batches: BoxStream<'static, Result<RecordBatch>>,
    /// What the listing has cost and met so far.
    pub stats: SharedStats,
}

/// Lists the chunks of `array` that are in `region`.
///
/// Must be called within a Tokio runtime. Errors of the listing come through the stream:
/// [`ErrorKind::Listing`] when the server fails or its listing cannot be trusted,
/// [`ErrorKind::Access`] and [`ErrorKind::SourceNotFound`] when it refuses.
///
/// # Errors
///
/// [`ErrorKind::UnsupportedArray`] for a grid that cannot be ranked.
pub fn list_chunks(
    source: &Source,
    array: &ArraySpec,
    region: ChunkBox,
    options: ListOptions,
) -> Result<Listing> {
    let encoding = array.layout.encoding();
    // Files have none of their own.
    let has_e_tags = !matches!(source, Source::Local(source) if !source.lists_e_tags());
    let e_tags = options.e_tags && has_e_tags;
    let layout =
        RecordLayout::new(array.layout.ndim(), encoding, options.paths, options.flat, e_tags)?;
    let schema = Arc::clone(layout.schema());
    let dangling_links = options.dangling_links;
    let layout = Arc::new(layout);
    let undated = options.undated;
    let wanted = Wanted { array: array.clone(), region, layout, dangling_links, undated };
    let stats = SharedStats::default();
    let batches = match Lister::of(source) {
        Lister::Predicted(source) => {
            predicted::list(source, wanted, Arc::clone(&stats), options.limit, options.ordered)?
        }
        _ if array.layout.ndim() == 0 => scalar(source.clone(), wanted, Arc::clone(&stats)),
        Lister::Pages(pages) => {
            let pages = match options.shared {
                Some(shared) => Arc::new(WithNeighbours::new(pages, shared)),
                None => pages,
            };
            paged(
                pages,
                &wanted,
                Arc::clone(&stats),
                options.limit,
                (options.ordered, options.full),
            )?
        }
        Lister::Walk(source) => {
            let workers = if options.ordered { 1 } else { options.limit.begin() };
            walk::list(&source, wanted, Arc::clone(&stats), workers, options.ordered)
        }
        Lister::Foreign(source) => {
            foreign::list(&source, wanted, Arc::clone(&stats), options.ordered)
        }
    };
    let batches = batches.try_filter(|batch| std::future::ready(batch.num_rows() > 0)).boxed();
    Ok(Listing { schema, batches, stats })
}

/// A scalar has one possible key: it is asked for, not listed.
fn scalar(
    source: Source,
    wanted: Wanted,
    stats: SharedStats,
) -> BoxStream<'static, Result<RecordBatch>> {
    futures::stream::once(async move {
        let key = wanted.array.source_key(&[]);
        let found = match &source {
            source if source.inventory().is_some() => {
                source.inventory().map(|inventory| inventory.find(&key)).transpose()?.flatten()
            }
            Source::Local(folder) => walk::chunk(&folder.path(&key), &wanted, &stats, &key)?,
            source => source.head(&key).await?,
        };
        let mut records = wanted.records();
        if let Some(info) = &found {
            records.push(&[], info.size, info.last_modified, info.e_tag.as_deref());
        }
        update(&stats, |stats| {
            stats.keys_listed += u64::from(found.is_some());
            stats.chunks += u64::from(found.is_some());
        });
        records.finish()
    })
    .boxed()
}

/// The order of an array's keys, and a part of its grid in that order.
pub(crate) fn ranked_region(
    array: &ArraySpec,
    region: &ChunkBox,
) -> Result<(Arc<KeyOrder>, RankRegion)> {
    let layout = &array.layout;
    let unsupported = |error: Error| {
        let message = format!("array {} cannot be listed: {}", array.path, error.message());
        Error::new(ErrorKind::UnsupportedArray, message)
    };
    let order =
        Arc::new(KeyOrder::new(layout.encoding(), layout.grid_shape()).map_err(unsupported)?);
    let region = RankRegion::new(Arc::clone(&order), &region.wide_ranges()).map_err(unsupported)?;
    Ok((order, region))
}

/// The listing page by page.
fn paged(
    source: Arc<dyn PageSource>,
    wanted: &Wanted,
    stats: SharedStats,
    limit: Arc<ConcurrencyLimit>,
    (ordered, full): (bool, bool),
) -> Result<BoxStream<'static, Result<RecordBatch>>> {
    let (order, region) = ranked_region(&wanted.array, &wanted.region)?;
    let keys = ArrayKeys::new(&source.key(&wanted.array.source_path), order);
    let page_size = source.capabilities().new_keys();
    let options = ScanOptions { page_size, retry: source.retries(), limit, ordered, full };
    let pages = scan(source, keys, region, options);
    let records = Arc::clone(&wanted.layout);
    let current = pages.stats_handle();
    let last = pages.stats_handle();
    let at_end = Arc::clone(&stats);
    let batches = pages.map(move |page| {
        update(&stats, |stats| *stats = current());
        records_of(&page?, &records)
    });
    // Pages without chunks are counted too, and the last of them come with the end.
    let end = futures::stream::poll_fn(move |_| {
        update(&at_end, |stats| *stats = last());
        std::task::Poll::Ready(None)
    });
    Ok(batches.chain(end).boxed())
}

fn records_of(page: &ScanPage, layout: &Arc<RecordLayout>) -> Result<RecordBatch> {
    let mut records = ChunkRecords::with_capacity(Arc::clone(layout), page.entries.len());
    let ndim = layout.ndim();
    for (row, index) in page.entries.iter().enumerate() {
        let index = *index as usize;
        let (Some(coords), Some(entry)) =
            (page.coords.get(row * ndim..(row + 1) * ndim), page.page.entries.get(index))
        else {
            return Err(Error::new(ErrorKind::Listing, "a page lost one of its entries"));
        };
        let e_tag = if layout.tells_e_tags() { page.page.e_tag(index) } else { &[] };
        let e_tag = std::str::from_utf8(e_tag).ok().filter(|tag| !tag.is_empty());
        records.push(coords, entry.size, entry.last_modified, e_tag);
    }
    records.finish()
}
