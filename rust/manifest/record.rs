//! The bytes of one reference in a manifest: its layout, its table, its coordinates, its location and
//! its tag if it has one, in this order.
//!
//! What a row of chunks has in common is put together once.

use icechunk::format::flatbuffers::generated::ChunkRef;

use crate::batch::{Packed, Tags};
use crate::format::flat::{layout, own_layout, small};
use crate::target::locations::{ArrayLocations, RowLocations};

/// From a reference's beginning to its table: the layout, with room for a number of 64 bits in the
/// table to begin at a multiple of 8.
pub(super) const TABLE: usize = 20;

/// Places in the table.
const INDEX: u16 = 4;
const LOCATION: u16 = 8;
const LENGTH: u16 = 12;
const CHECKSUM: u16 = 20;
const TABLE_SIZE: u16 = 24;

/// From a reference's beginning to the number of its coordinates, right behind the table.
const COORDS: usize = TABLE + TABLE_SIZE as usize;

/// Writes the references of one array, row by row.
pub(super) struct Records<'a> {
    tags: Option<&'a Tags>,
    ndim: usize,
    row: RowLocations<'a>,
    /// A reference of the row up to where its location has its last coordinate.
    template: Vec<u8>,
}

impl<'a> Records<'a> {
    /// References with `tags`, if there are some, or times.
    pub(super) fn new(locations: &'a ArrayLocations, tags: Option<&'a Tags>, ndim: usize) -> Self {
        let checksum = match tags {
            None => ChunkRef::VT_CHECKSUM_LAST_MODIFIED,
            Some(_) => ChunkRef::VT_CHECKSUM_ETAG,
        };
        let layout = layout(
            TABLE_SIZE,
            &[
                (ChunkRef::VT_INDEX, INDEX),
                (ChunkRef::VT_LOCATION, LOCATION),
                (ChunkRef::VT_LENGTH, LENGTH),
                (checksum, CHECKSUM),
            ],
        );
        let mut template = own_layout(layout, TABLE);
        // An offset leads from where it is stored.
        template.extend(small(COORDS - TABLE - usize::from(INDEX)).to_le_bytes());
        let location = COORDS + 4 + 4 * ndim;
        template.extend(small(location - TABLE - usize::from(LOCATION)).to_le_bytes());
        template.resize(COORDS, 0);
        template.extend(small(ndim).to_le_bytes());
        Self { tags, ndim, row: RowLocations::new(locations), template }
    }

    /// Begins the row of the chunk at `coords`.
    pub(super) fn enter(&mut self, coords: &[u32]) {
        self.row.enter(coords);
        self.template.truncate(COORDS + 4);
        self.template.extend(coords.iter().flat_map(|coord| coord.to_le_bytes()));
        self.template.extend([0; 4]);
        self.template.extend_from_slice(self.row.head());
    }

    /// From a reference's beginning to its location.
    fn location_place(&self) -> usize {
        COORDS + 4 + 4 * self.ndim
    }

    /// From a reference's beginning to its tag, behind a location of `length` bytes.
    fn tag_place(&self, length: usize) -> usize {
        (self.location_place() + 4 + length + 1).next_multiple_of(4)
    }

    fn tag(&self, reference: Packed) -> Option<&'a str> {
        Some(self.tags?.get(reference.tag()))
    }

    /// Bytes of the reference to the row's chunk at `coords`. All begin at multiples of 8.
    pub(super) fn size(&self, reference: Packed, coords: &[u32]) -> usize {
        self.size_with(self.row.length(coords), self.tag(reference))
    }

    /// Location and tag have their number before them and a zero at their end.
    fn size_with(&self, length: usize, tag: Option<&str>) -> usize {
        let end = match tag {
            None => self.location_place() + 4 + length + 1,
            Some(tag) => self.tag_place(length) + 4 + tag.len() + 1,
        };
        end.next_multiple_of(8)
    }

    /// Appends the reference to the row's chunk at `coords`, and gives back its bytes.
    pub(super) fn write(&self, reference: Packed, coords: &[u32], buffer: &mut Vec<u8>) -> usize {
        let before = buffer.len();
        let length = self.row.length(coords);
        let tag = self.tag(reference);
        let checksum = match tag {
            None => reference.seconds(),
            Some(_) => small(self.tag_place(length) - TABLE - usize::from(CHECKSUM)),
        };
        buffer.extend_from_slice(&self.template);
        let mut put = |place: usize, bytes: &[u8]| {
            if let Some(there) = buffer.get_mut(before + place..before + place + bytes.len()) {
                there.copy_from_slice(bytes);
            }
        };
        put(TABLE + usize::from(LENGTH), &reference.size().to_le_bytes());
        put(TABLE + usize::from(CHECKSUM), &checksum.to_le_bytes());
        if let Some(last) = coords.last() {
            put(self.location_place() - 4, &last.to_le_bytes());
        }
        put(self.location_place(), &small(length).to_le_bytes());
        self.row.push_rest(coords, buffer);
        if let Some(tag) = tag {
            buffer.resize(before + self.tag_place(length), 0);
            buffer.extend_from_slice(&small(tag.len()).to_le_bytes());
            buffer.extend_from_slice(tag.as_bytes());
        }
        let size = self.size_with(length, tag);
        debug_assert!(buffer.len() - before < size);
        buffer.resize(before + size, 0);
        size
    }
}
