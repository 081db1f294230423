//! Writes the beginning of a `FlatBuffers` file: its layouts, its first tables, its offsets.
//!
//! The general builder writes back to front, into one buffer, and looks at the layout of every
//! table anew. Manifests and transaction logs hold millions of tables of one layout: here each is a
//! few integers, and because the size of every table is known before it is written, what follows the
//! beginning can be streamed into a compressor. Nothing is checked here; tests have Icechunk verify
//! what is made.
//!
//! Of those millions each has the layout right before it, where the general builder would let all of
//! them lead back to one. The distance back is then the same number everywhere, and zstd finds the
//! layout and the table in one piece: with one layout for all, a hundred thousand distances that
//! differ took a third of a manifest's bytes and half of a log's.
//!
//! See <https://flatbuffers.dev/internals/> for the format: an offset leads forward from where it
//! is stored, a table begins with the distance back to its layout, everything is little-endian.

/// Icechunk's file identifier.
const IDENTIFIER: &[u8; 4] = b"Ichk";

/// The position of a table's layout (vtable).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layout(usize);

/// The position of an offset that is not known yet.
#[derive(Debug, Clone, Copy)]
#[must_use]
pub(crate) struct Slot(usize);

/// The beginning of a file.
#[derive(Debug)]
pub(crate) struct FlatStart {
    bytes: Vec<u8>,
}

impl FlatStart {
    /// Begins a file; gives back where the offset of its root table goes.
    pub(crate) fn new() -> (Self, Slot) {
        let mut start = Self { bytes: Vec::with_capacity(256) };
        let root = start.slot();
        start.bytes.extend_from_slice(IDENTIFIER);
        (start, root)
    }

    /// Writes a [layout].
    pub(crate) fn layout(&mut self, size: u16, fields: &[(u16, u16)]) -> Layout {
        let position = self.bytes.len();
        self.bytes.extend(layout(size, fields));
        Layout(position)
    }

    /// Begins a table, and lets `slot` lead to it; its fields follow in the order of their places.
    pub(crate) fn table(&mut self, slot: Slot, layout: Layout) {
        self.link(slot);
        let back = layout.distance(self.bytes.len());
        self.raw(&back.to_le_bytes());
    }

    /// Begins a vector of four-byte elements, and lets `slot` lead to it.
    pub(crate) fn vector(&mut self, slot: Slot, length: usize) {
        self.link(slot);
        self.raw(&small(length).to_le_bytes());
    }

    /// Leaves room for an offset.
    pub(crate) fn slot(&mut self) -> Slot {
        let slot = Slot(self.bytes.len());
        self.raw(&[0; 4]);
        slot
    }

    /// Lets an offset lead to what is written next.
    pub(crate) fn link(&mut self, slot: Slot) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        let distance = small(self.bytes.len() - slot.0);
        if let Some(bytes) = self.bytes.get_mut(slot.0..slot.0 + 4) {
            bytes.copy_from_slice(&distance.to_le_bytes());
        }
    }

    /// Writes a table's fields.
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The bytes.
    pub(crate) fn finish(self) -> Vec<u8> {
        self.bytes
    }
}

impl Layout {
    /// What a table at `position` begins with.
    fn distance(self, position: usize) -> u32 {
        small(position - self.0)
    }
}

/// The bytes of a layout: `size` bytes for a table, its own distance of 4 included, and the place
/// of each field in it by the field's number in the schema (`VT_…`).
pub(crate) fn layout(size: u16, fields: &[(u16, u16)]) -> Vec<u8> {
    let last = fields.iter().map(|(field, _)| *field).max().unwrap_or(2);
    let mut table = vec![0_u16; usize::from(last) / 2 + 1];
    for (number, place) in [(0, last + 2), (2, size)].iter().chain(fields) {
        if let Some(entry) = table.get_mut(usize::from(*number) / 2) {
            *entry = *place;
        }
    }
    table.into_iter().flat_map(u16::to_le_bytes).collect()
}

/// The beginning of tables that are all alike: their layout, filled up to `size` bytes, and the
/// distance back to it, with which the table begins.
pub(crate) fn own_layout(mut layout: Vec<u8>, size: usize) -> Vec<u8> {
    debug_assert!(layout.len() <= size && size.is_multiple_of(4));
    layout.resize(size, 0);
    layout.extend_from_slice(&small(size).to_le_bytes());
    layout
}

/// Whether a file of `bytes` can be read: offsets are of 31 bits.
pub(crate) fn fits(bytes: usize) -> bool {
    i32::try_from(bytes).is_ok()
}

/// A distance or a length in a file that [fits](fits).
pub(crate) fn small(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// Where a file's root table stores its field `field` (`VT_…`).
pub(crate) fn root_field(file: &[u8], field: u16) -> Option<usize> {
    let at = |position: usize| file.get(position..position.checked_add(4)?)?.try_into().ok();
    let root = usize::try_from(u32::from_le_bytes(at(0)?)).ok()?;
    let layout = i64::try_from(root).ok()? - i64::from(i32::from_le_bytes(at(root)?));
    let entry = usize::try_from(layout).ok()?.checked_add(usize::from(field))?;
    let place = u16::from_le_bytes(file.get(entry..entry.checked_add(2)?)?.try_into().ok()?);
    root.checked_add(usize::from(place))
}
