//! A commit that is listed and written in several steps, the next of which is begun ahead: the same
//! references as in one, each listed once, and no request that is not counted.

use std::collections::HashSet;
use std::future::pending;

use refreeze::jobs::ingest::{JobSource, ingest};
use refreeze::list::limit::Concurrency;
use refreeze::plan::LimitOptions;
use refreeze::source::{BucketSource, Source};
use refreeze::target::{Target, TargetLocation};
use refreeze_endpoint::{ArrayConfig, Config, Endpoint, Pattern};

use crate::faults::builder;
use crate::store::{array, job_of, payload, session};

const CHUNKS: u32 = 12_000;

/// References of a manifest, of a step and of a commit.
#[derive(Debug, Clone, Copy)]
struct Sizes(u32, u64, u64);

/// Chunks that are there.
fn existing(pattern: &Pattern) -> HashSet<u32> {
    let exists = |chunk: &u32| match pattern {
        Pattern::Dense => true,
        Pattern::FirstHalf => *chunk < CHUNKS / 2,
        Pattern::Block { from, to } => (from[0]..to[0]).contains(&u64::from(*chunk)),
        _ => false,
    };
    (0..CHUNKS).filter(exists).collect()
}

async fn check(pattern: Pattern, sizes: Sizes) {
    let there = existing(&pattern);
    let known = ArrayConfig {
        prefix: "store/air".into(),
        grid: vec![u64::from(CHUNKS)],
        chunk_size: 1,
        pattern,
        ..ArrayConfig::default()
    };
    let endpoint =
        Endpoint::start(Config { arrays: vec![known], ..Config::default() }, 0, 2).unwrap();
    let source = BucketSource::new(builder(&endpoint.url()), "store").unwrap();
    let source = JobSource { source: Source::Bucket(source), url: "s3://bucket/store".to_owned() };
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("repo");
    let Sizes(manifest, step, commit) = sizes;
    let limits = LimitOptions {
        references_per_manifest: Some(manifest),
        references_at_once: Some(step),
        references_per_commit: Some(commit),
        concurrency: Concurrency::Fixed(3),
        ..LimitOptions::default()
    };
    let arrays = vec![array("air", u64::from(CHUNKS), 1, false)];
    let job = job_of(source, TargetLocation::Local(target.clone()), arrays, limits);
    let report = ingest(job, Box::new(|_| {}), pending()).await.unwrap();
    assert_eq!(report.references_written, there.len() as u64, "{sizes:?}");
    assert_eq!(report.list_requests, endpoint.stats().list, "{sizes:?}");
    let least = (there.len() as u64).div_ceil(commit);
    assert!(report.commits >= least && report.commits <= 2 * least + 3, "{sizes:?}: {report:?}");
    let (opened, _) = Target::open_to_read(&TargetLocation::Local(target)).await.unwrap();
    let repository = opened.repository();
    let session = session(repository, "main").await;
    for chunk in 0..CHUNKS {
        let found = payload(&session, "/air", chunk).await.is_some();
        assert_eq!(found, there.contains(&chunk), "{chunk} of {sizes:?}");
    }
    // Every commit's manifests are as large as they may be, whatever the steps.
    let tip = repository.lookup_branch("main").await.unwrap();
    let manifests = repository.lookup_manifest_files(&tip).await.unwrap().count() as u64;
    let filled: std::collections::BTreeSet<_> =
        there.iter().map(|chunk| chunk / manifest).collect();
    assert_eq!(manifests, filled.len() as u64, "{sizes:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn steps_of_a_commit_are_what_the_commit_would_be() {
    for sizes in [
        Sizes(500, 500, 1_500),
        Sizes(500, 3_000, 6_000),
        Sizes(750, 2_250, 9_000),
        Sizes(1_000, 4_000, 4_000),
    ] {
        check(Pattern::Dense, sizes).await;
        check(Pattern::FirstHalf, sizes).await;
    }
    // Holes where the next step is known already.
    let sizes = Sizes(500, 3_000, 6_000);
    check(Pattern::Block { from: vec![0], to: vec![8_500] }, sizes).await;
    check(Pattern::Block { from: vec![3_500], to: vec![12_000] }, sizes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_fit_the_commit_that_has_begun_is_listed_for_the_next() {
    const MANY: u64 = 200_000;
    // Few chunks first, in an array that was looked at: what follows is expected to be as sparse.
    for from in (1_900..80_000).step_by(3_700) {
        let known = ArrayConfig {
            prefix: "store/air".into(),
            grid: vec![MANY],
            pattern: Pattern::Block { from: vec![from], to: vec![90_000] },
            ..ArrayConfig::default()
        };
        let endpoint =
            Endpoint::start(Config { arrays: vec![known], ..Config::default() }, 0, 2).unwrap();
        let source = BucketSource::new(builder(&endpoint.url()), "store").unwrap();
        let source =
            JobSource { source: Source::Bucket(source), url: "s3://bucket/store".to_owned() };
        let folder = tempfile::tempdir().unwrap();
        let limits = LimitOptions {
            references_per_manifest: Some(5_000),
            references_at_once: Some(5_000),
            references_per_commit: Some(20_000),
            concurrency: Concurrency::Fixed(3),
            ..LimitOptions::default()
        };
        let target = TargetLocation::Local(folder.path().join("repo"));
        let job = job_of(source, target, vec![array("air", MANY, 1, false)], limits);
        let report = ingest(job, Box::new(|_| {}), pending()).await.unwrap();
        assert_eq!(report.references_written, 90_000 - from, "{from}: {report:?}");
    }
}
