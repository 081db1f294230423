//! An ingest whose n-th request goes wrong, source and target on a server: the same references, or an error of a kind, and
//! then the same references. A part of all cases is run; `REFREEZE_FAULTS=all` runs the rest (`make test-faults`).

pub(crate) mod proxy;

use std::future::pending;

use object_store::aws::AmazonS3Builder;
use refreeze::ErrorKind;
use refreeze::grid::chunk_box::ChunkBox;
use refreeze::jobs::ingest::{IngestJob, JobSource, Mode, ingest};
use refreeze::jobs::status;
use refreeze::jobs::verify::{VerifyJob, verify};
use refreeze::list::limit::Concurrency;
use refreeze::plan::LimitOptions;
use refreeze::source::retry::RetryPolicy;
use refreeze::source::transport::Transport;
use refreeze::source::{BucketBuilder, BucketSource, Source};
use refreeze::target::{Target, TargetLocation};
use refreeze_endpoint::{ArrayConfig, Config, Endpoint};

use crate::store::{array, job_of};
use proxy::{Fault, FaultProxy};

/// Chunks of the array.
const CHUNKS: u64 = 6;
/// Of all cases, one of so many is run unless all are asked for.
const ONE_OF: usize = 150;

fn builder(url: &str) -> BucketBuilder {
    BucketBuilder::S3(Box::new(
        AmazonS3Builder::new()
            .with_endpoint(url)
            .with_bucket_name("bucket")
            .with_region("us-east-1")
            .with_skip_signature(true)
            .with_allow_http(true),
    ))
}

fn job(url: &str, target: &str) -> IngestJob {
    let source = BucketSource::new(builder(url), "store").unwrap();
    let source = source.with_list_retries(RetryPolicy { attempts: 3, ..RetryPolicy::default() });
    let source = JobSource { source: Source::Bucket(source), url: "s3://bucket/store".to_owned() };
    let target = TargetLocation::Bucket {
        builder: builder(url),
        transport: Transport::default(),
        prefix: target.to_owned(),
        url: format!("s3://bucket/{target}"),
    };
    let limits = LimitOptions {
        references_per_manifest: Some(2),
        references_per_commit: Some(2),
        concurrency: Concurrency::Fixed(2),
        ..LimitOptions::default()
    };
    job_of(source, target, vec![array("air", CHUNKS, 1, false)], limits)
}

/// Runs the ingest in a task of its own: a debug build of Icechunk asserts that a repository that it has created is
/// there, by a request, and panics when that goes wrong.
async fn run(url: &str, target: &str) -> Result<u64, String> {
    let running = tokio::spawn(ingest(job(url, target), Box::new(|_| {}), pending()));
    match running.await {
        Ok(outcome) => outcome
            .map(|report| report.references_written)
            .map_err(|error| format!("{:?}: {error}", error.kind())),
        Err(panicked) => {
            let panic = panicked.into_panic();
            let text = panic.downcast_ref::<&str>().copied().unwrap_or_default();
            assert!(text.contains("fetch_spec_version_labelled"), "{text}");
            Err(text.to_owned())
        }
    }
}

/// What is not as it must be when an ingest has succeeded.
async fn wrong(url: &str, target: &str) -> Option<String> {
    let location = job(url, target).target;
    let (opened, _) = Target::open_to_read(&location).await.unwrap();
    let snapshot = opened.repository().lookup_branch("main").await.unwrap();
    let runs = status(&location).await.unwrap().runs;
    if runs.len() != 1 || runs[0].state != "published" {
        return Some(format!("{runs:?}"));
    }
    let listing = IngestJob { mode: Mode::Update, ..job(url, target) };
    let compared = vec![ChunkBox::whole(&listing.arrays[0].spec.layout)];
    let (sender, _) = tokio::sync::mpsc::channel(1);
    let job = VerifyJob { listing, compared, snapshot, sample: 0 };
    let report = verify(job, sender, Box::new(|_| {})).await.unwrap();
    (report.checked != CHUNKS || !report.arrays[0].kinds.is_empty()).then(|| format!("{report:?}"))
}

/// Whether readers see arrays on main.
async fn is_published(url: &str, target: &str) -> bool {
    match Target::open_to_read(&job(url, target).target).await {
        Ok((opened, _)) => {
            let repository = opened.repository();
            match repository.lookup_branch("main").await {
                Ok(tip) => {
                    let files = repository.lookup_manifest_files(&tip).await.unwrap();
                    files.count() > 0
                }
                Err(_) => false,
            }
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::TargetNotFound, "{error}");
            false
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_request_of_an_ingest_goes_wrong() {
    let array = ArrayConfig {
        prefix: "store/air".into(),
        grid: vec![CHUNKS],
        chunk_size: 1,
        ..ArrayConfig::default()
    };
    let config = Config { arrays: vec![array], ..Config::default() };
    let endpoint = Endpoint::start(config, 0, 2).unwrap();
    let proxy = FaultProxy::before(&endpoint.url());
    let url = proxy.url();
    proxy.begin(None);
    assert_eq!(run(&url, "undisturbed").await.unwrap(), CHUNKS);
    let requests = proxy.seen();
    assert_eq!(wrong(&url, "undisturbed").await, None);

    let cases = requests.iter().enumerate().flat_map(|(number, method)| {
        let all =
            Fault::ALL.into_iter().filter(move |fault| !fault.is_of_content() || method == "GET");
        all.map(move |fault| (number, fault))
    });
    let each =
        if std::env::var("REFREEZE_FAULTS").is_ok_and(|all| all == "all") { 1 } else { ONE_OF };
    let (mut count, mut found) = (0, Vec::new());
    for (number, fault) in cases.step_by(each) {
        count += 1;
        let target = format!("{number}-{fault:?}").to_lowercase();
        proxy.begin(Some((number, fault)));
        let outcome = run(&url, &target).await;
        proxy.begin(None);
        let failure = outcome.err();
        if failure.is_some() && is_published(&url, &target).await {
            found.push(format!("{fault:?} at request {number}: published, and {failure:?}"));
            continue;
        }
        if let Some(failure) = &failure
            && let Err(error) = run(&url, &target).await
        {
            found.push(format!("{fault:?} at request {number}: after {failure}: {error}"));
            continue;
        }
        if let Some(what) = wrong(&url, &target).await {
            found.push(format!("{fault:?} at request {number}: after {failure:?}: {what}"));
        }
    }
    println!("ingest: {} requests, {count} cases run", requests.len());
    assert!(found.is_empty(), "{found:#?}");
}
