//! Which chunks a listing shall find, and in which form.

use std::sync::Arc;

use super::records::{ChunkRecords, RecordLayout};
use crate::grid::chunk_box::ChunkBox;
use crate::zarr::metadata::ArrayNode;

/// The chunks that are wanted, and the form in which.
pub(super) struct Wanted {
    pub(super) array: ArrayNode,
    pub(super) region: ChunkBox,
    pub(super) layout: Arc<RecordLayout>,
}

impl Wanted {
    pub(super) fn records(&self) -> ChunkRecords {
        ChunkRecords::new(Arc::clone(&self.layout))
    }
}
