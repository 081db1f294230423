//! A small Zarr store in a temporary folder, the job that ingests it, and ways to look at results.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use icechunk::Repository;
use icechunk::config::Credentials;
use icechunk::format::manifest::ChunkPayload;
use icechunk::format::{ByteRange, ChunkIndices};
use icechunk::repository::VersionInfo;
use icechunk::session::{Session, get_chunk};
use icechunk::storage::new_local_filesystem_storage;
use refreeze::batch::{ChecksumBy, EmptyChunks};
use refreeze::jobs::ingest::{Finish, IngestJob, JobArray, JobSource, Mode};
use refreeze::list::limit::Concurrency;
use refreeze::plan::LimitOptions;
use refreeze::source::{LocalSource, Source};
use refreeze::target::TargetLocation;
use refreeze::target::locations::Locations;
use refreeze::zarr::key::ChunkKeyEncoding;
use refreeze::zarr::metadata::{ArrayLayout, ArraySpec, GroupSpec};
use tempfile::TempDir;

/// Chunks of `/air`, which has room for one more that is not there.
pub(crate) const CHUNKS: [u32; 3] = [0, 1, 3];

/// A folder with a store in `air.zarr` and room for a repository in `repo`.
pub(crate) struct Scenario {
    folder: TempDir,
}

impl Scenario {
    pub(crate) fn new() -> Self {
        let scenario = Self { folder: tempfile::tempdir().unwrap() };
        for chunk in CHUNKS {
            scenario.write(&format!("air/c/{chunk}"), &[u8::try_from(chunk).unwrap(); 2]);
        }
        scenario.write("time/c/0", b"copied");
        scenario
    }

    pub(crate) fn write(&self, key: &str, bytes: &[u8]) {
        let path = self.source().join(key);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    pub(crate) fn source(&self) -> PathBuf {
        self.folder.path().join("air.zarr")
    }

    pub(crate) fn target(&self) -> PathBuf {
        self.folder.path().join("repo")
    }

    /// An ingest of `/air` by reference and `/time` by copy, one reference a commit.
    pub(crate) fn job(&self) -> IngestJob {
        let source = JobSource {
            source: Source::Local(LocalSource::new(self.source()).unwrap()),
            url: self.source().display().to_string(),
        };
        let arrays = vec![array("air", 4, 1, false), array("time", 6, 6, true)];
        let limits = LimitOptions {
            references_per_manifest: Some(2),
            references_per_commit: Some(1),
            concurrency: Concurrency::Fixed(4),
            ..LimitOptions::default()
        };
        job_of(source, TargetLocation::Local(self.target()), arrays, limits)
    }

    pub(crate) async fn repository(&self) -> Repository {
        open(&self.target()).await
    }
}

/// An ingest of whole arrays into `main`, with defaults for all else.
pub(crate) fn job_of(
    source: JobSource,
    target: TargetLocation,
    arrays: Vec<ArraySpec>,
    limits: LimitOptions,
) -> IngestJob {
    IngestJob {
        crew: None,
        sources: vec![source],
        target,
        branch: "main".to_owned(),
        mode: Mode::Create,
        base: None,
        replaced: Vec::new(),
        added: Vec::new(),
        plan: String::new(),
        listing: None,
        groups: vec![GroupSpec {
            path: "/".to_owned(),
            document: br#"{"zarr_format":3,"node_type":"group","attributes":{}}"#.to_vec(),
            from_source: true,
        }],
        arrays: arrays.into_iter().map(JobArray::whole).collect(),
        empty_chunks: EmptyChunks::Error,
        checksum: ChecksumBy::default(),
        locations: Locations::Relative,
        limits,
        message: None,
        finish: Finish::default(),
        decoder: None,
        restart: false,
        keep_checksum: false,
        unsafe_target: false,
    }
}

pub(crate) fn array(name: &str, length: u64, chunk: u64, copied: bool) -> ArraySpec {
    let document = format!(
        r#"{{"zarr_format":3,"node_type":"array","shape":[{length}],"data_type":"uint8",
        "chunk_grid":{{"name":"regular","configuration":{{"chunk_shape":[{chunk}]}}}},
        "chunk_key_encoding":{{"name":"default","configuration":{{"separator":"/"}}}},
        "fill_value":0,"codecs":[{{"name":"bytes"}}],"dimension_names":["{name}"],
        "attributes":{{}}}}"#
    );
    let encoding = ChunkKeyEncoding::parse("default", "/").unwrap();
    ArraySpec {
        path: format!("/{name}"),
        source_path: name.to_owned(),
        document: document.into_bytes(),
        layout: ArrayLayout::new(vec![length], vec![chunk], encoding).unwrap(),
        copied,
    }
}

/// Opens a repository with access to every container that it knows.
pub(crate) async fn open(folder: &Path) -> Repository {
    let storage = new_local_filesystem_storage(folder).await.unwrap();
    let repository = Repository::open(storage).execute().await.unwrap();
    let access: HashMap<_, _> = repository
        .config()
        .virtual_chunk_containers()
        .map(|container| {
            (container.url_prefix().to_owned(), Some(Credentials::LocalFileSystemAccess))
        })
        .collect();
    repository.reopen(None, Some(access)).await.unwrap()
}

pub(crate) async fn session(repository: &Repository, branch: &str) -> Session {
    let version = VersionInfo::BranchTipRef(branch.to_owned());
    repository.readonly_session(&version).await.unwrap()
}

/// The bytes of a chunk, as a reader gets them.
pub(crate) async fn chunk(session: &Session, path: &str, index: u32) -> Option<Bytes> {
    let path = path.try_into().unwrap();
    let coords = ChunkIndices(vec![index]);
    let reader = session.get_chunk_reader(&path, &coords, &ByteRange::ALL).await.unwrap();
    get_chunk(reader).await.unwrap()
}

/// How the repository refers to a chunk.
pub(crate) async fn payload(session: &Session, path: &str, index: u32) -> Option<ChunkPayload> {
    let coords = ChunkIndices(vec![index]);
    session.get_chunk_ref(&path.try_into().unwrap(), &coords).await.unwrap()
}

/// Paths of the nodes on a branch.
pub(crate) async fn nodes(repository: &Repository, branch: &str) -> Vec<String> {
    let session = session(repository, branch).await;
    let root = icechunk::format::Path::root();
    let nodes = session.list_nodes(&root).await.unwrap();
    let mut paths: Vec<_> = nodes.map(|node| node.unwrap().path.to_string()).collect();
    paths.sort();
    paths
}
