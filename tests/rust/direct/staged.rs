//! A run on its staging branch: the commit that begins it, and putting it on another base.

use icechunk::format::SnapshotId;
use icechunk::format::snapshot::SnapshotProperties;
use icechunk::repository::VersionInfo;
use refreeze::ErrorKind;
use refreeze::commit::{Touched, commit_first, replay};
use refreeze::grid::chunk_box::ChunkBox;
use refreeze::target::locations::Locations;

use super::world::{Part, Shape, World, coords_of};

const STAGING: &str = "refreeze/run";

async fn world() -> World {
    let shape = Shape { grid: vec![6, 2], split: vec![2, 2] };
    World::without_arrays(&[shape.clone(), shape], Locations::Relative).await
}

/// Begins a run on top of `main` and commits the rows of both arrays two by two.
async fn stage(world: &World) -> Vec<SnapshotId> {
    let store = world.store("main").await;
    world.create_nodes(&store).await;
    let properties = SnapshotProperties::from([("refreeze.run".to_owned(), "run".into())]);
    let first = commit_first(&world.repository, &store, STAGING, "metadata", properties);
    let mut staged = vec![first.await.unwrap()];
    for row in [0, 2, 4] {
        let parts: Vec<_> = (0..2)
            .map(|array| {
                let whole = ChunkBox::whole(&world.arrays[array].layout);
                let region = whole.with_leading(row..row + 2);
                let chunks = coords_of(&region).into_iter().map(|coords| (coords, 10, 7)).collect();
                Part { array, region, chunks }
            })
            .collect();
        let tip = world.try_commit(STAGING, &staged[staged.len() - 1], &parts).await.unwrap();
        staged.push(tip);
    }
    staged
}

/// The arrays and groups that the run creates.
fn created(world: &World) -> Touched<'_> {
    Touched {
        arrays: world.arrays.iter().map(|array| array.path.as_str()).collect(),
        groups: vec!["/", "/group"],
        ..Touched::default()
    }
}

/// Commits a node to `main`, as another client would.
async fn foreign(world: &World, path: &str) -> SnapshotId {
    let store = world.store("main").await;
    let document = br#"{"zarr_format":3,"node_type":"group","attributes":{}}"#;
    let key = format!("{path}/zarr.json");
    store.set(key.trim_start_matches('/'), document.to_vec().into()).await.unwrap();
    store.session().write().await.commit("theirs").execute().await.unwrap()
}

#[tokio::test]
async fn the_staging_branch_begins_with_its_first_commit() {
    let world = world().await;
    let main = world.tip("main").await;
    let staged = stage(&world).await;
    assert_eq!(world.tip("main").await, main);
    assert_eq!(world.tip(STAGING).await, staged[3]);
    let info = world.repository.lookup_snapshot(&staged[0]).await.unwrap();
    assert_eq!(info.parent_id, Some(main));
    assert_eq!(info.metadata["refreeze.run"], "run");

    let store = world.store("main").await;
    world.create_nodes(&store).await;
    let again = commit_first(&world.repository, &store, STAGING, "m", SnapshotProperties::new());
    assert_eq!(again.await.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(world.tip(STAGING).await, staged[3]);
}

#[tokio::test]
async fn a_run_is_put_on_a_branch_that_moved() {
    let world = world().await;
    let store = world.store("main").await;
    let root = br#"{"zarr_format":3,"node_type":"group","attributes":{}}"#;
    store.set("zarr.json", root.to_vec().into()).await.unwrap();
    store.session().write().await.commit("root").execute().await.unwrap();
    let staged = stage(&world).await;
    let touched = created(&world);
    let base = foreign(&world, "/another").await;
    let before = world.look(&staged[3]).await;

    let tip = replay(&world.repository, &staged, &touched, &base).await.unwrap();
    assert_eq!(world.tip("main").await, base);
    assert_eq!(world.tip(STAGING).await, staged[3]);
    world.repository.reset_branch("main", &tip, Some(&base)).await.unwrap();
    assert_eq!(world.look(&tip).await, before);
    let version = VersionInfo::BranchTipRef("main".to_owned());
    let session = world.repository.readonly_session(&version).await.unwrap();
    session.get_group(&"/another".try_into().unwrap()).await.unwrap();

    // The history is the run's, commit by commit, and each says what it changed.
    let from = VersionInfo::SnapshotId(base.clone());
    let diff = world.repository.diff(&from, &version).await.unwrap();
    assert_eq!((diff.new_arrays.len(), diff.new_groups.len()), (2, 1));
    assert_eq!(
        diff.updated_chunks.values().map(std::collections::BTreeSet::len).sum::<usize>(),
        24
    );
    let mut id = tip;
    for old in staged.iter().rev() {
        let info = world.repository.lookup_snapshot(&id).await.unwrap();
        let old = world.repository.lookup_snapshot(old).await.unwrap();
        assert_eq!((info.message, info.metadata), (old.message, old.metadata));
        id = info.parent_id.unwrap();
    }
    assert_eq!(id, base);
}

#[tokio::test]
async fn a_path_that_was_taken_or_removed_is_a_conflict() {
    let world = world().await;
    let staged = stage(&world).await;
    let base = foreign(&world, "/group/array1").await;
    let mut touched = created(&world);
    let error = replay(&world.repository, &staged, &touched, &base).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);

    touched.arrays.retain(|path| path.contains("array0"));
    touched.groups.clear();
    let empty = world.repository.lookup_snapshot(&base).await.unwrap().parent_id.unwrap();
    let error = replay(&world.repository, &staged, &touched, &empty).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.message().contains("/group"), "{error}");
}
