//! How references name their objects: the locations of an array's chunks, below a prefix that
//! `container` decides on. Whether an object is there is not known here.

use std::borrow::Cow;

use icechunk::format::manifest::VirtualChunkLocation;

use crate::grid::piece::Shift;
use crate::zarr::key::{ChunkKeyEncoding, decimal_len, push_decimal};
use crate::zarr::metadata::ArraySpec;
use crate::{Error, ErrorKind, Result};

/// Icechunk's limit for a location, in bytes.
const LONGEST_LOCATION: usize = 1_024;

/// How references name their objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum Locations {
    /// `vcc://container/key`: relative to a named container, whose prefix can be changed later.
    #[default]
    Relative,
    /// The object's whole URL, for readers that know no named containers.
    Absolute,
}

impl Locations {
    /// Its name in options and in what is stored.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Relative => "relative",
            Self::Absolute => "absolute",
        }
    }
}

/// The locations of one array's chunks, each of which Icechunk can hold.
#[derive(Debug, Clone)]
pub struct ArrayLocations {
    /// What every location begins with, in the form that Icechunk stores.
    prefix: String,
    /// The same in the form that is not written: relative or absolute.
    other: Option<String>,
    encoding: ChunkKeyEncoding,
    /// To the chunks' coordinates in the source.
    shift: Shift,
}

impl ArrayLocations {
    pub(super) fn new(prefix: &str, array: &ArraySpec) -> Result<Self> {
        let unsupported = |what: String| {
            Error::new(ErrorKind::UnsupportedArray, what)
                .with_hint("move the store to a shorter, plainer path")
        };
        let last = |extent: &u64| u32::try_from(extent.saturating_sub(1)).unwrap_or(u32::MAX);
        let last: Vec<_> = array.layout.grid_shape().iter().map(last).collect();
        let encoding = array.layout.encoding();
        let key = encoding.encode(&last);
        let url = format!("{prefix}{key}");
        let location = VirtualChunkLocation::from_url(&url).map_err(|error| {
            unsupported(format!(
                "array {} has the chunk location {url}: {}",
                array.path, error.kind
            ))
        })?;
        let longest = location.url().len();
        if longest > LONGEST_LOCATION {
            return Err(unsupported(format!(
                "the chunk locations of array {} are {longest} bytes long; Icechunk allows {}",
                array.path, LONGEST_LOCATION
            )));
        }
        // Icechunk normalises URLs of files; chunk keys consist of unreserved characters, so that
        // nothing in them is ever changed.
        let Some(prefix) = location.url().strip_suffix(&key) else {
            return Err(unsupported(format!(
                "array {} has the chunk location {url}, which Icechunk changes to {}",
                array.path,
                location.url()
            )));
        };
        let (prefix, other, shift) = (prefix.to_owned(), None, Shift::default());
        Ok(Self { prefix, other, encoding, shift })
    }

    /// The same for chunks of a piece, with what locations of the other form begin with.
    pub(super) fn of_piece(self, other: Option<Self>, shift: Shift) -> Self {
        Self { other: other.map(|other| other.prefix), shift, ..self }
    }

    fn in_source<'a>(&self, coords: &'a [u32]) -> Cow<'a, [u32]> {
        if self.shift.is_none() {
            return Cow::Borrowed(coords);
        }
        let mut moved = coords.to_vec();
        self.shift.to_source(&mut moved);
        Cow::Owned(moved)
    }

    /// The location of the chunk at `coords`.
    #[must_use]
    pub fn url(&self, coords: &[u32]) -> String {
        format!("{}{}", self.prefix, self.key(coords))
    }

    /// The key of the chunk at `coords` below its array in the source.
    #[must_use]
    pub fn key(&self, coords: &[u32]) -> String {
        self.encoding.encode(&self.in_source(coords))
    }

    /// Whether a location, relative or absolute, is that of the chunk at `coords`.
    #[must_use]
    pub fn is_of(&self, location: &str, coords: &[u32]) -> bool {
        let key = |prefix: &str| location.strip_prefix(prefix) == Some(self.key(coords).as_str());
        key(&self.prefix) || self.other.as_deref().is_some_and(key)
    }
}

/// The locations of an array's chunks, row by row: those of a row differ in their last coordinate only.
#[derive(Debug)]
pub(crate) struct RowLocations<'a> {
    locations: &'a ArrayLocations,
    /// What all of the row begin with: everything but the last coordinate.
    head: Vec<u8>,
    /// The last coordinate in the source minus that in the target; a scalar has none.
    shift: Option<i64>,
}

impl<'a> RowLocations<'a> {
    /// No row yet.
    pub(crate) fn new(locations: &'a ArrayLocations) -> Self {
        Self { locations, head: Vec::new(), shift: None }
    }

    /// Begins the row of the chunk at `coords`.
    pub(crate) fn enter(&mut self, coords: &[u32]) {
        let source = self.locations.in_source(coords);
        self.head.clear();
        self.head.extend_from_slice(self.locations.prefix.as_bytes());
        self.locations.encoding.encode_into(&source, &mut self.head);
        let last = source.last().zip(coords.last());
        self.shift = last.map(|(source, target)| {
            self.head.truncate(self.head.len() - decimal_len(*source));
            i64::from(*source) - i64::from(*target)
        });
    }

    /// What all of them begin with.
    pub(crate) fn head(&self) -> &[u8] {
        &self.head
    }

    fn last(&self, coords: &[u32]) -> Option<u32> {
        let last = i64::from(*coords.last()?) + self.shift?;
        Some(u32::try_from(last).unwrap_or(u32::MAX))
    }

    /// Bytes of the location of the row's chunk at `coords`.
    pub(crate) fn length(&self, coords: &[u32]) -> usize {
        self.head.len() + self.last(coords).map_or(0, decimal_len)
    }

    /// Appends what follows the [head](Self::head) in the location of the row's chunk at `coords`.
    pub(crate) fn push_rest(&self, coords: &[u32], text: &mut Vec<u8>) {
        if let Some(last) = self.last(coords) {
            push_decimal(last, text);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_locations_of_a_row_are_those_of_its_chunks(
            rows in proptest::collection::vec(proptest::collection::vec(150_u32..200, 3), 1..4),
            ndim in 0_usize..4,
            shift in proptest::collection::vec(-150_i64..2_000, 3),
            name in prop_oneof![Just("default"), Just("v2")],
            separator in prop_oneof![Just("/"), Just(".")],
        ) {
            let locations = ArrayLocations {
                prefix: "vcc://source/".to_owned(),
                other: None,
                encoding: ChunkKeyEncoding::parse(name, separator).unwrap(),
                shift: Shift::new(shift[..ndim].to_vec()),
            };
            let mut row = RowLocations::new(&locations);
            for coords in rows {
                let mut coords = coords[..ndim].to_vec();
                row.enter(&coords);
                for last in [150, 159, 160, 249, 250, 157] {
                    if let Some(coord) = coords.last_mut() {
                        *coord = last;
                    }
                    let mut text = row.head().to_vec();
                    row.push_rest(&coords, &mut text);
                    prop_assert_eq!(row.length(&coords), text.len());
                    prop_assert_eq!(String::from_utf8(text).unwrap(), locations.url(&coords));
                }
            }
        }
    }
}
