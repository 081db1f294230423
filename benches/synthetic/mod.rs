//! What the benchmarks of the core work on: an array, pages of its listing, and a repository to
//! write to. The chunks arrive as an object store lists them, with sizes and times of compressed
//! chunks that were written one after another.

#![allow(dead_code, reason = "each benchmark uses its part")]
#![allow(clippy::unwrap_used, reason = "what fails here is a failed measurement")]

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use arrow_array::{
    ArrayRef, FixedSizeListArray, RecordBatch, StringArray, TimestampMicrosecondArray, UInt32Array,
    UInt64Array,
};
use arrow_schema::{DataType, Field};
use bytes::Bytes;
use icechunk::Repository;
use icechunk::format::SnapshotId;
use icechunk::storage::new_local_filesystem_storage;
use icechunk::store::Store;
use refreeze::batch::{ChunkRules, ReferenceBatch};
use refreeze::grid::chunk_box::ChunkBox;
use refreeze::grid::piece::Shift;
use refreeze::key_order::rank::KeyOrder;
use refreeze::list::chunk_schema;
use refreeze::plan::manifest_split;
use refreeze::source::{LocalSource, Source};
use refreeze::target::Additions;
use refreeze::target::container::SourceContainer;
use refreeze::zarr::key::ChunkKeyEncoding;
use refreeze::zarr::metadata::{ArrayLayout, ArraySpec};
use tokio::sync::RwLock;

pub(crate) mod phase;

/// Keys of a page.
pub(crate) const PAGE: u64 = 1_000;

/// A three-dimensional array of at least so many chunks.
pub(crate) fn array_of(references: u64) -> ArraySpec {
    array(vec![references.div_ceil(100), 10, 10])
}

/// An array with the grid `grid`.
pub(crate) fn array(grid: Vec<u64>) -> ArraySpec {
    let ones = vec![1; grid.len()];
    let document = serde_json::json!({
        "zarr_format": 3, "node_type": "array", "shape": grid, "data_type": "uint8",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": ones}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0, "codecs": [{"name": "bytes"}], "attributes": {},
    });
    let encoding = ChunkKeyEncoding::parse("default", "/").unwrap();
    ArraySpec {
        path: "/temperature".to_owned(),
        source_path: "temperature".to_owned(),
        document: document.to_string().into_bytes(),
        layout: ArrayLayout::new(grid, ones, encoding).unwrap(),
        copied: false,
    }
}

/// The order of its keys.
pub(crate) fn order(array: &ArraySpec) -> KeyOrder {
    KeyOrder::new(array.layout.encoding(), array.layout.grid_shape()).unwrap()
}

/// Size and second of the chunk at these coordinates.
fn object(chunk: &[u32]) -> (u64, i64) {
    let place = chunk.iter().fold(0, |place, coord| place * 10 + u64::from(*coord));
    let noise = place.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
    (2_000_000 + noise % 200_000, i64::try_from(1_700_000_000 + place / 50).unwrap())
}

/// A page of a listing as a record batch.
pub(crate) fn page(ranks: &KeyOrder, first: u64, end: u64) -> RecordBatch {
    let (mut coords, mut sizes, mut times) = (Vec::new(), Vec::new(), Vec::new());
    for rank in first..end {
        let chunk = ranks.select(rank).unwrap();
        let (size, second) = object(&chunk);
        coords.extend(chunk);
        sizes.push(size);
        times.push(second * 1_000_000);
    }
    let item = Arc::new(Field::new("item", DataType::UInt32, false));
    let rows = sizes.len();
    let coords = Arc::new(UInt32Array::from(coords));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(FixedSizeListArray::try_new(item, 3, coords, None).unwrap()),
        Arc::new(UInt64Array::from(sizes)),
        Arc::new(TimestampMicrosecondArray::from(times).with_timezone("UTC")),
        Arc::new(StringArray::new_null(rows)),
    ];
    RecordBatch::try_new(chunk_schema(3).unwrap(), columns).unwrap()
}

/// The same page as S3 sends it.
pub(crate) fn document(ranks: &KeyOrder, first: u64, end: u64) -> Vec<u8> {
    let mut text = String::from(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Name>bucket</Name><Prefix>store.zarr/temperature/</Prefix><MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated>",
    );
    for rank in first..end {
        let (size, second) = object(&ranks.select(rank).unwrap());
        let key = ranks.key(rank).unwrap();
        let time = chrono::DateTime::from_timestamp(second, 0).unwrap();
        let time = time.format("%Y-%m-%dT%H:%M:%S.000Z");
        write!(
            text,
            "<Contents><Key>store.zarr/temperature/{key}</Key><LastModified>{time}</LastModified><ETag>&quot;{rank:032x}&quot;</ETag><Size>{size}</Size><StorageClass>STANDARD</StorageClass></Contents>"
        )
        .unwrap();
    }
    text.push_str("</ListBucketResult>");
    text.into_bytes()
}

/// All chunks of an array, in manifests of so many.
pub(crate) fn batch_of(array: &ArraySpec, per_manifest: u32) -> ReferenceBatch {
    let ranks = order(array);
    let mut batch = empty_batch(array, per_manifest);
    let total = array.layout.chunks();
    for first in (0..total).step_by(usize::try_from(PAGE).unwrap()) {
        let records = page(&ranks, first, (first + PAGE).min(total));
        batch.extend(&records, array, &Shift::default(), ChunkRules::default()).unwrap();
    }
    batch
}

/// No chunk yet.
pub(crate) fn empty_batch(array: &ArraySpec, per_manifest: u32) -> ReferenceBatch {
    let split = manifest_split(array.layout.grid_shape(), u64::from(per_manifest));
    ReferenceBatch::new(&array.layout, ChunkBox::whole(&array.layout), &split)
}

/// A repository in `folder` that holds `array` and no chunk, and its tip.
pub(crate) async fn repository(
    folder: &Path,
    array: &ArraySpec,
) -> (Repository, SnapshotId, SourceContainer) {
    let storage = new_local_filesystem_storage(folder).await.unwrap();
    let repository = Repository::create(Arc::clone(&storage)).execute().await.unwrap();
    let source = Source::Local(LocalSource::new("/data/store.zarr").unwrap());
    let container = SourceContainer::new(None, &source).unwrap();
    let additions = Additions { containers: vec![container.container().clone()], splits: vec![] };
    additions.save(&repository, "benchmark").await.unwrap();
    let repository = Repository::open(storage).execute().await.unwrap();
    let store = store(&repository).await;
    let group = br#"{"zarr_format":3,"node_type":"group","attributes":{}}"#;
    store.set("zarr.json", Bytes::from_static(group)).await.unwrap();
    store.set("temperature/zarr.json", array.document.clone().into()).await.unwrap();
    let parent = store.session().write().await.commit("metadata").execute().await.unwrap();
    (repository, parent, container)
}

/// A session for writing on main, as a store.
pub(crate) async fn store(repository: &Repository) -> Store {
    let session = repository.writable_session("main").await.unwrap();
    Store::from_session(Arc::new(RwLock::new(session))).await
}
