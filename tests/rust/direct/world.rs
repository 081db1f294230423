//! A repository in memory with arrays of any shape, and ways to fill it and to look at it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow_array::{
    ArrayRef, FixedSizeListArray, RecordBatch, RecordBatchOptions, StringArray,
    TimestampMicrosecondArray, UInt32Array, UInt64Array,
};
use arrow_schema::{DataType, Field};
use bytes::Bytes;
use futures::TryStreamExt as _;
use icechunk::format::SnapshotId;
use icechunk::format::manifest::{Checksum, ChunkPayload, ManifestExtents, SecondsSinceEpoch};
use icechunk::format::snapshot::{NodeData, SnapshotProperties};
use icechunk::repository::VersionInfo;
use icechunk::storage::ETag;
use icechunk::store::Store;
use icechunk::{Repository, new_in_memory_storage};
use refreeze::Result;
use refreeze::batch::{ChecksumBy, ChunkReference, ChunkRules, ReferenceBatch};
use refreeze::commit::commit_manifests;
use refreeze::grid::chunk_box::ChunkBox;
use refreeze::grid::piece::{Piece, Shift};
use refreeze::list::chunk_schema;
use refreeze::manifest::{ArrayReferences, ManifestWriter, NewManifests};
use refreeze::plan::SplitRule;
use refreeze::source::{LocalSource, Source};
use refreeze::target::Additions;
use refreeze::target::container::SourceContainer;
use refreeze::target::locations::{ArrayLocations, Locations};
use refreeze::zarr::key::ChunkKeyEncoding;
use refreeze::zarr::metadata::{ArrayLayout, ArraySpec};
use tokio::sync::RwLock;

use crate::session_path::set_references;

/// A chunk that is there: coordinates, size, time in microseconds.
pub(super) type Chunk = (Vec<u32>, u64, i64);

/// Chunks of a part of one array, by its position.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub(super) array: usize,
    pub(super) region: ChunkBox,
    pub(super) chunks: Vec<Chunk>,
}

/// An array's place and shape.
#[derive(Debug, Clone)]
pub(super) struct Shape {
    pub(super) grid: Vec<u64>,
    pub(super) split: Vec<u32>,
}

pub(super) struct World {
    pub(super) repository: Repository,
    pub(super) arrays: Vec<ArraySpec>,
    splits: Vec<Vec<u32>>,
    container: SourceContainer,
    form: Locations,
    /// Whether references carry `ETag`s instead of times.
    pub(super) tagged: bool,
}

impl World {
    pub(super) async fn new(shapes: &[Shape], form: Locations) -> Self {
        let world = Self::without_arrays(shapes, form).await;
        let store = world.store("main").await;
        world.create_nodes(&store).await;
        store.session().write().await.commit("metadata").execute().await.unwrap();
        world
    }

    /// The same before its groups and arrays are committed.
    pub(super) async fn without_arrays(shapes: &[Shape], form: Locations) -> Self {
        let arrays: Vec<_> =
            shapes.iter().enumerate().map(|(number, shape)| array(number, shape)).collect();
        let source = Source::Local(LocalSource::new("/data/some store.zarr").unwrap());
        let container = SourceContainer::new(None, &source).unwrap();
        let storage = new_in_memory_storage().await.unwrap();
        let repository = Repository::create(Arc::clone(&storage)).execute().await.unwrap();
        let splits = arrays
            .iter()
            .zip(shapes)
            .filter(|(_, shape)| !shape.grid.is_empty())
            .map(|(array, shape)| SplitRule {
                path: array.path.clone(),
                split: shape.split.clone(),
            })
            .collect();
        let additions = Additions { containers: vec![container.container().clone()], splits };
        additions.save(&repository, "memory").await.unwrap();
        let repository = Repository::open(storage).execute().await.unwrap();
        let splits = shapes.iter().map(|shape| shape.split.clone()).collect();
        Self { repository, arrays, splits, container, form, tagged: false }
    }

    pub(super) async fn store(&self, branch: &str) -> Store {
        let session = self.repository.writable_session(branch).await.unwrap();
        Store::from_session(Arc::new(RwLock::new(session))).await
    }

    pub(super) async fn create_nodes(&self, store: &Store) {
        let group = br#"{"zarr_format":3,"node_type":"group","attributes":{}}"#;
        for path in ["zarr.json", "group/zarr.json"] {
            store.set(path, Bytes::from_static(group)).await.unwrap();
        }
        for array in &self.arrays {
            let key = format!("{}/zarr.json", array.path.trim_start_matches('/'));
            store.set(&key, Bytes::from(array.document.clone())).await.unwrap();
        }
    }

    pub(super) fn locations(&self, array: usize) -> ArrayLocations {
        self.container.locations(&self.arrays[array], self.form).unwrap()
    }

    /// The locations of an array whose chunks have coordinates in the source that are greater by
    /// `shift`.
    fn shifted_locations(&self, array: usize, shift: i64) -> ArrayLocations {
        let node = &self.arrays[array];
        let shift = Shift::new(vec![shift; node.layout.ndim()]);
        let piece = Piece { shift, ..Piece::whole(0, node) };
        self.container.piece_locations(&piece, self.form).unwrap()
    }

    pub(super) fn batch(&self, part: &Part) -> ReferenceBatch {
        let array = &self.arrays[part.array];
        let split = &self.splits[part.array];
        let mut batch = ReferenceBatch::new(&array.layout, part.region.clone(), split);
        let records = records(array.layout.ndim(), &part.chunks);
        let checksum = if self.tagged { ChecksumBy::ETag } else { ChecksumBy::LastModified };
        let rules = ChunkRules { checksum, ..ChunkRules::default() };
        let added = batch.extend(&records, array, &Shift::default(), rules).unwrap();
        assert_eq!(added, part.chunks.len() as u64);
        batch
    }

    /// Commits parts directly on top of `parent`.
    pub(super) async fn try_commit(
        &self,
        branch: &str,
        parent: &SnapshotId,
        parts: &[Part],
    ) -> Result<SnapshotId> {
        self.try_commit_from(0, branch, parent, parts).await
    }

    /// The same, from a source in which coordinates are greater by `shift`.
    pub(super) async fn try_commit_from(
        &self,
        shift: i64,
        branch: &str,
        parent: &SnapshotId,
        parts: &[Part],
    ) -> Result<SnapshotId> {
        let written = self.write(shift, parent, parts).await?;
        let properties = SnapshotProperties::from([("part".to_owned(), "of a run".into())]);
        commit_manifests(&self.repository, branch, parent, "direct", properties, written).await
    }

    /// Writes the manifests of parts, to be committed after `parent`.
    pub(super) async fn write(
        &self,
        shift: i64,
        parent: &SnapshotId,
        parts: &[Part],
    ) -> Result<Vec<NewManifests>> {
        let writer = ManifestWriter::new(&self.repository, parent, 1_000);
        writer.write(parent, self.references(shift, parts)).await
    }

    /// What is to be written of parts.
    pub(super) fn references(&self, shift: i64, parts: &[Part]) -> Vec<ArrayReferences> {
        let of = |part: &Part| ArrayReferences {
            path: self.arrays[part.array].path.clone(),
            locations: self.shifted_locations(part.array, shift),
            batch: self.batch(part),
        };
        parts.iter().map(of).collect()
    }

    pub(super) async fn commit(&self, parts: &[Part]) -> SnapshotId {
        let tip = self.tip("main").await;
        self.try_commit("main", &tip, parts).await.unwrap()
    }

    /// Commits parts through a session.
    pub(super) async fn commit_by_session(&self, parts: &[Part]) -> SnapshotId {
        let store = self.store("main").await;
        for part in parts {
            let (array, locations) = (&self.arrays[part.array], self.locations(part.array));
            let times = part.chunks.iter().map(|(coords, _, time)| (coords.as_slice(), *time));
            let times: BTreeMap<_, _> = times.collect();
            let checksum = |chunk: &ChunkReference, coords: &[u32]| {
                if self.tagged {
                    Checksum::ETag(ETag(tag_of(times[coords])))
                } else {
                    Checksum::LastModified(SecondsSinceEpoch(chunk.last_modified))
                }
            };
            set_references(&store, &locations, array, self.batch(part), checksum).await;
        }
        let session = store.session();
        session.write().await.commit("session").execute().await.unwrap()
    }

    pub(super) async fn tip(&self, branch: &str) -> SnapshotId {
        self.repository.lookup_branch(branch).await.unwrap()
    }

    /// Everything that the repository says of a snapshot's chunks.
    pub(super) async fn look(&self, snapshot: &SnapshotId) -> Looks {
        let version = VersionInfo::SnapshotId(snapshot.clone());
        let session = self.repository.readonly_session(&version).await.unwrap();
        let mut looks = Looks::default();
        for array in &self.arrays {
            let path = array.path.as_str().try_into().unwrap();
            let chunks = session.array_chunk_iterator(&path).await;
            let chunks: Vec<_> = chunks.try_collect().await.unwrap();
            for chunk in chunks {
                let single = session.get_chunk_ref(&path, &chunk.coord).await.unwrap();
                assert_eq!(single.as_ref(), Some(&chunk.payload), "found by itself, too");
                let ChunkPayload::Virtual(mut reference) = chunk.payload else { panic!("native") };
                let url = session.resolve_virtual_location(&reference.location).unwrap();
                reference.location = icechunk::format::manifest::VirtualChunkLocation::from_url(
                    "vcc://compared/apart",
                )
                .unwrap();
                let said = format!("{url} {reference:?}");
                let earlier = looks.references.insert((array.path.clone(), chunk.coord.0), said);
                assert_eq!(earlier, None, "a chunk is in one manifest");
            }
            let NodeData::Array { manifests, .. } =
                session.get_node(&path).await.unwrap().node_data
            else {
                panic!("{path} is not an array")
            };
            let extents = manifests.into_iter().map(|manifest| ranges(&manifest.extents));
            looks.extents.insert(array.path.clone(), extents.collect());
        }
        let locations = session.all_virtual_chunk_locations().await.unwrap();
        looks.locations = locations.try_collect::<BTreeSet<_>>().await.unwrap();
        let files = self.repository.lookup_manifest_files(snapshot).await.unwrap();
        looks.files = files.map(|file| u64::from(file.num_chunk_refs)).collect();
        looks.files.sort_unstable();
        looks
    }

    /// The chunks that changed from one snapshot to another, by path.
    pub(super) async fn changed(
        &self,
        from: &SnapshotId,
        to: &SnapshotId,
    ) -> BTreeMap<String, BTreeSet<Vec<u32>>> {
        let version = |id: &SnapshotId| VersionInfo::SnapshotId(id.clone());
        let diff = self.repository.diff(&version(from), &version(to)).await.unwrap();
        assert!(diff.new_arrays.is_empty() && diff.updated_arrays.is_empty());
        diff.updated_chunks
            .into_iter()
            .map(|(path, chunks)| {
                (path.to_string(), chunks.into_iter().map(|chunk| chunk.0).collect())
            })
            .collect()
    }
}

/// What a repository says of a snapshot's chunks.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Looks {
    /// Path and coordinates to location, offset, length and checksum.
    pub(super) references: BTreeMap<(String, Vec<u32>), String>,
    pub(super) locations: BTreeSet<String>,
    /// The extents of each array's manifests.
    pub(super) extents: BTreeMap<String, BTreeSet<Vec<(u32, u32)>>>,
    /// References in each manifest, ascending.
    pub(super) files: Vec<u64>,
}

fn ranges(extents: &ManifestExtents) -> Vec<(u32, u32)> {
    extents.iter().map(|range| (range.start, range.end)).collect()
}

fn array(number: usize, shape: &Shape) -> ArraySpec {
    let ones = vec![1_u64; shape.grid.len()];
    let document = serde_json::json!({
        "zarr_format": 3, "node_type": "array", "shape": shape.grid, "data_type": "uint8",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": ones}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0, "codecs": [{"name": "bytes"}], "attributes": {},
    });
    let encoding = if number.is_multiple_of(2) { ("default", "/") } else { ("v2", ".") };
    let encoding = ChunkKeyEncoding::parse(encoding.0, encoding.1).unwrap();
    ArraySpec {
        path: format!("/group/array{number}"),
        source_path: format!("a#b/array{number}"),
        document: document.to_string().into_bytes(),
        layout: ArrayLayout::new(shape.grid.clone(), ones, encoding).unwrap(),
        copied: false,
    }
}

/// An `ETag` for an object of this time, of some length.
fn tag_of(time: i64) -> String {
    format!("\"{time:x}\"")
}

/// The record batch of a listing that found `chunks`.
pub(super) fn records(ndim: usize, chunks: &[Chunk]) -> RecordBatch {
    let coords: Vec<u32> = chunks.iter().flat_map(|(coords, ..)| coords.iter().copied()).collect();
    let item = Arc::new(Field::new("item", DataType::UInt32, false));
    let width = i32::try_from(ndim).unwrap();
    let coords = Arc::new(UInt32Array::from(coords));
    let coords =
        FixedSizeListArray::try_new_with_length(item, width, coords, None, chunks.len()).unwrap();
    let sizes = UInt64Array::from_iter_values(chunks.iter().map(|(_, size, _)| *size));
    let times = TimestampMicrosecondArray::from_iter_values(chunks.iter().map(|(.., time)| *time));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(coords),
        Arc::new(sizes),
        Arc::new(times.with_timezone("UTC")),
        Arc::new(StringArray::from_iter_values(chunks.iter().map(|(.., time)| tag_of(*time)))),
    ];
    let options = RecordBatchOptions::new().with_row_count(Some(chunks.len()));
    RecordBatch::try_new_with_options(chunk_schema(ndim).unwrap(), columns, &options).unwrap()
}

/// All coordinates of a box, in row-major order.
pub(super) fn coords_of(part: &ChunkBox) -> Vec<Vec<u32>> {
    part.ranges().iter().fold(vec![Vec::new()], |heads, range| {
        heads
            .iter()
            .flat_map(|head| range.clone().map(move |coord| [head.as_slice(), &[coord]].concat()))
            .collect()
    })
}
