//! Pieces: boxes of an array's chunk grid in the target, and where their chunks are in a source.
//!
//! An array that is ingested whole is one piece. A region, what an append adds, or one of several
//! stores that follow each other is a piece whose chunks have other coordinates in the source.

use crate::grid::chunk_box::ChunkBox;
use crate::zarr::metadata::ArraySpec;
use crate::{Error, ErrorKind, Result};

/// Source chunk coordinate minus target chunk coordinate, along each dimension.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Shift(Vec<i64>);

impl Shift {
    /// A shift by so many chunks along each dimension; dimensions that are not given have none.
    #[must_use]
    pub fn new(chunks: Vec<i64>) -> Self {
        // No shift at all is the usual case, and is the cheapest to apply.
        if chunks.iter().all(|along| *along == 0) { Self::default() } else { Self(chunks) }
    }

    /// Whether coordinates are the same in source and target.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.0.is_empty()
    }

    /// Chunks along each of `ndim` dimensions.
    #[must_use]
    pub fn chunks(&self, ndim: usize) -> Vec<i64> {
        (0..ndim).map(|axis| self.0.get(axis).copied().unwrap_or_default()).collect()
    }

    /// Makes a chunk's coordinates in the target those in the source.
    pub fn to_source(&self, coords: &mut [u32]) {
        for (coord, along) in coords.iter_mut().zip(&self.0) {
            *coord = moved(*coord, *along);
        }
    }

    /// Makes a chunk's coordinates in the source those in the target.
    pub fn to_target(&self, coords: &mut [u32]) {
        for (coord, along) in coords.iter_mut().zip(&self.0) {
            *coord = moved(*coord, along.saturating_neg());
        }
    }

    /// The box in the source of a box in the target.
    #[must_use]
    pub fn box_in_source(&self, region: &ChunkBox) -> ChunkBox {
        let shift = self.chunks(region.ranges().len());
        let along = region.ranges().iter().zip(shift);
        ChunkBox::from_ranges(
            along.map(|(range, by)| moved(range.start, by)..moved(range.end, by)).collect(),
        )
    }
}

/// Pieces are checked to lie in both grids when they are made. A chunk that a listing has from
/// outside one gets a coordinate that is in no grid: it must not pass as the first chunk.
fn moved(coord: u32, by: i64) -> u32 {
    u32::try_from(i64::from(coord).saturating_add(by)).unwrap_or(u32::MAX)
}

/// A box of an array's chunk grid in the target, and where its chunks are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Position among the sources of the ingest.
    pub source: usize,
    /// The array in that source; its path is the target's.
    pub array: ArraySpec,
    /// Chunks in the target.
    pub target: ChunkBox,
    /// From there to the source.
    pub shift: Shift,
}

impl Piece {
    /// All of an array, at the same coordinates in source and target.
    #[must_use]
    pub fn whole(source: usize, array: &ArraySpec) -> Self {
        let target = ChunkBox::whole(&array.layout);
        Self { source, array: array.clone(), target, shift: Shift::default() }
    }

    /// A piece of `target`, an array's spec in the repository.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Mismatch`] when the piece is not within the grids of both.
    pub fn of(
        spec: &ArraySpec,
        source: usize,
        array: ArraySpec,
        target: ChunkBox,
        shift: Vec<i64>,
    ) -> Result<Self> {
        let ndim = spec.layout.ndim();
        let within = |region: &[(i64, i64)], of: &ArraySpec| {
            let extents = of.layout.grid_shape();
            extents.len() == region.len()
                && region.iter().zip(extents).all(|((start, end), extent)| {
                    *start >= 0 && start <= end && u64::try_from(*end).is_ok_and(|e| e <= *extent)
                })
        };
        let here: Vec<_> = target
            .ranges()
            .iter()
            .map(|range| (i64::from(range.start), i64::from(range.end)))
            .collect();
        let there: Vec<_> = here
            .iter()
            .zip(&shift)
            .map(|((start, end), by)| (start.saturating_add(*by), end.saturating_add(*by)))
            .collect();
        if shift.len() != ndim || !within(&here, spec) || !within(&there, &array) {
            return Err(Error::new(
                ErrorKind::Mismatch,
                format!(
                    "array {}: the chunks {:?} shifted by {shift:?} are not within the grids of \
                     source and target, {:?} and {:?}",
                    spec.path,
                    target.ranges(),
                    array.layout.grid_shape(),
                    spec.layout.grid_shape()
                ),
            ));
        }
        Ok(Self { source, array, target, shift: Shift::new(shift) })
    }

    /// The key of the chunk at target coordinates, relative to its source.
    #[must_use]
    pub fn source_key(&self, coords: &[u32]) -> String {
        let mut coords = coords.to_vec();
        self.shift.to_source(&mut coords);
        self.array.source_key(&coords)
    }
}

/// The piece that holds a box of the target, if one holds all of it.
#[must_use]
pub fn piece_of<'a>(pieces: &'a [Piece], region: &ChunkBox) -> Option<&'a Piece> {
    pieces.iter().find(|piece| piece.target.covers(region))
}

/// Chunks that pieces have room for.
#[must_use]
pub fn chunks_of(pieces: &[Piece]) -> u64 {
    pieces.iter().map(|piece| piece.target.chunks()).fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::layout;

    fn spec(grid: &[u64]) -> ArraySpec {
        ArraySpec {
            path: "/x".to_owned(),
            source_path: "x".to_owned(),
            document: Vec::new(),
            layout: layout(grid),
            copied: false,
        }
    }

    #[test]
    fn pieces_lie_in_both_grids() {
        let (target, source) = (spec(&[10, 4]), spec(&[5, 4]));
        let region = |start, end| ChunkBox::from_ranges(vec![start..end, 0..4]);
        let piece = Piece::of(&target, 0, source.clone(), region(5, 10), vec![-5, 0]).unwrap();
        assert_eq!(piece.source_key(&[7, 3]), "x/c/2/3");
        assert_eq!(piece.shift.box_in_source(&region(6, 10)), region(1, 5));
        for (start, end, shift) in [
            (5, 10, vec![-4, 0]),
            (5, 11, vec![-5, 0]),
            (10, 12, vec![-10, 0]),
            (3, 2, vec![0, 0]),
            (0, 5, vec![-1, 0]),
            (0, 5, vec![0]),
        ] {
            let error = Piece::of(&target, 0, source.clone(), region(start, end), shift);
            assert_eq!(error.unwrap_err().kind(), ErrorKind::Mismatch);
        }
    }

    #[test]
    fn a_box_is_in_the_piece_that_holds_all_of_it() {
        let array = spec(&[10, 4]);
        let rows = |start, end| ChunkBox::from_ranges(vec![start..end, 0..4]);
        let piece =
            |start, end| Piece::of(&array, 0, array.clone(), rows(start, end), vec![0, 0]).unwrap();
        let pieces = [piece(0, 4), piece(4, 10)];
        assert_eq!(piece_of(&pieces, &rows(5, 7)), Some(&pieces[1]));
        assert_eq!(piece_of(&pieces, &rows(3, 5)), None);
        assert_eq!((chunks_of(&pieces), chunks_of(&[])), (40, 0));
        assert_eq!(Piece::whole(0, &array), piece(0, 10));
        assert!(pieces[0].shift.is_none() && !Shift::new(vec![0, 3]).is_none());
        assert_eq!(Shift::new(vec![0, 3]).chunks(3), [0, 3, 0]);
    }

    proptest! {
        #[test]
        fn there_and_back(coords in proptest::collection::vec(1000_u32..2000, 0..4), by in -900_i64..900) {
            let shift = Shift::new(vec![by; coords.len()]);
            let mut moved = coords.clone();
            shift.to_source(&mut moved);
            for (moved, coord) in moved.iter().zip(&coords) {
                prop_assert_eq!(i64::from(*moved), i64::from(*coord) + by);
            }
            shift.to_target(&mut moved);
            prop_assert_eq!(moved, coords);
        }
    }
}
