//! The same references written in every way there is, from the same batch: by Icechunk's session, by
//! Icechunk's manifests with and without a dictionary of locations, and by refreeze.
//!
//! `cargo bench --bench paths [-- REFERENCES]`. Each way writes into a repository of its own, up to
//! the manifests; the session also commits, as it cannot do otherwise. CPU time, peak memory above
//! what was held at the beginning (the batch: 16 bytes a reference), bytes on disk.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "what fails here is a failed measurement"
)]

#[path = "../tests/rust/session_path.rs"]
mod session_path;
mod synthetic;

use std::path::Path;
use std::sync::Arc;

use icechunk::asset_manager::AssetManager;
use icechunk::config::ManifestVirtualChunkLocationCompressionConfig;
use icechunk::format::manifest::{
    Checksum, ChunkInfo, ChunkPayload, LocationCompressionConfig, Manifest, SecondsSinceEpoch,
    VirtualChunkLocation, VirtualChunkRef,
};
use icechunk::format::{ChunkIndices, ManifestId, NodeId};
use refreeze::manifest::{ArrayReferences, ManifestWriter};
use refreeze::target::locations::{ArrayLocations, Locations};
use refreeze::zarr::metadata::ArraySpec;

use session_path::set_references;
use synthetic::phase::Phase;
use synthetic::{array_of, batch_of, repository, store};

/// References of a manifest where that can be chosen.
const MANIFEST: u32 = 250_000;

#[derive(Debug, Clone, Copy)]
enum Way {
    /// `set_virtual_refs` and a commit, as `VirtualiZarr` does.
    Session,
    /// Icechunk's `Manifest`, without a session.
    Builder { dictionary: bool },
    /// `ManifestWriter`.
    Refreeze,
}

fn main() {
    let number = std::env::args().find_map(|argument| argument.parse().ok());
    let array = array_of(number.unwrap_or(1_000_000));
    println!("{} references, {MANIFEST} a manifest but for the session", array.layout.chunks());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for (name, way, form) in [
        ("session, absolute", Way::Session, Locations::Absolute),
        ("session, relative", Way::Session, Locations::Relative),
        ("dictionary, absolute", Way::Builder { dictionary: true }, Locations::Absolute),
        ("no dictionary, absolute", Way::Builder { dictionary: false }, Locations::Absolute),
        ("no dictionary, relative", Way::Builder { dictionary: false }, Locations::Relative),
        ("refreeze, absolute", Way::Refreeze, Locations::Absolute),
        ("refreeze, relative", Way::Refreeze, Locations::Relative),
    ] {
        runtime.block_on(measure(name, way, form, &array));
    }
}

async fn measure(name: &'static str, way: Way, form: Locations, array: &ArraySpec) {
    let folder = tempfile::tempdir().unwrap();
    let (repository, parent, container) = repository(folder.path(), array).await;
    let locations = container.locations(array, form).unwrap();
    let batch = batch_of(array, MANIFEST);
    let total = array.layout.chunks();
    let phase = Phase::begin(name);
    match way {
        Way::Session => {
            let store = store(&repository).await;
            let checksum = |chunk: &refreeze::batch::ChunkReference, _: &[u32]| {
                Checksum::LastModified(SecondsSinceEpoch(chunk.last_modified))
            };
            set_references(&store, &locations, array, batch, checksum).await;
            store.session().write().await.commit("all").execute().await.unwrap();
        }
        Way::Builder { dictionary } => {
            let settings = ManifestVirtualChunkLocationCompressionConfig::default();
            let settings = dictionary.then(|| LocationCompressionConfig::from(&settings));
            // Without a cache, which would keep every manifest.
            let assets = AssetManager::new_no_cache(
                Arc::clone(repository.storage()),
                repository.storage_settings().clone(),
                repository.spec_version(),
                3,
                16,
            );
            let node = NodeId::random();
            for references in batch.into_sorted().chunks(MANIFEST as usize) {
                let chunk = |chunk| info(&node, chunk, array, &locations);
                let chunks = references.iter().map(chunk).collect();
                let id = ManifestId::random();
                let manifest = Manifest::from_sorted_vec(&id, chunks, settings.as_ref()).unwrap();
                let manifest = Arc::new(manifest.unwrap());
                assets.write_manifest("temperature", manifest).await.unwrap();
            }
        }
        Way::Refreeze => {
            let writer = ManifestWriter::new(&repository, &parent, 2 * MANIFEST);
            let references = ArrayReferences { path: array.path.clone(), locations, batch };
            writer.write(&parent, vec![references]).await.unwrap();
        }
    }
    phase.end(total);
    let bytes = bytes_in(&folder.path().join("manifests"));
    println!("{:>25} {:.2} B a reference on disk", "", bytes as f64 / total as f64);
}

fn info(
    node: &NodeId,
    chunk: &refreeze::batch::ChunkReference,
    array: &ArraySpec,
    locations: &ArrayLocations,
) -> ChunkInfo {
    let coords = array.layout.coords(chunk.index);
    let reference = VirtualChunkRef {
        location: VirtualChunkLocation::from_url(&locations.url(&coords)).unwrap(),
        offset: 0,
        length: chunk.size,
        checksum: Some(Checksum::LastModified(SecondsSinceEpoch(chunk.last_modified))),
    };
    ChunkInfo {
        node: node.clone(),
        coord: ChunkIndices(coords),
        payload: ChunkPayload::Virtual(reference),
    }
}

fn bytes_in(folder: &Path) -> u64 {
    let files = std::fs::read_dir(folder).unwrap();
    files.map(|file| file.unwrap().metadata().unwrap().len()).sum()
}
