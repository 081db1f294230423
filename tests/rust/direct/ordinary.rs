//! After a direct commit the repository is ordinary: other clients write to it, rebase over it and
//! clean it up.

use std::collections::HashSet;
use std::num::{NonZeroU16, NonZeroUsize};

use icechunk::conflicts::detector::ConflictDetector;
use icechunk::format::ChunkIndices;
use icechunk::format::manifest::{ChunkPayload, VirtualChunkLocation, VirtualChunkRef};
use icechunk::format::snapshot::SnapshotProperties;
use icechunk::ops::expiration::{ExpiredRefAction, expire};
use icechunk::ops::gc::{GCConfig, GCSummary, garbage_collect};
use icechunk::session::{Session, SessionErrorKind};
use refreeze::ErrorKind;
use refreeze::commit::commit_manifests;
use refreeze::grid::chunk_box::ChunkBox;
use refreeze::target::locations::Locations;

use super::world::{Part, Shape, World, coords_of};

const TIME: i64 = 1_700_000_000_000_000;

/// Two arrays of 6 × 2 chunks in manifests of two rows.
async fn world() -> World {
    let shape = Shape { grid: vec![6, 2], split: vec![2, 2] };
    World::new(&[shape.clone(), shape], Locations::Relative).await
}

/// All chunks of a range of rows of one array.
fn rows(world: &World, array: usize, rows: std::ops::Range<u32>) -> Part {
    let region = ChunkBox::whole(&world.arrays[array].layout).with_leading(rows);
    let chunks = coords_of(&region).into_iter().map(|coords| (coords, 10, TIME)).collect();
    Part { array, region, chunks }
}

fn foreign_reference() -> ChunkPayload {
    ChunkPayload::Virtual(VirtualChunkRef {
        location: VirtualChunkLocation::from_url("file:///data/other").unwrap(),
        offset: 3,
        length: 4,
        checksum: None,
    })
}

async fn set(session: &mut Session, path: &str, coords: &[u32], payload: Option<ChunkPayload>) {
    let coords = ChunkIndices(coords.to_vec());
    session.set_chunk_ref(path.try_into().unwrap(), coords, payload).await.unwrap();
}

#[tokio::test]
async fn ordinary_commits_follow() {
    let world = world().await;
    let parts = [rows(&world, 0, 0..4), rows(&world, 1, 0..6)];
    let direct = world.commit(&parts).await;
    let before = world.look(&direct).await;
    let path = &world.arrays[0].path;

    let mut session = world.repository.writable_session("main").await.unwrap();
    set(&mut session, path, &[0, 1], Some(foreign_reference())).await;
    set(&mut session, path, &[2, 0], None).await;
    set(&mut session, path, &[5, 0], Some(foreign_reference())).await;
    let after = session.commit("theirs").execute().await.unwrap();
    let looks = world.look(&after).await;
    let changed: Vec<_> = looks
        .references
        .iter()
        .filter(|(chunk, said)| before.references.get(*chunk) != Some(said))
        .map(|((_, coords), _)| coords.clone())
        .collect();
    assert_eq!(changed, [[0, 1], [5, 0]]);
    assert!(!looks.references.contains_key(&(path.clone(), vec![2, 0])));
    assert_eq!(looks.references.len(), before.references.len());
    assert_eq!(looks.files, [1, 3, 4, 4, 4, 4], "manifests of other rows stay");

    // A smaller array loses what lies outside it.
    let store = world.store("main").await;
    let key = format!("{}/zarr.json", world.arrays[1].path.trim_start_matches('/'));
    let mut document: serde_json::Value =
        serde_json::from_slice(&world.arrays[1].document).unwrap();
    document["shape"] = serde_json::json!([2, 2]);
    store.set(&key, document.to_string().into_bytes().into()).await.unwrap();
    let resized = store.session().write().await.commit("resize").execute().await.unwrap();
    let looks = world.look(&resized).await;
    let second = looks.references.keys().filter(|(path, _)| *path == world.arrays[1].path);
    assert_eq!(second.count(), 4);

    // And a direct commit follows ordinary ones.
    let grown = world.commit(&[rows(&world, 0, 4..5)]).await;
    assert_eq!(world.look(&grown).await.references.len(), looks.references.len() + 2);
}

#[tokio::test]
async fn a_concurrent_session_notices_a_conflict() {
    let world = world().await;
    let mut same_chunk = world.repository.writable_session("main").await.unwrap();
    let mut other_chunk = world.repository.writable_session("main").await.unwrap();
    let mut other_array = world.repository.writable_session("main").await.unwrap();
    let path = &world.arrays[0].path;
    set(&mut same_chunk, path, &[3, 1], Some(foreign_reference())).await;
    set(&mut other_chunk, path, &[4, 1], Some(foreign_reference())).await;
    set(&mut other_array, &world.arrays[1].path, &[3, 1], Some(foreign_reference())).await;
    world.commit(&[rows(&world, 0, 0..4)]).await;

    let detector = ConflictDetector;
    let error = same_chunk.commit("theirs").rebase(&detector, 3).execute().await.unwrap_err();
    assert!(matches!(error.kind, SessionErrorKind::RebaseFailed { .. }), "{error}");
    other_array.commit("theirs").rebase(&detector, 3).execute().await.unwrap();
    let tip = other_chunk.commit("theirs").rebase(&detector, 3).execute().await.unwrap();
    assert_eq!(world.look(&tip).await.references.len(), 8 + 2);
}

#[tokio::test]
async fn a_branch_that_moved_is_a_conflict_and_nothing_changes() {
    let world = world().await;
    let parent = world.tip("main").await;
    let tip = world.commit(&[rows(&world, 0, 0..2)]).await;
    let parts = [rows(&world, 0, 2..4)];
    let error = world.try_commit("main", &parent, &parts).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    assert_eq!(world.tip("main").await, tip);
}

#[tokio::test]
async fn manifests_that_overlap_are_refused() {
    let world = world().await;
    let before = world.tip("main").await;
    // Written when nothing stood there yet.
    let late = world.write(0, &before, &[rows(&world, 0, 2..4)]).await.unwrap();
    world.commit(&[rows(&world, 0, 0..3)]).await;
    let tip = world.tip("main").await;
    let properties = SnapshotProperties::new();
    let error = commit_manifests(&world.repository, "main", &tip, "late", properties, late).await;
    let error = error.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Target);
    assert!(error.message().contains(&world.arrays[0].path), "{error}");
    let empty = world.try_commit("main", &tip, &[]).await.unwrap_err();
    assert_eq!(empty.kind(), ErrorKind::Target);
}

#[tokio::test]
async fn a_chunk_listed_twice_is_refused() {
    let world = world().await;
    let mut part = rows(&world, 0, 0..1);
    part.chunks.push((vec![0, 1], 11, TIME));
    let tip = world.tip("main").await;
    let error = world.try_commit("main", &tip, &[part]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Listing);
    assert!(error.message().contains("[0, 1]"), "{error}");
}

#[tokio::test]
async fn cleaning_up_leaves_everything_readable() {
    let world = world().await;
    let base = world.tip("main").await;
    for first in 0..3 {
        world.commit(&[rows(&world, 0, 2 * first..2 * first + 2)]).await;
    }
    let tip = world.tip("main").await;
    let before = world.look(&tip).await;
    // A commit that lost its race leaves manifests and a snapshot that nothing refers to.
    world.try_commit("main", &base, &[rows(&world, 1, 0..6)]).await.unwrap_err();

    let planned = collect(&world, true).await;
    assert_eq!((planned.manifests_deleted, planned.snapshots_deleted), (3, 1));
    let done = collect(&world, false).await;
    assert_eq!((done.manifests_deleted, done.snapshots_deleted), (3, 1));
    assert_eq!(world.look(&tip).await, before);

    let expired = expire(
        world.repository.asset_manager().clone(),
        chrono::Utc::now(),
        ExpiredRefAction::Ignore,
        ExpiredRefAction::Ignore,
        None,
        100,
    )
    .await
    .unwrap();
    assert!(!expired.released_snapshots.is_empty());
    collect(&world, false).await;
    assert_eq!(world.look(&tip).await, before);
    assert_eq!(world.commit(&[rows(&world, 1, 0..1)]).await, world.tip("main").await);
}

async fn collect(world: &World, dry_run: bool) -> GCSummary {
    let now = chrono::Utc::now();
    let (few, bytes) = (NonZeroU16::new(4).unwrap(), NonZeroUsize::new(1 << 26).unwrap());
    let roots = Some(HashSet::new());
    let config =
        GCConfig::clean_all(now, now, roots, few, bytes, bytes, few, few, few, None, dry_run);
    let assets = world.repository.asset_manager().clone();
    Box::pin(garbage_collect(assets, &config, None, 100)).await.unwrap()
}
