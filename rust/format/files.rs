//! Icechunk's metadata files, compressed while they are written.
//!
//! Icechunk's own writers take a whole file in memory before they compress it: ten times the bytes
//! that are stored. A file is a header, one zstd frame that holds a `FlatBuffers` buffer, and
//! metadata of the object, as the specification says and as Icechunk 2.3 writes it.
//!
//! See <https://icechunk.io/en/stable/spec/>, "File formats".

use std::io::Write as _;
use std::sync::Arc;

use icechunk::Repository;
use icechunk::asset_manager::AssetManager;
use icechunk::format::format_constants::{
    CompressionAlgorithmBin, FileTypeBin, ICECHUNK_CLIENT_NAME, ICECHUNK_CLIENT_NAME_METADATA_KEY,
    ICECHUNK_COMPRESSION_METADATA_KEY, ICECHUNK_COMPRESSION_ZSTD, ICECHUNK_FILE_TYPE_MANIFEST,
    ICECHUNK_FILE_TYPE_METADATA_KEY, ICECHUNK_FILE_TYPE_TRANSACTION_LOG,
    ICECHUNK_FORMAT_MAGIC_BYTES, ICECHUNK_IMPL_NAME_LEN,
    LATEST_ICECHUNK_FORMAT_VERSION_METADATA_KEY, SpecVersionBin,
};
use icechunk::format::{MANIFESTS_FILE_PATH, ManifestId, SnapshotId, TRANSACTION_LOGS_FILE_PATH};
use icechunk::storage::{
    AttributionLabels, RequestAttribution, Settings, Storage, StorageContext, StorageError,
};

use crate::Result;
use crate::error::target_error;

/// Bytes handed to the compressor at a time.
const BUFFER: usize = 64 * 1024;

/// zstd's level where the repository's configuration names none. Icechunk would take 3; tables of one
/// layout become smaller at 1, in half the time (`make bench ARGS="--only compression"`).
const COMPRESSION_LEVEL: u8 = 1;

/// Which file is written.
#[derive(Debug, Clone, Copy)]
pub(crate) enum FileId<'a> {
    Manifest(&'a ManifestId),
    /// The log of the commit that made a snapshot.
    TransactionLog(&'a SnapshotId),
}

impl FileId<'_> {
    fn path(self) -> String {
        match self {
            Self::Manifest(id) => format!("{MANIFESTS_FILE_PATH}/{id}"),
            Self::TransactionLog(id) => format!("{TRANSACTION_LOGS_FILE_PATH}/{id}"),
        }
    }

    fn file_type(self) -> (FileTypeBin, &'static str) {
        match self {
            Self::Manifest(_) => (FileTypeBin::Manifest, ICECHUNK_FILE_TYPE_MANIFEST),
            Self::TransactionLog(_) => {
                (FileTypeBin::TransactionLog, ICECHUNK_FILE_TYPE_TRANSACTION_LOG)
            }
        }
    }
}

/// Makes and stores the files of one repository.
#[derive(Clone)]
pub(crate) struct Files {
    storage: Arc<dyn Storage + Send + Sync>,
    settings: Settings,
    labels: Arc<AttributionLabels>,
    spec_version: SpecVersionBin,
    compression_level: i32,
}

impl Files {
    pub(crate) fn of(repository: &Repository) -> Self {
        // Metadata may be kept in another storage class than chunks.
        let settings = repository.storage_settings().clone();
        let storage_class = settings.metadata_storage_class().cloned();
        let configured = repository.config().compression.and_then(|compression| compression.level);
        Self {
            storage: Arc::clone(repository.storage()),
            settings: Settings { storage_class, ..settings },
            labels: Arc::new(AttributionLabels::from(repository.attribution())),
            spec_version: repository.spec_version(),
            compression_level: i32::from(configured.unwrap_or(COMPRESSION_LEVEL)),
        }
    }

    /// Begins a file whose buffer has `size` bytes.
    pub(crate) fn begin(&self, id: FileId<'_>, size: usize) -> std::io::Result<FileWriter> {
        // References compress to a tenth or less, chunks in a log to a twelfth.
        let mut bytes = Vec::with_capacity(size / 10 + 256);
        bytes.extend_from_slice(ICECHUNK_FORMAT_MAGIC_BYTES);
        let name = format!("{:<ICECHUNK_IMPL_NAME_LEN$}", *ICECHUNK_CLIENT_NAME);
        bytes.extend(name.bytes().take(ICECHUNK_IMPL_NAME_LEN));
        bytes.push(self.spec_version as u8);
        bytes.push(id.file_type().0 as u8);
        bytes.push(CompressionAlgorithmBin::Zstd as u8);
        let mut encoder = zstd::stream::write::Encoder::new(bytes, self.compression_level)?;
        // Readers then allocate the buffer once.
        encoder.set_pledged_src_size(Some(size as u64))?;
        Ok(FileWriter { encoder, buffer: Vec::with_capacity(BUFFER + 2_048) })
    }

    /// Stores a file; `array` is the path of the array that it belongs to, if it does.
    pub(crate) async fn store(
        &self,
        id: FileId<'_>,
        array: Option<&str>,
        file: Vec<u8>,
    ) -> Result<()> {
        let metadata = [
            (LATEST_ICECHUNK_FORMAT_VERSION_METADATA_KEY, (self.spec_version as u8).to_string()),
            (ICECHUNK_CLIENT_NAME_METADATA_KEY, ICECHUNK_CLIENT_NAME.clone()),
            (ICECHUNK_FILE_TYPE_METADATA_KEY, id.file_type().1.to_owned()),
            (ICECHUNK_COMPRESSION_METADATA_KEY, ICECHUNK_COMPRESSION_ZSTD.to_owned()),
        ];
        let metadata = metadata.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        let array = array.map(|path| path.trim_start_matches('/'));
        let about = RequestAttribution { labels: &self.labels, array, chunk: None };
        let context = StorageContext::new(&self.settings, about);
        let path = id.path();
        let failed = |error: &StorageError| target_error(&format!("write {path}"), &error.kind);
        self.storage
            .put_object(&context, &path, file.into(), None, metadata, None)
            .await
            .and_then(icechunk::storage::VersionedUpdateResult::must_write)
            .map_err(|error| failed(&error))?;
        Ok(())
    }
}

/// Reads and writes a repository's files without keeping any: for what is large and needed once.
pub(crate) fn without_cache(repository: &Repository) -> AssetManager {
    AssetManager::new_no_cache(
        Arc::clone(repository.storage()),
        repository.storage_settings().clone(),
        repository.spec_version(),
        repository.config().compression().level(),
        repository.config().max_concurrent_requests(),
    )
}

/// A file that is being compressed.
pub(crate) struct FileWriter {
    encoder: zstd::stream::write::Encoder<'static, Vec<u8>>,
    buffer: Vec<u8>,
}

impl FileWriter {
    /// Where the next bytes go; call [`flush`](Self::flush) now and then.
    pub(crate) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// Compresses what was written when it is worth it.
    pub(crate) fn flush(&mut self) -> std::io::Result<()> {
        if self.buffer.len() >= BUFFER {
            self.encoder.write_all(&self.buffer)?;
            self.buffer.clear();
        }
        Ok(())
    }

    /// Compresses `bytes` after what was written.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.encoder.write_all(&self.buffer)?;
        self.buffer.clear();
        self.encoder.write_all(bytes)
    }

    /// The file.
    pub(crate) fn finish(mut self) -> std::io::Result<Vec<u8>> {
        self.encoder.write_all(&self.buffer)?;
        let mut file = self.encoder.finish()?;
        file.shrink_to_fit();
        Ok(file)
    }
}
