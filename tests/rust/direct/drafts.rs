//! Changes of metadata and native chunks that are committed without a session.

use std::collections::BTreeSet;

use bytes::Bytes;
use icechunk::conflicts::detector::ConflictDetector;
use icechunk::format::snapshot::{NodeData, SnapshotProperties};
use icechunk::format::{ByteRange, ChunkIndices, Path, SnapshotId};
use icechunk::repository::VersionInfo;
use icechunk::session::{Session, get_chunk};
use refreeze::commit::{Draft, commit_draft};
use refreeze::grid::chunk_box::ChunkBox;
use refreeze::manifest::ManifestWriter;
use refreeze::target::locations::Locations;
use refreeze::zarr::metadata::{ArrayLayout, ArraySpec};

use super::world::{Part, Shape, World, coords_of};

/// An array of references and one of native chunks.
async fn world() -> World {
    let shapes = [vec![4, 2], vec![6]];
    let shapes = shapes.map(|grid| Shape { split: vec![2; grid.len()], grid });
    let world = World::new(&shapes, Locations::Relative).await;
    let whole = ChunkBox::whole(&world.arrays[0].layout);
    let chunks = coords_of(&whole).into_iter().map(|coords| (coords, 10, 7_000_000)).collect();
    world.commit(&[Part { array: 0, region: whole, chunks }]).await;
    world
}

/// The same array with more rows.
fn grown(array: &ArraySpec, rows: u64) -> ArraySpec {
    let mut shape = array.layout.shape().to_vec();
    shape[0] = rows;
    let mut document: serde_json::Value = serde_json::from_slice(&array.document).unwrap();
    document["shape"] = serde_json::json!(shape);
    let chunks = array.layout.chunk_shape().to_vec();
    let layout = ArrayLayout::new(shape, chunks, array.layout.encoding()).unwrap();
    ArraySpec { document: document.to_string().into_bytes(), layout, ..array.clone() }
}

async fn session(world: &World, snapshot: &SnapshotId) -> Session {
    let version = VersionInfo::SnapshotId(snapshot.clone());
    world.repository.readonly_session(&version).await.unwrap()
}

async fn native(session: &Session, path: &Path, row: u32) -> Option<Bytes> {
    let coords = ChunkIndices(vec![row]);
    let reader = session.get_chunk_reader(path, &coords, &ByteRange::ALL).await.unwrap();
    get_chunk(reader).await.unwrap()
}

async fn commit(world: &World, chunks: &[(Vec<u32>, Vec<u8>)], rows: u64) -> SnapshotId {
    let tip = world.tip("main").await;
    let mut draft = Draft::of(&world.repository, &tip).await.unwrap();
    assert!(draft.is_empty());
    draft.set_document(&grown(&world.arrays[0], rows)).unwrap();
    let array = &world.arrays[1];
    draft.set_chunks(&world.repository, array, &[2], chunks).await.unwrap();
    assert!(!draft.is_empty());
    let properties = SnapshotProperties::new();
    let on = Some("main");
    commit_draft(&world.repository, on, draft, "draft", properties, Vec::new()).await.unwrap()
}

/// Who gathers the next references is told of them, by the writer itself.
#[tokio::test]
async fn what_is_written_takes_memory_until_its_commit() {
    let world = world().await;
    let tip = world.tip("main").await;
    let whole = ChunkBox::whole(&world.arrays[0].layout);
    let chunks = coords_of(&whole).into_iter().map(|coords| (coords, 20, 8_000_000)).collect();
    let parts = [Part { array: 0, region: whole, chunks }];
    let writer = ManifestWriter::new(&world.repository, &tip, 1_000);
    let unwritten = writer.unwritten();
    assert!(!unwritten.is_busy(false));
    writer.write(&tip, world.references(0, &parts)).await.unwrap();
    // Their manifests are made; their lines in the log are kept.
    assert!(!unwritten.is_busy(true) && unwritten.is_busy(false));
}

#[tokio::test]
async fn a_draft_is_what_a_session_would_have_made() {
    let world = world().await;
    let before = world.tip("main").await;
    let large = vec![5; 2_000];
    let chunks = [(vec![0], vec![1]), (vec![1], large.clone()), (vec![5], vec![9])];
    let after = commit(&world, &chunks, 6).await;
    let [array0, array1] = ["/group/array0", "/group/array1"].map(|path| path.try_into().unwrap());
    let reader = session(&world, &after).await;
    assert_eq!(native(&reader, &array1, 0).await, Some(Bytes::from_static(&[1])));
    assert_eq!(native(&reader, &array1, 1).await, Some(large.into()));
    assert_eq!(native(&reader, &array1, 3).await, None);
    let node = reader.get_array(&array0).await.unwrap();
    assert_eq!(node.user_data, grown(&world.arrays[0], 6).document);
    let NodeData::Array { shape, manifests, .. } = node.node_data else { panic!("a group") };
    assert_eq!((shape.get(0).unwrap().array_length(), manifests.len()), (6, 2));

    let version = |id: &SnapshotId| VersionInfo::SnapshotId(id.clone());
    let diff = world.repository.diff(&version(&before), &version(&after)).await.unwrap();
    assert_eq!(diff.updated_arrays, BTreeSet::from([array0]));
    let changed: Vec<_> = diff.updated_chunks.into_iter().collect();
    let coords = [0, 1, 5].map(|row| ChunkIndices(vec![row])).into();
    assert_eq!(changed, [(array1.clone(), coords)]);

    // Some are changed and some removed later; the others stay.
    let chunks = [(vec![0], vec![2]), (vec![5], Vec::new())];
    let last = session(&world, &commit(&world, &chunks, 7).await).await;
    assert_eq!(native(&last, &array1, 0).await, Some(Bytes::from_static(&[2])));
    assert!(native(&last, &array1, 1).await.is_some());
    assert_eq!(native(&last, &array1, 5).await, None);
}

#[tokio::test]
async fn a_concurrent_session_notices_changed_metadata() {
    let world = world().await;
    let mut theirs = world.repository.writable_session("main").await.unwrap();
    let path = "/group/array0".try_into().unwrap();
    let node = theirs.get_array(&path).await.unwrap();
    let NodeData::Array { shape, dimension_names, .. } = node.node_data else { panic!("a group") };
    theirs.update_array(&path, shape, dimension_names, Bytes::from_static(b"{}")).await.unwrap();
    commit(&world, &[(vec![0], vec![1])], 6).await;
    let outcome = theirs.commit("theirs").rebase(&ConflictDetector, 3).execute().await;
    assert!(outcome.is_err());
}
