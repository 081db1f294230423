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
use crate::format::flat::{FlatStart, Layout, fits, root_field, small};
use crate::manifest::CommittedChunks;
use crate::{Error, ErrorKind, Result};

/// Bytes of an array's table: its layout, id and list.
const ARRAY: u16 = 16;
/// Bytes of a chunk's table: its layout and coordinates.
const CHUNK: u16 = 8;

/// The log of a commit that set chunks, and changed the metadata of arrays; `arrays` are sorted
/// by id, each id once, and so are the ids in `updated`.
pub(super) fn change_log(
    files: &Files,
    id: &SnapshotId,
    updated: &[NodeId],
    arrays: &[(NodeId, CommittedChunks)],
) -> Result<Vec<u8>> {
    let (start, layouts) = beginning(id, updated, arrays.len());
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
            let offset = small(position - (start.len() + 4 * number));
            writer.buffer().extend_from_slice(&offset.to_le_bytes());
            writer.flush()?;
            position += Sizes::of(chunks).array();
        }
        let mut position = first;
        for (node_id, chunks) in arrays {
            write_array(&mut writer, &layouts, position, node_id, chunks)?;
            position += Sizes::of(chunks).array();
        }
        writer.finish()
    };
    write().map_err(|error| target_error("compress a transaction log", &error))
}

/// Writes the chunks of one array, at `position` in the file.
fn write_array(
    writer: &mut FileWriter,
    layouts: &Layouts,
    position: usize,
    node_id: &NodeId,
    chunks: &CommittedChunks,
) -> io::Result<()> {
    let sizes = Sizes::of(chunks);
    let buffer = writer.buffer();
    buffer.extend_from_slice(&layouts.array.distance(position).to_le_bytes());
    buffer.extend_from_slice(&node_id.0);
    // The list follows, and its offsets lead to one chunk after the other.
    buffer.extend_from_slice(&4_u32.to_le_bytes());
    buffer.extend_from_slice(&small(sizes.chunks).to_le_bytes());
    let mut offset = 4 * sizes.chunks;
    for _ in 0..sizes.chunks {
        writer.buffer().extend_from_slice(&small(offset).to_le_bytes());
        writer.flush()?;
        offset += sizes.chunk - 4;
    }
    let mut position = position + usize::from(ARRAY) + 4 + 4 * sizes.chunks;
    let mut coords = vec![0; chunks.ndim()];
    chunks.for_each_index(|index| {
        chunks.write_coords(index, &mut coords);
        let buffer = writer.buffer();
        buffer.extend_from_slice(&layouts.chunk.distance(position).to_le_bytes());
        buffer.extend_from_slice(&4_u32.to_le_bytes());
        buffer.extend_from_slice(&small(coords.len()).to_le_bytes());
        for coord in &coords {
            buffer.extend_from_slice(&coord.to_le_bytes());
        }
        position += sizes.chunk;
        writer.flush()
    })
}

/// How many bytes the chunks of one array take.
struct Sizes {
    chunks: usize,
    /// One chunk: its table, the number of its coordinates, and those.
    chunk: usize,
}

impl Sizes {
    fn of(chunks: &CommittedChunks) -> Self {
        Self {
            chunks: usize::try_from(chunks.len()).unwrap_or(usize::MAX),
            chunk: usize::from(CHUNK) + 4 + 4 * chunks.ndim(),
        }
    }

    /// The array's table, the list's length, and an offset and a chunk each.
    fn array(&self) -> usize {
        (usize::from(ARRAY) + 4).saturating_add(self.chunks.saturating_mul(4 + self.chunk))
    }
}

struct Layouts {
    array: Layout,
    chunk: Layout,
}

/// Everything before the offsets of `arrays` arrays.
fn beginning(id: &SnapshotId, changed: &[NodeId], arrays: usize) -> (Vec<u8>, Layouts) {
    use generated::{ArrayUpdatedChunks, ChunkIndices, TransactionLog as Log};
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
    let layouts = Layouts {
        array: start.layout(
            ARRAY,
            &[(ArrayUpdatedChunks::VT_NODE_ID, 4), (ArrayUpdatedChunks::VT_CHUNKS, 12)],
        ),
        chunk: start.layout(CHUNK, &[(ChunkIndices::VT_COORDS, 4)]),
    };
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
    (start.finish(), layouts)
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
