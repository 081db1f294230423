//! What listing and referencing an array takes, when every chunk of the region exists or as many
//! as a look at the store has shown.
//!
//! Arithmetic only: nothing is asked of a store, and a grid of a billion chunks costs no more than
//! a small one.

mod ingest;

use serde::Serialize;

pub use ingest::{IngestEstimate, estimate_ingest};

use crate::Result;
use crate::density::Density;
use crate::grid::chunk_box::ChunkBox;
use crate::list::array_keys::ArrayKeys;
use crate::list::pages::summary;
use crate::list::{Lister, PAGE_SIZE, ranked_region};
use crate::source::Source;
use crate::zarr::key::{ChunkKeyForm, ChunkKeySeparator};
use crate::zarr::metadata::ArraySpec;

/// How an array's chunks will be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// The one key of a scalar is asked for.
    Head,
    /// Independent pages, each starting after a computed key; sparse parts are scanned in segments.
    RankedPages,
    /// Chains of continuation tokens: the service does not list from a given key on.
    TokenPages,
    /// Every key that a chunk may have is asked for, one request each.
    Probe,
    /// The folders of the region are read.
    FolderWalk,
    /// Another library lists the store.
    GivenList,
    /// An inventory says what is there.
    Inventory,
}

/// The expected cost of one array.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ArrayEstimate {
    /// Chunks that the region has room for.
    pub chunks_in_region: u64,
    /// Chunks that are expected to exist.
    pub chunks_expected: u64,
    /// Whether that follows from a look at the store; without one, every chunk is expected.
    pub sampled: bool,
    /// How they will be found.
    pub strategy: Strategy,
    /// LIST requests (local: folders read) for as many chunks as are expected.
    pub list_requests: u64,
    /// US dollars for one of them, by list price.
    pub usd_per_list: f64,
    /// How many the service is asked at most at a time, if it sets a bound.
    pub most_in_flight: Option<usize>,
    /// Contiguous ranges of keys in byte order.
    pub ranges: u64,
    /// Whether requests and ranges are counted rather than extrapolated.
    pub exact: bool,
    /// Most references in one manifest.
    pub refs_per_manifest: u64,
    /// Manifests of the region, of which those without a chunk are not written.
    pub manifests: u64,
    /// Parts in which the region is listed and committed.
    pub batches: u64,
}

/// Estimates the listing and the manifests, of `split` chunks each, of `region` of `array`, of
/// which `density` tells how full it is.
///
/// # Errors
///
/// [`ErrorKind::UnsupportedArray`](crate::ErrorKind::UnsupportedArray) for a grid that cannot be ranked.
pub fn estimate(
    source: &Source,
    array: &ArraySpec,
    region: &ChunkBox,
    split: &[u32],
    density: Option<&Density>,
) -> Result<ArrayEstimate> {
    let layout = &array.layout;
    let (order, ranks) = ranked_region(array, region)?;
    let keys = ArrayKeys::new(&array.source_path, order);
    let lister = Lister::of(source);
    let capabilities = lister.capabilities();
    let pages = summary(&keys, &ranks, lister.page_size().unwrap_or(PAGE_SIZE));
    let possible = region.chunks();
    let expected = density.map_or(possible, |density| density.chunks_expected.min(possible));
    let (strategy, list_requests) = match lister {
        Lister::Predicted(_) => (Strategy::Probe, possible),
        _ if layout.ndim() == 0 => (Strategy::Head, 0),
        _ if source.inventory().is_some() => (Strategy::Inventory, 0),
        // Pages reach over what is missing: as many fewer as there are fewer chunks.
        Lister::Pages(_) => {
            let by_rank = lister.is_ranked();
            let strategy = if by_rank { Strategy::RankedPages } else { Strategy::TokenPages };
            (strategy, share(pages.pages, expected, possible).max(1))
        }
        Lister::Walk(_) => (Strategy::FolderWalk, folders(array, region, density)),
        Lister::Foreign(_) => (Strategy::GivenList, 0),
    };
    let manifests: u64 = split
        .iter()
        .zip(region.ranges())
        .map(|(length, range)| {
            let last = range.end.saturating_sub(1).max(range.start);
            u64::from(last / length - range.start / length) + 1
        })
        .product();
    let whole = split.iter().zip(layout.grid_shape());
    Ok(ArrayEstimate {
        chunks_in_region: possible,
        chunks_expected: expected,
        sampled: density.is_some(),
        strategy,
        list_requests,
        usd_per_list: capabilities.map_or(0.0, |known| known.price / 1_000.0),
        most_in_flight: capabilities.and_then(|known| known.most_in_flight),
        ranges: pages.ranges,
        exact: pages.exact,
        refs_per_manifest: whole.map(|(length, extent)| u64::from(*length).min(*extent)).product(),
        manifests: manifests.min(expected),
        batches: 1,
    })
}

/// `part` of `whole`, of `number`; rounded up.
fn share(number: u64, part: u64, whole: u64) -> u64 {
    let share = (u128::from(number) * u128::from(part)).div_ceil(u128::from(whole.max(1)));
    u64::try_from(share).unwrap_or(number)
}

/// Folders that a walk of the region reads; there are none without a chunk.
fn folders(array: &ArraySpec, region: &ChunkBox, density: Option<&Density>) -> u64 {
    if let Some(counted) = density.filter(|density| density.exact) {
        return counted.list_requests;
    }
    let most = density.map_or(u64::MAX, |density| density.chunks_expected);
    let encoding = array.layout.encoding();
    if encoding.separator == ChunkKeySeparator::Dot {
        return 1;
    }
    let mut level = 1;
    let mut folders = 1 + u64::from(encoding.form == ChunkKeyForm::Default);
    // The last coordinate is a file.
    for range in region.ranges().iter().rev().skip(1).rev() {
        level *= u64::from(range.end - range.start);
        folders += level.min(most);
    }
    folders
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::LocalSource;
    use crate::zarr::key::ChunkKeyEncoding;
    use crate::zarr::metadata::ArrayLayout;

    fn array(grid: &[u64]) -> ArraySpec {
        let encoding = ChunkKeyEncoding::parse("default", "/").unwrap();
        ArraySpec {
            path: "/air".to_owned(),
            source_path: "air".to_owned(),
            document: Vec::new(),
            layout: ArrayLayout::new(grid.to_vec(), vec![1; grid.len()], encoding).unwrap(),
            copied: false,
        }
    }

    #[test]
    fn a_billion_chunks_are_estimated_at_once() {
        let source = Source::Local(LocalSource::new("/nowhere").unwrap());
        let array = array(&[1_000, 1_000, 1_000]);
        let whole = ChunkBox::whole(&array.layout);
        let dense = estimate(&source, &array, &whole, &[1, 250, 1_000], None).unwrap();
        assert_eq!((dense.chunks_in_region, dense.chunks_expected), (1_000_000_000, 1_000_000_000));
        assert_eq!((dense.manifests, dense.refs_per_manifest), (4_000, 250_000));
        assert_eq!((dense.ranges, dense.exact, dense.sampled), (1, true, false));
        assert_eq!(dense.list_requests, 1 + 1 + 1_000 + 1_000_000);
        let few = Density { chunks_expected: 1_500, exact: false, list_requests: 24 };
        let sparse = estimate(&source, &array, &whole, &[166, 1_000, 1_000], Some(&few)).unwrap();
        assert_eq!((sparse.chunks_in_region, sparse.chunks_expected), (1_000_000_000, 1_500));
        assert_eq!((sparse.manifests, sparse.sampled), (7, true));
        assert_eq!(sparse.list_requests, 1 + 1 + 1_000 + 1_500);
    }

    #[test]
    fn a_share_is_rounded_up_and_does_not_overflow() {
        assert_eq!((share(1_001, 500, 1_000), share(7, 0, 0), share(7, 9, 9)), (501, 0, 7));
        assert_eq!(share(u64::MAX, u64::MAX, u64::MAX), u64::MAX);
    }
}
