//! Which chunks a listing shall find, and in which form.

use std::sync::Arc;

use super::records::{ChunkRecords, RecordLayout};
use crate::grid::chunk_box::ChunkBox;
use crate::zarr::metadata::ArraySpec;

/// What to do about a symbolic link under a chunk's key that leads nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DanglingLinks {
    /// Stop: the chunk is there for whoever fetches it.
    #[default]
    Error,
    /// Count it, as a missing chunk.
    Skip,
}

/// The chunks that are wanted, and the form in which.
pub(super) struct Wanted {
    pub(super) array: ArraySpec,
    pub(super) region: ChunkBox,
    pub(super) layout: Arc<RecordLayout>,
    pub(super) dangling_links: DanglingLinks,
    /// Objects without a time are taken.
    pub(super) undated: bool,
}

impl Wanted {
    pub(super) fn records(&self) -> ChunkRecords {
        ChunkRecords::new(Arc::clone(&self.layout))
    }
}
