//! How full an array is, asked of an S3 endpoint, of folders, and of another library's list; and the
//! listings of these in the order of their keys.

use std::fs;
use std::sync::Arc;

use futures::StreamExt as _;
use object_store::aws::AmazonS3Builder;
use refreeze::ErrorKind;
use refreeze::density::probe::probe;
use refreeze::density::{DEFAULT_PROBE_REQUESTS, Density, Looks};
use refreeze::grid::chunk_box::ChunkBox;
use refreeze::list::limit::ConcurrencyLimit;
use refreeze::list::{ChunkColumns, ListOptions, list_chunks};
use refreeze::source::retry::RetryPolicy;
use refreeze::source::{BucketBuilder, BucketSource, LocalSource, Source};
use refreeze::zarr::key::ChunkKeyEncoding;
use refreeze::zarr::metadata::{ArrayLayout, ArraySpec};
use refreeze_endpoint::{ArrayConfig, Config, Encoding, Endpoint, Pattern, Separator};

use crate::foreign_store::listed;

fn array(path: &str, name: &str, separator: &str, grid: &[u64]) -> ArraySpec {
    let encoding = ChunkKeyEncoding::parse(name, separator).unwrap();
    ArraySpec {
        path: format!("/{path}"),
        source_path: path.to_owned(),
        document: Vec::new(),
        layout: ArrayLayout::new(grid.to_vec(), vec![1; grid.len()], encoding).unwrap(),
        copied: false,
    }
}

async fn probed(source: &Source, array: &ArraySpec, region: Option<ChunkBox>) -> Density {
    let region = region.unwrap_or_else(|| ChunkBox::whole(&array.layout));
    let limit = ConcurrencyLimit::new(8);
    probe(source, array, &region, Looks::default(), limit).await.unwrap()
}

fn s3(endpoint: &Endpoint) -> Source {
    let builder = AmazonS3Builder::new()
        .with_endpoint(endpoint.url())
        .with_bucket_name("bucket")
        .with_region("us-east-1")
        .with_skip_signature(true)
        .with_allow_http(true);
    let retry = RetryPolicy { attempts: 2, ..RetryPolicy::default() };
    Source::Bucket(
        BucketSource::new(BucketBuilder::S3(Box::new(builder)), "")
            .unwrap()
            .with_list_retries(retry),
    )
}

#[tokio::test]
async fn eight_requests_tell_a_pattern() {
    let grid = [100, 100, 100];
    let half = 500_000;
    for (pattern, least, most, exact) in [
        (Pattern::Dense, 1_000_000, 1_000_000, false),
        (Pattern::Empty, 0, 0, true),
        (Pattern::Random { probability: 0.3, seed: 7 }, 290_000, 330_000, false),
        (Pattern::FirstHalf, half, 2 * half, false),
        (Pattern::Every { step: 10 }, 99_000, 102_000, false),
        (Pattern::Scatter { every: 1000, seed: 3 }, 1_000, 1_000, true),
        (Pattern::Block { from: vec![30, 0, 0], to: vec![70, 100, 100] }, 400_000, 700_000, false),
    ] {
        let endpoint = Endpoint::start(
            Config {
                arrays: vec![ArrayConfig {
                    prefix: "a".into(),
                    grid: grid.to_vec(),
                    encoding: Encoding::V2,
                    separator: Separator::Dot,
                    pattern: pattern.clone(),
                    ..ArrayConfig::default()
                }],
                ..Config::default()
            },
            0,
            1,
        )
        .unwrap();
        let (source, array) = (s3(&endpoint), array("a", "v2", ".", &grid));
        let region = ChunkBox::whole(&array.layout);
        for at_once in [false, true] {
            let (limit, before) = (ConcurrencyLimit::new(8), endpoint.stats().list);
            let looks = Looks { at_once, ..Looks::default() };
            let density = probe(&source, &array, &region, looks, limit).await.unwrap();
            println!("{pattern:?}, {at_once}: {density:?}");
            assert!((least..=most).contains(&density.chunks_expected), "{pattern:?}: {density:?}");
            assert_eq!(density.exact, exact, "{pattern:?}, {at_once}");
            assert_eq!(density.list_requests, endpoint.stats().list - before);
            assert!(density.list_requests <= DEFAULT_PROBE_REQUESTS as u64);
        }
    }
}

#[tokio::test]
async fn a_failing_server_is_an_error_and_an_odd_one_is_not() {
    let config = ArrayConfig { prefix: "a".into(), grid: vec![50, 100], ..ArrayConfig::default() };
    let config = Config { arrays: vec![config], ..Config::default() };
    let endpoint = Endpoint::start(config, 0, 1).unwrap();
    let source = s3(&endpoint);
    let array = array("a", "default", "/", &[50, 100]);
    endpoint.set(|settings| settings.faults.ignore_prefix = true);
    assert_eq!(probed(&source, &array, None).await.chunks_expected, 5000);
    endpoint.set(|settings| settings.faults.internal_error = 1.0);
    let region = ChunkBox::whole(&array.layout);
    let error = probe(&source, &array, &region, Looks::default(), ConcurrencyLimit::new(1))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Listing);
}

fn write(folder: &tempfile::TempDir, key: &str) {
    let path = folder.path().join(key);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, b"x").unwrap();
}

#[tokio::test]
async fn flat_folders_are_counted_and_nested_ones_sampled() {
    let folder = tempfile::tempdir().unwrap();
    for i in 0..40 {
        for j in (0..30).filter(|j| (i + j) % 2 == 0) {
            write(&folder, &format!("flat/{i}.{j}"));
            write(&folder, &format!("nested/c/{i}/{j}"));
            write(&folder, &format!("deep/{}/{}/{j}", i / 10, i % 10));
        }
    }
    for stray in ["flat/README", "flat/40.0", "nested/c/x/1", "nested/c/1/1.tmp", "deep/0/0/007"] {
        write(&folder, stray);
    }
    let source = Source::Local(LocalSource::new(folder.path()).unwrap());
    let whole = |name, encoding, separator, grid: &[u64]| array(name, encoding, separator, grid);
    for (array, expected) in [
        (
            whole("flat", "v2", ".", &[40, 30]),
            Density { chunks_expected: 600, exact: true, list_requests: 1 },
        ),
        (
            whole("nested", "default", "/", &[40, 30]),
            Density { chunks_expected: 600, exact: false, list_requests: 2 + 8 },
        ),
        (
            whole("deep", "v2", "/", &[4, 10, 30]),
            Density { chunks_expected: 600, exact: false, list_requests: 1 + 4 + 8 },
        ),
        (
            whole("nothing", "v2", "/", &[4, 10]),
            Density { chunks_expected: 0, exact: true, list_requests: 0 },
        ),
    ] {
        assert_eq!(probed(&source, &array, None).await, expected, "{}", array.path);
    }
    // A region with few folders is counted.
    let array = array("nested", "default", "/", &[40, 30]);
    let region = ChunkBox::whole(&array.layout).with_leading(3..7);
    let density = probed(&source, &array, Some(region)).await;
    assert_eq!(density, Density { chunks_expected: 60, exact: true, list_requests: 2 + 4 });
}

#[tokio::test]
async fn short_foreign_lists_are_counted_and_scalars_expected() {
    let source = listed(&["a/0.1", "a/1.1", "a/1.2", "a/x", "b/0.0"]);
    let array_of = |path| array(path, "v2", ".", &[3, 2]);
    let counted = |chunks_expected| Density { chunks_expected, exact: true, list_requests: 0 };
    assert_eq!(probed(&source, &array_of("a"), None).await, counted(2));
    let scalar = array("none", "v2", ".", &[]);
    assert_eq!(probed(&source, &scalar, None).await, counted(1));
    let limit: Arc<ConcurrencyLimit> = ConcurrencyLimit::new(1);
    let region = ChunkBox::whole(&array_of("a").layout).with_leading(1..2);
    assert_eq!(
        probe(&source, &array_of("a"), &region, Looks::default(), limit).await.unwrap(),
        counted(1)
    );
}

/// The keys of a listing in order, as it gave them.
async fn keys_in_order(source: &Source, array: &ArraySpec) -> Vec<String> {
    let options = ListOptions { ordered: true, ..ListOptions::new(8) };
    let region = ChunkBox::whole(&array.layout);
    let mut listing = list_chunks(source, array, region, options).unwrap();
    let mut keys = Vec::new();
    while let Some(batch) = listing.batches.next().await {
        let batch = batch.unwrap();
        let columns = ChunkColumns::of(&batch).unwrap();
        let ndim = array.layout.ndim();
        keys.extend(columns.coords.chunks(ndim).map(|coords| array.source_key(coords)));
    }
    keys
}

#[tokio::test]
async fn every_source_lists_in_order_when_asked() {
    let folder = tempfile::tempdir().unwrap();
    let mut keys = Vec::new();
    for (i, j, k) in
        (0..12).flat_map(|i| (0..13).flat_map(move |j| (0..21).map(move |k| (i, j, k))))
    {
        if (i + j + k) % 3 > 0 {
            keys.push(format!("a/c/{i}/{j}/{k}"));
        }
    }
    for key in &keys {
        write(&folder, key);
    }
    keys.sort();
    let nested = array("a", "default", "/", &[12, 13, 21]);
    let local = Source::Local(LocalSource::new(folder.path()).unwrap());
    assert!(keys_in_order(&local, &nested).await == keys);
    assert!(keys_in_order(&listed(&keys), &nested).await == keys);

    for i in 0..1500 {
        write(&folder, &format!("flat/{i}"));
    }
    let flat = keys_in_order(&local, &array("flat", "v2", ".", &[1500])).await;
    assert!(flat.len() == 1500 && flat.is_sorted());

    let config = ArrayConfig { prefix: "a".into(), grid: vec![50, 1000], ..ArrayConfig::default() };
    let config = Config { arrays: vec![config], latency_jitter_ms: 5, ..Config::default() };
    let endpoint = Endpoint::start(config, 0, 1).unwrap();
    let listed = keys_in_order(&s3(&endpoint), &array("a", "default", "/", &[50, 1000])).await;
    assert!(listed.len() == 50_000 && listed.is_sorted());
    assert_eq!(endpoint.stats().list, 50);
}
