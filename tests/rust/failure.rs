//! Ingests that end early: the branch stays where it was.

use std::future::{pending, ready};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;

use futures::channel::oneshot;
use icechunk::store::Store;
use refreeze::ErrorKind;
use refreeze::commit::STAGING_PREFIX;
use refreeze::jobs::ingest::ingest;
use tokio::sync::RwLock;

use crate::store::{Scenario, chunk, nodes, open, session};

#[tokio::test]
async fn an_empty_chunk_leaves_nothing_behind() {
    let scenario = Scenario::new();
    scenario.write("air/c/1", b"");
    let error = ingest(scenario.job(), Box::new(|_| {}), pending()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnsupportedArray);
    assert!(error.message().contains("air/c/1"), "{error}");
    assert!(error.hint().is_some());
    assert_only_an_empty_main(&scenario).await;
}

#[tokio::test]
async fn cancellation_before_it_begins_and_in_the_middle() {
    let scenario = Scenario::new();
    let error = ingest(scenario.job(), Box::new(|_| {}), ready(())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted);

    // The job is stopped when its metadata is committed and chunks have been found.
    let (stop, stopped) = oneshot::channel();
    let stop = Mutex::new(Some(stop));
    let on_progress = Box::new(move |progress: &refreeze::progress::Progress| {
        if progress.stage == "list"
            && let Some(stop) = stop.lock().unwrap().take()
        {
            stop.send(()).unwrap();
        }
    });
    let cancelled = async { stopped.await.unwrap() };
    let error = ingest(scenario.job(), on_progress, cancelled).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted);
    assert_only_an_empty_main(&scenario).await;

    let report = ingest(scenario.job(), Box::new(|_| {}), pending()).await.unwrap();
    assert_eq!(report.references_written, 3);
}

#[tokio::test]
async fn cancellation_while_publishing_waits_for_it() {
    let scenario = Scenario::new();
    let (stop, stopped) = oneshot::channel();
    let stop = Mutex::new(Some(stop));
    let on_progress = Box::new(move |progress: &refreeze::progress::Progress| {
        if progress.stage == "publish"
            && let Some(stop) = stop.lock().unwrap().take()
        {
            stop.send(()).unwrap();
        }
    });
    let cancelled = async { stopped.await.unwrap() };
    let report = ingest(scenario.job(), on_progress, cancelled).await.unwrap();
    let repository = scenario.repository().await;
    let tip = repository.lookup_branch("main").await.unwrap();
    assert_eq!(tip.to_string(), report.snapshot_id);
    assert_eq!(repository.list_branches().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_branch_that_moves_meanwhile_is_a_conflict() {
    let scenario = Scenario::new();
    let target = scenario.target();
    let foreign = Arc::new(Mutex::new(None));
    let theirs = Arc::clone(&foreign);
    let on_progress = Box::new(move |progress: &refreeze::progress::Progress| {
        let mut theirs = theirs.lock().unwrap();
        if progress.stage == "check" && theirs.is_none() {
            *theirs = Some(foreign_commit(&target));
        }
    });
    let error = ingest(scenario.job(), on_progress, pending()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);

    let repository = scenario.repository().await;
    let main = repository.lookup_branch("main").await.unwrap().to_string();
    assert_eq!(Some(main), foreign.lock().unwrap().clone());
    assert_eq!(nodes(&repository, "main").await, ["/"]);
    let branches = repository.list_branches().await.unwrap();
    let staging = branches.iter().find(|name| name.starts_with("refreeze/")).unwrap();
    assert!(error.message().contains(staging), "{error}");
    let staged = session(&repository, staging).await;
    assert_eq!(chunk(&staged, "/air", 1).await.unwrap().as_ref(), [1, 1]);
}

/// Commits a root group to main, as another process would; returns the snapshot's id.
fn foreign_commit(target: &Path) -> String {
    let target = target.to_owned();
    // Progress is told from within a runtime, which cannot wait for another one's future.
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let repository = open(&target).await;
            let session = repository.writable_session("main").await.unwrap();
            let store = Store::from_session(Arc::new(RwLock::new(session))).await;
            let document = bytes::Bytes::from_static(br#"{"zarr_format":3,"node_type":"group"}"#);
            store.set("zarr.json", document).await.unwrap();
            let session = store.session();
            let mut session = session.write().await;
            session.commit("theirs").execute().await.unwrap().to_string()
        })
    })
    .join()
    .unwrap()
}

/// Nobody sees anything; what was staged is there for the next attempt.
async fn assert_only_an_empty_main(scenario: &Scenario) {
    let repository = scenario.repository().await;
    let branches = repository.list_branches().await.unwrap();
    let published: Vec<_> =
        branches.iter().filter(|name| !name.starts_with(STAGING_PREFIX)).collect();
    assert_eq!(published, ["main"]);
    assert_eq!(nodes(&repository, "main").await, [""; 0]);
}
