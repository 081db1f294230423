//! What a commit of references costs: CPU time, peak memory, bytes on disk.
//!
//! `cargo bench --bench manifest [-- REFERENCES [REFERENCES_PER_MANIFEST [REFERENCES_AT_ONCE]]]`
//!
//! The chunks of a three-dimensional array arrive in record batches of a page each, in the order
//! in which an object store lists them, and are committed to a repository on local disk. The
//! batches are made beforehand, page by page, and are not part of the figures. Memory is the
//! process's high-water mark above what it held when the phase began, which Linux tells.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "what fails here is a failed measurement"
)]

use std::sync::Arc;
use std::time::Instant;

use arrow_array::{
    ArrayRef, FixedSizeListArray, RecordBatch, StringArray, TimestampMicrosecondArray, UInt32Array,
    UInt64Array,
};
use arrow_schema::{DataType, Field};
use bytes::Bytes;
use icechunk::Repository;
use icechunk::format::snapshot::SnapshotProperties;
use icechunk::storage::new_local_filesystem_storage;
use icechunk::store::Store;
use refreeze::batch::{ChunkRules, ReferenceBatch};
use refreeze::commit::commit_manifests;
use refreeze::container::{Locations, SourceContainer};
use refreeze::key::ChunkKeyEncoding;
use refreeze::list::chunk_schema;
use refreeze::manifest::{ArrayReferences, ManifestWriter};
use refreeze::metadata::{ArrayLayout, ArrayNode};
use refreeze::piece::Shift;
use refreeze::plan::manifest_split;
use refreeze::rank::KeyOrder;
use refreeze::region::ChunkBox;
use refreeze::source::{LocalSource, Source};
use refreeze::target::Additions;
use tokio::sync::RwLock;

const PAGE: u64 = 1_000;

fn main() {
    let numbers: Vec<u64> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    let number = |at: usize, default| numbers.get(at).copied().unwrap_or(default);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(measure(
        number(0, 1_000_000),
        u32::try_from(number(1, 250_000)).unwrap(),
        u32::try_from(number(2, 500_000)).unwrap(),
    ));
}

async fn measure(references: u64, per_manifest: u32, at_once: u32) {
    let folder = tempfile::tempdir().unwrap();
    let storage = new_local_filesystem_storage(folder.path()).await.unwrap();
    let repository = Repository::create(Arc::clone(&storage)).execute().await.unwrap();
    let source = Source::Local(LocalSource::new("/data/store.zarr").unwrap());
    let container = SourceContainer::new(None, &source).unwrap();
    let additions = Additions { containers: vec![container.container().clone()], splits: vec![] };
    additions.save(&repository, "benchmark").await.unwrap();
    let repository = Repository::open(storage).execute().await.unwrap();

    let array = array(vec![references.div_ceil(100), 10, 10]);
    let session = repository.writable_session("main").await.unwrap();
    let store = Store::from_session(Arc::new(RwLock::new(session))).await;
    let group = br#"{"zarr_format":3,"node_type":"group","attributes":{}}"#;
    store.set("zarr.json", Bytes::from_static(group)).await.unwrap();
    store.set("temperature/zarr.json", array.document.clone().into()).await.unwrap();
    let parent = store.session().write().await.commit("metadata").execute().await.unwrap();

    println!("{references} references, {per_manifest} a manifest, {at_once} at once");
    let ranks = KeyOrder::new(array.layout.encoding(), array.layout.grid_shape()).unwrap();
    let split = manifest_split(array.layout.grid_shape(), u64::from(per_manifest));
    let part = ChunkBox::whole(&array.layout);
    let mut batch = ReferenceBatch::new(&array.layout, part, &split);
    let total = array.layout.chunks();
    let mut phase = Phase::begin("batch");
    for first in (0..total).step_by(usize::try_from(PAGE).unwrap()) {
        let records = phase.aside(|| page(&ranks, first, (first + PAGE).min(total)));
        batch.extend(&records, &array, &Shift::default(), ChunkRules::default()).unwrap();
    }
    phase.end(total);
    println!("  batch holds {:.1} B a reference", batch.held_bytes() as f64 / total as f64);

    let locations = container.locations(&array, Locations::Relative).unwrap();
    let phase = Phase::begin("write");
    let writer = ManifestWriter::new(&repository, &parent, at_once).await.unwrap();
    let references = ArrayReferences { path: array.path.clone(), locations, batch };
    let written = writer.write(&parent, vec![references]).await.unwrap();
    phase.end(total);
    let manifests = || written.iter().flat_map(|array| &array.written);
    let bytes: u64 = manifests().map(|manifest| manifest.file.size_bytes).sum();
    println!(
        "  {} manifests, {:.2} B a reference",
        manifests().count(),
        bytes as f64 / total as f64
    );

    let phase = Phase::begin("commit");
    let properties = SnapshotProperties::new();
    commit_manifests(&repository, "main", &parent, "all", properties, written).await.unwrap();
    phase.end(total);
    let logs = std::fs::read_dir(folder.path().join("transactions")).unwrap();
    let bytes: u64 = logs.map(|log| log.unwrap().metadata().unwrap().len()).sum();
    println!("  log: {:.2} B a reference", bytes as f64 / total as f64);
}

fn array(grid: Vec<u64>) -> ArrayNode {
    let ones = vec![1; grid.len()];
    let document = serde_json::json!({
        "zarr_format": 3, "node_type": "array", "shape": grid, "data_type": "uint8",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": ones}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0, "codecs": [{"name": "bytes"}], "attributes": {},
    });
    let encoding = ChunkKeyEncoding::parse("default", "/").unwrap();
    ArrayNode {
        path: "/temperature".to_owned(),
        source_path: "temperature".to_owned(),
        document: document.to_string().into_bytes(),
        layout: ArrayLayout::new(grid, ones, encoding).unwrap(),
        loaded: false,
    }
}

/// A page of a listing: sizes and times of compressed chunks that were written one after another.
fn page(ranks: &KeyOrder, first: u64, end: u64) -> RecordBatch {
    let (mut coords, mut sizes, mut times) = (Vec::new(), Vec::new(), Vec::new());
    for rank in first..end {
        let chunk = ranks.select(rank).unwrap();
        let place = chunk.iter().fold(0, |place, coord| place * 10 + u64::from(*coord));
        coords.extend(chunk);
        let noise = place.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
        sizes.push(2_000_000 + noise % 200_000);
        times.push(i64::try_from(1_700_000_000 + place / 50).unwrap() * 1_000_000);
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

/// A part of the work whose cost is measured.
struct Phase {
    name: &'static str,
    wall: Instant,
    cpu: f64,
    held: u64,
}

impl Phase {
    fn begin(name: &'static str) -> Self {
        // Resets the high-water mark.
        let _ = std::fs::write("/proc/self/clear_refs", "5");
        Self { name, wall: Instant::now(), cpu: cpu_seconds(), held: memory("VmRSS") }
    }

    /// Leaves the CPU time of `work` out, which this thread does alone.
    fn aside<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let before = thread_seconds();
        let result = work();
        self.cpu += thread_seconds() - before;
        result
    }

    fn end(self, references: u64) {
        let references = references as f64;
        let cpu = (cpu_seconds() - self.cpu) * 1e6 / references;
        let (peak, held) = (memory("VmHWM"), memory("VmRSS"));
        println!(
            "{:>7}: {cpu:.3} µs CPU a reference, {:.2} s wall, peak {:.0} MB ({:+.1} B a reference above the {:.0} MB at the beginning), held after {:.0} MB",
            self.name,
            self.wall.elapsed().as_secs_f64(),
            peak as f64 / 1e6,
            (peak as f64 - self.held as f64) / references,
            self.held as f64 / 1e6,
            held as f64 / 1e6,
        );
    }
}

/// CPU time of all threads of this process so far, those that have ended included.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let ticks =
        fields.split_whitespace().skip(11).take(2).map(|field| field.parse::<f64>().unwrap());
    ticks.sum::<f64>() / 100.0
}

/// CPU time of this thread so far.
fn thread_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split_whitespace().next().unwrap().parse::<f64>().unwrap() / 1e9
}

/// A figure of the process's memory, in bytes.
fn memory(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}
