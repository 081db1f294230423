//! Any changes of a file of a repository: runs are shown and an ingest is resumed, without a panic. The first byte chooses
//! the file; the rest is the whole file, or, three bytes each, where its content, decompressed, gets which byte: identifiers
//! are other ones in each process, so that a seed cannot hold what it changes.

#![no_main]
#![allow(dead_code, unused_imports)] // scenarios of other tests

use std::future::pending;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use refreeze::jobs::ingest::{Finish, ingest};
use refreeze::jobs::status;

#[path = "../../tests/rust/store.rs"]
mod store;

/// Bytes of a file of Icechunk before its content: the last of them says how that is compressed.
const HEADER: usize = 39;

struct World {
    scenario: store::Scenario,
    /// The repository as it was, file by file.
    files: Vec<(PathBuf, Vec<u8>)>,
    runtime: tokio::runtime::Runtime,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let scenario = store::Scenario::new();
    let staged = refreeze::jobs::ingest::IngestJob {
        finish: Finish { publish: false, ..Finish::default() },
        ..scenario.job()
    };
    runtime.block_on(ingest(staged, Box::new(|_| {}), pending())).unwrap();
    let mut files = Vec::new();
    gather(&scenario.target(), &mut files);
    files.sort();
    World { scenario, files, runtime }
});

fn gather(folder: &Path, files: &mut Vec<(PathBuf, Vec<u8>)>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            gather(&path, files);
        } else {
            let bytes = std::fs::read(&path).unwrap();
            files.push((path, bytes));
        }
    }
}

/// A file with some bytes of its content changed, written without compression.
fn patched(before: &[u8], changes: &[u8]) -> Vec<u8> {
    let (header, content) = before.split_at(HEADER.min(before.len()));
    let Ok(mut content) = zstd::decode_all(content) else { return before.to_vec() };
    for change in changes.chunks_exact(3) {
        let at = usize::from(u16::from_be_bytes([change[0], change[1]])) % content.len().max(1);
        if let Some(byte) = content.get_mut(at) {
            *byte = change[2];
        }
    }
    let mut file = header.to_vec();
    if let Some(compression) = file.last_mut() {
        *compression = 0;
    }
    file.extend_from_slice(&content);
    file
}

fuzz_target!(|bytes: &[u8]| {
    let world = &*WORLD;
    let Some((choice, content)) = bytes.split_first() else { return };
    let target = world.scenario.target();
    std::fs::remove_dir_all(&target).unwrap();
    for (path, bytes) in &world.files {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    let (path, before) = &world.files[usize::from(choice & 127) % world.files.len()];
    let changed = if choice & 128 == 0 { patched(before, content) } else { content.to_vec() };
    std::fs::write(path, changed).unwrap();
    let job = world.scenario.job();
    world.runtime.block_on(async {
        let _ = status(&job.target).await;
        let _ = ingest(job, Box::new(|_| {}), pending()).await;
    });
});
