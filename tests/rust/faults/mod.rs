//! An ingest whose n-th request goes wrong, source and target on a server: the same references, or an error of a kind, and
//! then the same references. A part of all cases is run; `REFREEZE_FAULTS=all` runs the rest (`make test-faults`).

pub(crate) mod proxy;

use std::collections::HashSet;
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
use proxy::{Chosen, Fault, FaultProxy, is_listing};

/// Chunks of the array.
const CHUNKS: u64 = 6;
/// Of all cases, one of so many is run unless all are asked for, and those where a listing is refused.
const ONE_OF: usize = 150;

pub(crate) fn builder(url: &str) -> BucketBuilder {
    BucketBuilder::S3(Box::new(
        AmazonS3Builder::new()
            .with_endpoint(url)
            .with_bucket_name("bucket")
            .with_region("us-east-1")
            .with_skip_signature(true)
            .with_allow_http(true),
    ))
}

/// Where an ingest reads and writes, and how.
#[derive(Clone, Copy)]
struct Place<'a> {
    url: &'a str,
    target: &'a str,
    /// References of a commit, two of which are listed at once.
    per_commit: u64,
}

fn job(Place { url, target, per_commit }: Place<'_>) -> IngestJob {
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
        references_per_commit: Some(per_commit),
        references_at_once: Some(2),
        concurrency: Concurrency::Fixed(2),
        ..LimitOptions::default()
    };
    job_of(source, target, vec![array("air", CHUNKS, 1, false)], limits)
}

/// Runs the ingest in a task of its own: a debug build of Icechunk asserts that a repository that it has created is
/// there, by a request, and panics when that goes wrong.
async fn run(place: Place<'_>) -> Result<u64, String> {
    let running = tokio::spawn(ingest(job(place), Box::new(|_| {}), pending()));
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
async fn wrong(place: Place<'_>) -> Option<String> {
    let location = job(place).target;
    let (opened, _) = Target::open_to_read(&location).await.unwrap();
    let snapshot = opened.repository().lookup_branch("main").await.unwrap();
    let runs = status(&location).await.unwrap().runs;
    if runs.len() != 1 || runs[0].state != "published" {
        return Some(format!("{runs:?}"));
    }
    let listing = IngestJob { mode: Mode::Update, ..job(place) };
    let compared = vec![ChunkBox::whole(&listing.arrays[0].spec.layout)];
    let (sender, _) = tokio::sync::mpsc::channel(1);
    let job = VerifyJob { listing, compared, snapshot, sample: 0 };
    let report = verify(job, sender, Box::new(|_| {})).await.unwrap();
    (report.checked != CHUNKS || !report.arrays[0].kinds.is_empty()).then(|| format!("{report:?}"))
}

/// Whether readers see arrays on main.
async fn is_published(place: Place<'_>) -> bool {
    match Target::open_to_read(&job(place).target).await {
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

/// Batches that are committed; None without a run.
async fn batches_done(place: Place<'_>) -> Option<u64> {
    let runs = status(&job(place).target).await.ok()?.runs;
    runs.first().map(|run| run.batches_done)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_request_of_an_ingest_goes_wrong() {
    any_request_goes_wrong(2).await;
}

/// What was written before a listing failed is committed, as a part of a commit if need be.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_request_of_an_ingest_in_steps_goes_wrong() {
    let done = any_request_goes_wrong(4).await;
    assert!(done.contains(&Some(1)), "{done:?}");
}

/// Gives back how many batches those that failed had committed.
async fn any_request_goes_wrong(per_commit: u64) -> HashSet<Option<u64>> {
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
    let undisturbed = Place { url: &url, target: "undisturbed", per_commit };
    assert_eq!(run(undisturbed).await.unwrap(), CHUNKS);
    let requests = proxy.seen();
    assert_eq!(wrong(undisturbed).await, None);

    let cases = requests.iter().enumerate().flat_map(|(number, asked)| {
        let of_content = asked.starts_with("GET ");
        let all = Fault::ALL.into_iter().filter(move |fault| of_content || !fault.is_of_content());
        all.map(move |fault| (Chosen::Any(number), fault))
    });
    let each =
        if std::env::var("REFREEZE_FAULTS").is_ok_and(|all| all == "all") { 1 } else { ONE_OF };
    let (mut count, mut found, mut done) = (0, Vec::new(), HashSet::new());
    let listings = requests.iter().filter(|asked| is_listing(asked)).count();
    let refused = (0..listings).map(|number| (Chosen::Listing(number), Fault::Refused));
    for (chosen, fault) in cases.step_by(each).chain(refused) {
        count += 1;
        let target = format!("{count}-{fault:?}").to_lowercase();
        let place = Place { target: &target, ..undisturbed };
        proxy.begin(Some((chosen, fault)));
        let outcome = run(place).await;
        proxy.begin(None);
        let failure = outcome.err();
        if failure.is_some() && is_published(place).await {
            found.push(format!("{fault:?} at {chosen:?}: published, and {failure:?}"));
            continue;
        }
        if failure.is_some() {
            done.insert(batches_done(place).await);
        }
        if let Some(failure) = &failure
            && let Err(error) = run(place).await
        {
            found.push(format!("{fault:?} at {chosen:?}: after {failure}: {error}"));
            continue;
        }
        if let Some(what) = wrong(place).await {
            found.push(format!("{fault:?} at {chosen:?}: after {failure:?}: {what}"));
        }
    }
    println!("ingest: {} requests, {count} cases run", requests.len());
    assert!(found.is_empty(), "{found:#?}");
    done
}
