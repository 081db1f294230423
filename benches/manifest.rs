//! What a commit of references costs: CPU time, peak memory, bytes on disk.
//!
//! `cargo bench --bench manifest [-- REFERENCES [REFERENCES_PER_MANIFEST [REFERENCES_AT_ONCE]]]`
//!
//! The chunks of a three-dimensional array arrive in record batches of a page each, in the order
//! in which an object store lists them, and are committed to a repository on local disk. The
//! batches are made beforehand, page by page, and are not part of the figures.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "what fails here is a failed measurement"
)]

mod synthetic;

use icechunk::format::snapshot::SnapshotProperties;
use refreeze::batch::ChunkRules;
use refreeze::commit::commit_manifests;
use refreeze::grid::piece::Shift;
use refreeze::manifest::{ArrayReferences, ManifestWriter};
use refreeze::target::locations::Locations;

use synthetic::phase::Phase;
use synthetic::{PAGE, array_of, empty_batch, order, page, repository};

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
    let array = array_of(references);
    let (repository, parent, container) = repository(folder.path(), &array).await;

    println!("{references} references, {per_manifest} a manifest, {at_once} at once");
    let ranks = order(&array);
    let mut batch = empty_batch(&array, per_manifest);
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
    let writer = ManifestWriter::new(&repository, &parent, at_once);
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
