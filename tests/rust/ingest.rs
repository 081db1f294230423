//! What an ingest that goes well leaves behind.

use std::future::pending;
use std::sync::{Arc, Mutex};

use icechunk::format::manifest::{Checksum, ChunkPayload};
use refreeze::jobs::ingest::ingest;

use crate::store::{CHUNKS, Scenario, chunk, nodes, payload, session};

#[tokio::test]
async fn a_store_is_read_back_chunk_by_chunk() {
    let scenario = Scenario::new();
    let report = ingest(scenario.job(), Box::new(|_| {}), pending()).await.unwrap();
    assert_eq!(report.references_written, 3);
    assert_eq!(report.bytes_referenced, 6);
    assert_eq!((report.arrays[0].missing, report.arrays[1].missing), (1, 0));
    assert!(!report.already_published);

    let repository = scenario.repository().await;
    assert_eq!(nodes(&repository, "main").await, ["/", "/air", "/time"]);
    assert_eq!(repository.list_branches().await.unwrap().len(), 1);
    let session = session(&repository, "main").await;
    assert_eq!(session.snapshot_id().to_string(), report.snapshot_id);
    for index in CHUNKS {
        let bytes = chunk(&session, "/air", index).await.unwrap();
        assert_eq!(bytes.as_ref(), [u8::try_from(index).unwrap(); 2]);
    }
    assert_eq!(chunk(&session, "/air", 2).await, None);
    assert_eq!(chunk(&session, "/time", 0).await.unwrap().as_ref(), b"copied");
}

#[tokio::test]
async fn references_are_relative_and_carry_the_files_time() {
    let scenario = Scenario::new();
    ingest(scenario.job(), Box::new(|_| {}), pending()).await.unwrap();
    let repository = scenario.repository().await;
    let session = session(&repository, "main").await;
    let Some(ChunkPayload::Virtual(reference)) = payload(&session, "/air", 3).await else {
        panic!("not a virtual reference")
    };
    let container = repository.config().virtual_chunk_containers().next().unwrap();
    let name = container.name().unwrap();
    assert_eq!(reference.location.url(), format!("vcc://{name}/air/c/3"));
    assert_eq!((reference.offset, reference.length), (0, 2));
    let modified = scenario.source().join("air/c/3").metadata().unwrap().modified().unwrap();
    let modified = modified.duration_since(std::time::UNIX_EPOCH).unwrap();
    let Some(Checksum::LastModified(recorded)) = reference.checksum else { panic!("no time") };
    assert_eq!(u128::from(recorded.0), modified.as_nanos().div_ceil(1_000_000_000));
    let copied = payload(&session, "/time", 0).await.unwrap();
    assert!(!matches!(copied, ChunkPayload::Virtual(_)));
}

#[tokio::test]
async fn the_very_same_ingest_again_writes_nothing() {
    let scenario = Scenario::new();
    let first = ingest(scenario.job(), Box::new(|_| {}), pending()).await.unwrap();
    let again = ingest(scenario.job(), Box::new(|_| {}), pending()).await.unwrap();
    assert!(again.already_published);
    assert_eq!((again.commits, again.references_written), (0, 0));
    assert_eq!(again.snapshot_id, first.snapshot_id);
}

#[tokio::test]
async fn progress_ends_with_what_was_done() {
    let scenario = Scenario::new();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&seen);
    let report = ingest(
        scenario.job(),
        Box::new(move |progress| sink.lock().unwrap().push(progress.clone())),
        pending(),
    )
    .await
    .unwrap();
    let seen = seen.lock().unwrap();
    let last = seen.last().unwrap();
    assert_eq!((last.stage, last.references_written), ("done", report.references_written));
    assert_eq!((last.chunks_possible, last.commits), (4, report.commits));
}
