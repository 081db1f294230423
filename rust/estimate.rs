//! What listing and referencing an array takes when every chunk of the region exists.
//!
//! Arithmetic only: nothing is asked of a store, and a grid of a billion chunks costs no more than
//! a small one. A sparse array takes less.

use serde::Serialize;

use crate::Result;
use crate::list::array_keys::ArrayKeys;
use crate::list::pages::summary;
use crate::list::{PAGE_SIZE, ranked_region};
use crate::metadata::ArrayNode;
use crate::plan::manifest_split;
use crate::region::ChunkBox;
use crate::source::Source;

/// How an array's chunks will be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// The one key of a scalar is asked for.
    Head,
    /// Independent pages, each starting after a computed key; sparse parts are scanned in segments.
    RankedPages,
    /// The folders of the region are read.
    FolderWalk,
    /// Another library has listed the store.
    GivenList,
}

/// The expected cost of one array.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ArrayEstimate {
    /// Chunks that the region has room for.
    pub chunks_in_region: u64,
    /// How they will be found.
    pub strategy: Strategy,
    /// LIST requests (local: folders read) when every chunk exists.
    pub list_requests: u64,
    /// Contiguous runs of keys in byte order.
    pub runs: u64,
    /// Whether requests and runs are counted rather than extrapolated.
    pub exact: bool,
    /// Most references in one manifest.
    pub refs_per_manifest: u64,
    /// Manifests of the region.
    pub manifests: u64,
}

/// Estimates the listing and the manifests of `region` of `array`.
///
/// # Errors
///
/// [`ErrorKind::UnsupportedArray`](crate::ErrorKind::UnsupportedArray) for a grid that cannot be ranked.
pub fn estimate(
    source: &Source,
    array: &ArrayNode,
    region: &ChunkBox,
    references_per_manifest: u32,
) -> Result<ArrayEstimate> {
    let layout = &array.layout;
    let (order, ranks) = ranked_region(array, region)?;
    let keys = ArrayKeys::new(&array.source_path, order);
    let pages = summary(&keys, &ranks, PAGE_SIZE);
    let (strategy, list_requests) = match source {
        _ if layout.ndim() == 0 => (Strategy::Head, 0),
        Source::S3(_) => (Strategy::RankedPages, pages.pages.max(1)),
        Source::Local(_) => (Strategy::FolderWalk, folders(array, region)),
        Source::Memory(_) => (Strategy::GivenList, 0),
    };
    let split = manifest_split(layout.grid_shape(), references_per_manifest);
    let manifests = split
        .iter()
        .zip(region.ranges())
        .map(|(length, range)| {
            let last = range.end.saturating_sub(1).max(range.start);
            u64::from(last / length - range.start / length) + 1
        })
        .product();
    let whole = split.iter().zip(layout.grid_shape());
    Ok(ArrayEstimate {
        chunks_in_region: region.chunks(),
        strategy,
        list_requests,
        runs: pages.runs,
        exact: pages.exact,
        refs_per_manifest: whole.map(|(length, extent)| u64::from(*length).min(*extent)).product(),
        manifests,
    })
}

/// Folders that a walk of the region reads.
fn folders(array: &ArrayNode, region: &ChunkBox) -> u64 {
    use crate::key::{ChunkKeyForm, ChunkKeySeparator};
    let encoding = array.layout.encoding();
    if encoding.separator == ChunkKeySeparator::Dot {
        return 1;
    }
    let mut level = 1;
    let mut folders = 1 + u64::from(encoding.form == ChunkKeyForm::Default);
    // The last coordinate is a file.
    for range in region.ranges().iter().rev().skip(1).rev() {
        level *= u64::from(range.end - range.start);
        folders += level;
    }
    folders
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::ChunkKeyEncoding;
    use crate::metadata::ArrayLayout;
    use crate::source::LocalSource;

    fn array(grid: &[u64]) -> ArrayNode {
        let encoding = ChunkKeyEncoding::parse("default", "/").unwrap();
        ArrayNode {
            path: "/air".to_owned(),
            source_path: "air".to_owned(),
            document: Vec::new(),
            layout: ArrayLayout::new(grid.to_vec(), vec![1; grid.len()], encoding).unwrap(),
            loaded: false,
        }
    }

    #[test]
    fn a_billion_chunks_are_estimated_at_once() {
        let source = Source::Local(LocalSource::new("/nowhere").unwrap());
        let array = array(&[1_000, 1_000, 1_000]);
        let estimate = estimate(&source, &array, &ChunkBox::whole(&array.layout), 250_000).unwrap();
        assert_eq!(estimate.chunks_in_region, 1_000_000_000);
        assert_eq!((estimate.manifests, estimate.refs_per_manifest), (4_000, 250_000));
        assert_eq!((estimate.runs, estimate.exact), (1, true));
        assert_eq!(estimate.list_requests, 1 + 1 + 1_000 + 1_000_000);
    }
}
