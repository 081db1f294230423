//! The parts of an ingest that are computed once a chunk or once a page, each on its own.
//!
//! `cargo bench --bench core [-- PART]`: `rank`, `page`, `batch`, `manifest` or `plan`. Throughput
//! is in chunks. The plan of a billion chunks must take less than a second and 50 MB, or the
//! benchmark fails. What whole commits cost is in `manifest.rs`.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "what fails here is a failed measurement"
)]

mod synthetic;

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use refreeze::batch::ChunkRules;
use refreeze::grid::piece::{Piece, Shift};
use refreeze::key_order::rank_region::RankRegion;
use refreeze::manifest::{ArrayReferences, ManifestWriter};
use refreeze::plan::{
    Batches, Determinants, ExpectedArray, Fingerprint, LimitOptions, PlanLimits, manifest_split,
};
use refreeze::source::xml::document::scan;
use refreeze::target::locations::Locations;

use synthetic::phase::{memory, reset_peak};
use synthetic::{PAGE, array, array_of, batch_of, document, empty_batch, order, page, repository};

/// References of the manifests that are made: one of the default size.
const MANIFEST: u32 = 250_000;

fn rank(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("rank");
    let ranks = order(&array(vec![1_000_000, 10, 100]));
    // Steps that share no factor with the grid, so that every length of key comes up.
    let places: Vec<u64> = (0..PAGE).map(|n| n * 999_983).collect();
    let chunks: Vec<_> = places.iter().map(|place| ranks.select(*place).unwrap()).collect();
    let keys: Vec<_> = places.iter().map(|place| ranks.key(*place).unwrap()).collect();
    group.throughput(Throughput::Elements(PAGE));
    group.bench_function("select", |bencher| {
        bencher.iter(|| {
            for place in &places {
                black_box(ranks.select(black_box(*place)));
            }
        });
    });
    group.bench_function("rank", |bencher| {
        bencher.iter(|| {
            for chunk in &chunks {
                black_box(ranks.rank(black_box(chunk)));
            }
        });
    });
    group.bench_function("rank after a key", |bencher| {
        bencher.iter(|| {
            for key in &keys {
                black_box(ranks.rank_after(black_box(key.as_bytes())));
            }
        });
    });
    group.finish();
}

fn page_scan(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("page");
    let body = document(&order(&array(vec![1_000, 10, 100])), 0, PAGE);
    group.throughput(Throughput::Elements(PAGE));
    group.bench_function("scan", |bencher| {
        bencher.iter_batched(|| body.clone(), |body| scan(body).unwrap(), BatchSize::SmallInput);
    });
    group.finish();
}

fn batch(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("batch");
    let array = array_of(u64::from(MANIFEST));
    let ranks = order(&array);
    let starts = (0..u64::from(MANIFEST)).step_by(usize::try_from(PAGE).unwrap());
    let pages: Vec<_> = starts.map(|first| page(&ranks, first, first + PAGE)).collect();
    group.throughput(Throughput::Elements(u64::from(MANIFEST)));
    group.sample_size(20);
    group.bench_function("extend", |bencher| {
        bencher.iter_batched(
            || empty_batch(&array, MANIFEST),
            |mut batch| {
                for page in &pages {
                    batch.extend(page, &array, &Shift::default(), ChunkRules::default()).unwrap();
                }
                batch
            },
            BatchSize::LargeInput,
        );
    });
    group.finish();
}

/// Sorting, locations, compression and the file: all that one manifest takes.
fn manifest(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("manifest");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let array = array_of(u64::from(MANIFEST));
    let (repository, parent, container) = runtime.block_on(repository(folder.path(), &array));
    let writer = ManifestWriter::new(&repository, &parent, MANIFEST);
    let batch = batch_of(&array, MANIFEST);
    group.throughput(Throughput::Elements(u64::from(MANIFEST)));
    group.sample_size(10);
    for (name, form) in [("relative", Locations::Relative), ("absolute", Locations::Absolute)] {
        let locations = container.locations(&array, form).unwrap();
        group.bench_function(format!("{name} locations"), |bencher| {
            bencher.iter_batched(
                || ArrayReferences {
                    path: array.path.clone(),
                    locations: locations.clone(),
                    batch: batch.clone(),
                },
                |references| runtime.block_on(writer.write(&parent, vec![references])).unwrap(),
                BatchSize::LargeInput,
            );
        });
    }
    group.finish();
}

/// A billion chunks, from their grid to every batch: what happens before anything is listed.
fn plan(criterion: &mut Criterion) {
    let array = array(vec![1_000_000, 10, 100]);
    let whole = || {
        let limits = PlanLimits::from(LimitOptions::default());
        let grid = array.layout.grid_shape();
        let expected = array.layout.chunks();
        let split = manifest_split(grid, u64::from(limits.references_per_manifest));
        let layout = &array.layout;
        let known = ExpectedArray { array: 0, layout, leading: Some("time"), split, expected };
        let batches = Batches::new(&[known], limits.references_per_commit);
        let layouts = [array.layout.clone()];
        let order = Arc::new(order(&array));
        let mut chunks = 0;
        for number in 0..batches.count(&layouts) {
            for part in batches.parts(number, &layouts) {
                let region =
                    RankRegion::new(Arc::clone(&order), &part.region.wide_ranges()).unwrap();
                chunks += region.ranges().map(|range| range.end - range.start).sum::<u64>();
            }
        }
        assert_eq!(chunks, expected);
        Fingerprint::of(&Determinants {
            sources: "s3://bucket/store.zarr",
            mode: "create",
            empty_chunks: "error",
            locations: "relative",
            replaced: &[],
            request: "{}",
            groups: &[],
            arrays: &[(&array, &[Piece::whole(0, &array)])],
        })
    };
    reset_peak();
    let (held, started) = (memory("VmRSS"), Instant::now());
    black_box(whole());
    let (took, peak) = (started.elapsed(), memory("VmHWM"));
    println!(
        "plan of a billion chunks: {took:?}, {} KB more than before, {} MB the whole process",
        (peak - held.min(peak)) / 1_000,
        peak / 1_000_000
    );
    assert!(took < Duration::from_secs(1) && peak - held.min(peak) < 50_000_000);
    criterion.bench_function("plan of a billion chunks", |bencher| bencher.iter(whole));
}

// The plan first: memory that others have freed would hide what it needs.
criterion_group!(parts, plan, rank, page_scan, batch, manifest);
criterion_main!(parts);
