//! Transaction logs: what a commit touched, which rebases of other clients look at.
//!
//! A log lists every chunk; an empty one would let a concurrent change of the same chunk pass. It
//! is compressed while it is written: every part of it has a size that is known beforehand.

use std::io;

use icechunk::format::flatbuffers::generated;
use icechunk::format::transaction_log::TransactionLog;
use icechunk::format::{NodeId, SnapshotId};

use crate::error::target_error;
use crate::format::files::{FileId, FileWriter, Files};
use crate::format::flat::{FlatStart, fits, layout, own_layout, root_field, small};
use crate::manifest::CommittedChunks;
use crate::{Error, ErrorKind, Result};

/// From an array's beginning to its table: the layout.
const ARRAY_TABLE: usize = 8;
/// Bytes of an array's table: the distance to its layout, id and list.
const ARRAY: u16 = 16;
/// From a chunk's beginning to its table: the layout.
const CHUNK_TABLE: usize = 8;
/// Bytes of a chunk's table: the distance to its layout, and coordinates.
const CHUNK: u16 = 8;

/// The log of a commit that set chunks, and changed the metadata of arrays; `arrays` are sorted
/// by id, each id once, and so are the ids in `updated`.
pub(super) fn change_log(
    files: &Files,
    id: &SnapshotId,
    updated: &[NodeId],
    arrays: &[(NodeId, CommittedChunks)],
) -> Result<Vec<u8>> {
    let start = beginning(id, updated, arrays.len());
    let first = start.len() + 4 * arrays.len();
    let size = arrays
        .iter()
        .map(|(_, chunks)| Sizes::of(chunks).array())
        .fold(first, usize::saturating_add);
    if !fits(size) {
        return Err(Error::new(
            ErrorKind::Target,
            "the transaction log of a commit would be larger than 2 GiB",
        )
        .with_hint("use fewer --max-refs-per-commit"));
    }
    let write = || {
        let mut writer = files.begin(FileId::TransactionLog(id), size)?;
        writer.write(&start)?;
        let mut position = first;
        for (number, (_, chunks)) in arrays.iter().enumerate() {
            let offset = small(position + ARRAY_TABLE - (start.len() + 4 * number));
            writer.buffer().extend_from_slice(&offset.to_le_bytes());
            writer.flush()?;
            position += Sizes::of(chunks).array();
        }
        for (node_id, chunks) in arrays {
            write_array(&mut writer, node_id, chunks)?;
        }
        writer.finish()
    };
    write().map_err(|error| target_error("compress a transaction log", &error))
}

/// Writes the chunks of one array.
fn write_array(
    writer: &mut FileWriter,
    node_id: &NodeId,
    chunks: &CommittedChunks,
) -> io::Result<()> {
    use generated::{ArrayUpdatedChunks, ChunkIndices};
    let sizes = Sizes::of(chunks);
    let layout =
        layout(ARRAY, &[(ArrayUpdatedChunks::VT_NODE_ID, 4), (ArrayUpdatedChunks::VT_CHUNKS, 12)]);
    let buffer = writer.buffer();
    buffer.extend(own_layout(layout, ARRAY_TABLE));
    buffer.extend_from_slice(&node_id.0);
    // The list follows, and its offsets lead to one chunk after the other.
    buffer.extend_from_slice(&4_u32.to_le_bytes());
    buffer.extend_from_slice(&small(sizes.chunks).to_le_bytes());
    let mut offset = 4 * sizes.chunks + CHUNK_TABLE;
    for _ in 0..sizes.chunks {
        writer.buffer().extend_from_slice(&small(offset).to_le_bytes());
        writer.flush()?;
        offset += sizes.chunk - 4;
    }
    let mut chunk = own_layout(self::layout(CHUNK, &[(ChunkIndices::VT_COORDS, 4)]), CHUNK_TABLE);
    chunk.extend_from_slice(&4_u32.to_le_bytes());
    chunk.extend_from_slice(&small(chunks.ndim()).to_le_bytes());
    let begin = chunk.len();
    chunks.for_each(|coords| {
        chunk.truncate(begin);
        for coord in coords {
            chunk.extend_from_slice(&coord.to_le_bytes());
        }
        writer.buffer().extend_from_slice(&chunk);
        writer.flush()
    })
}

/// How many bytes the chunks of one array take.
struct Sizes {
    chunks: usize,
    /// One chunk: its layout, its table, the number of its coordinates, and those.
    chunk: usize,
}

impl Sizes {
    fn of(chunks: &CommittedChunks) -> Self {
        Self {
            chunks: usize::try_from(chunks.len()).unwrap_or(usize::MAX),
            chunk: CHUNK_TABLE + usize::from(CHUNK) + 4 + 4 * chunks.ndim(),
        }
    }

    /// The array's layout and table, the list's length, and an offset and a chunk each.
    fn array(&self) -> usize {
        (ARRAY_TABLE + usize::from(ARRAY) + 4)
            .saturating_add(self.chunks.saturating_mul(4 + self.chunk))
    }
}

/// Everything before the offsets of `arrays` arrays.
fn beginning(id: &SnapshotId, changed: &[NodeId], arrays: usize) -> Vec<u8> {
    use generated::TransactionLog as Log;
    let (mut start, root) = FlatStart::new();
    // The lists that stay empty, and then those of arrays and of chunks.
    let fields = [
        Log::VT_NEW_GROUPS,
        Log::VT_NEW_ARRAYS,
        Log::VT_DELETED_GROUPS,
        Log::VT_DELETED_ARRAYS,
        Log::VT_UPDATED_GROUPS,
        Log::VT_MOVED_NODES,
        Log::VT_UPDATED_ARRAYS,
        Log::VT_UPDATED_CHUNKS,
    ];
    let places = fields.into_iter().zip((16..).step_by(4));
    let places: Vec<_> = [(Log::VT_ID, 4)].into_iter().chain(places).collect();
    let log = start.layout(48, &places);
    start.table(root, log);
    start.raw(&id.0);
    let empty: Vec<_> = (0..6).map(|_| start.slot()).collect();
    let (metadata, chunks) = (start.slot(), start.slot());
    // One list of no elements serves for all of them.
    for slot in empty {
        start.link(slot);
    }
    start.raw(&0_u32.to_le_bytes());
    start.vector(metadata, changed.len());
    for node_id in changed {
        start.raw(&node_id.0);
    }
    start.vector(chunks, arrays);
    start.finish()
}

/// The same log for another snapshot.
pub(super) fn with_id(files: &Files, log: &TransactionLog, id: &SnapshotId) -> Result<Vec<u8>> {
    let bytes = log.bytes();
    let at = root_field(bytes, generated::TransactionLog::VT_ID);
    let parts = at.and_then(|at| Some((bytes.get(..at)?, bytes.get(at + id.0.len()..)?)));
    let (before, after) =
        parts.ok_or_else(|| Error::new(ErrorKind::Target, "a transaction log has no id"))?;
    let write = || {
        let mut writer = files.begin(FileId::TransactionLog(id), bytes.len())?;
        for part in [before, &id.0, after] {
            writer.write(part)?;
        }
        writer.finish()
    };
    write().map_err(|error: io::Error| target_error("compress a transaction log", &error))
}
