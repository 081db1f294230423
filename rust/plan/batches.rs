//! The order of an ingest: which boxes of which arrays are listed and committed together.
//!
//! A batch is a range of the leading dimension of all arrays that share it, so that a commit is
//! logically whole whatever their chunk lengths. Manifests are never divided between batches
//! unless one alone is too large: a manifest belongs to the batch that holds its first element.
//! Small arrays are taken whole, many together. Batches are counted, not stored: a grid of 10¹²
//! chunks costs no more than a small one.

use serde::{Deserialize, Serialize};

use super::splits::{manifest_split, possible_chunks};
use crate::grid::chunk_box::ChunkBox;
use crate::zarr::metadata::ArrayLayout;

/// Numbers of manifests that are looked at for one of which many make a full commit. Where there are
/// more, any of them does.
const LOOKED_AT: usize = 64;

/// A box of one array's grid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Position of the array.
    pub array: usize,
    /// Its chunks.
    pub region: ChunkBox,
}

/// What is known of an array before it is listed.
#[derive(Debug, Clone)]
pub struct ExpectedArray<'a> {
    /// Position of the array.
    pub array: usize,
    /// Its layout.
    pub layout: &'a ArrayLayout,
    /// Name of its leading dimension.
    pub leading: Option<&'a str>,
    /// Chunks along each dimension that one manifest covers.
    pub split: Vec<u32>,
    /// Chunks that are expected to exist.
    pub expected: u64,
}

/// Arrays, or one array, and how they are cut into batches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Group {
    /// One batch of whole arrays.
    Whole { arrays: Vec<usize> },
    /// Batch `i` holds the manifests that begin in the elements `i * step..(i + 1) * step` of a
    /// leading dimension of `length` elements.
    Shared { arrays: Vec<Member>, length: u64, step: u64 },
    /// Batch `i` is the `i`-th cell, in row-major order, of a grid of cells of so many chunks.
    Cells { array: usize, cell: Vec<u32> },
}

/// An array among those that share their leading dimension.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Member {
    array: usize,
    /// Chunks along the leading dimension that stay together.
    chunks: u32,
}

/// All batches of an ingest, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Batches {
    groups: Vec<Group>,
}

impl Batches {
    /// Batches of about `references` expected references; `arrays` are those to be referenced.
    #[must_use]
    pub fn new(arrays: &[ExpectedArray<'_>], references: u64) -> Self {
        Self::in_steps(arrays, references, references)
    }

    /// The same arrays together, but batches of no more than `at_once` references where manifests
    /// are small enough: several of them together are about `references`.
    #[must_use]
    pub fn in_steps(arrays: &[ExpectedArray<'_>], references: u64, at_once: u64) -> Self {
        let references = references.max(1);
        let (mut small, mut large) = (Vec::new(), Vec::new());
        for array in arrays.iter().filter(|array| array.layout.chunks() > 0) {
            let whole = array.split.iter().zip(array.layout.grid_shape());
            let one_manifest =
                whole.into_iter().all(|(split, extent)| u64::from(*split) >= *extent);
            if one_manifest && array.expected <= references {
                small.push(array);
            } else {
                large.push(array);
            }
        }
        let mut groups = whole_arrays(&small, references);
        while let Some(first) = large.first().copied() {
            let shares = |array: &&ExpectedArray<'_>| {
                array.array == first.array
                    || (first.leading.is_some()
                        && array.leading == first.leading
                        && array.layout.shape().first() == first.layout.shape().first())
            };
            let (sharing, others): (Vec<_>, Vec<_>) = large.into_iter().partition(shares);
            groups.extend(shared(&sharing, references, at_once));
            large = others;
        }
        Self { groups }
    }

    /// How many batches there are.
    ///
    /// `layouts` are those of all arrays, by position; also for [`parts`](Self::parts).
    #[must_use]
    pub fn count(&self, layouts: &[ArrayLayout]) -> u64 {
        self.groups.iter().map(|group| group.count(layouts)).fold(0, u64::saturating_add)
    }

    /// In how many batches an array is, at most.
    #[must_use]
    pub fn count_of(&self, array: usize, layouts: &[ArrayLayout]) -> u64 {
        let holds = |group: &&Group| match group {
            Group::Whole { arrays } => arrays.contains(&array),
            Group::Shared { arrays, .. } => arrays.iter().any(|member| member.array == array),
            Group::Cells { array: only, .. } => *only == array,
        };
        let counts = self.groups.iter().filter(holds).map(|group| group.count(layouts));
        counts.fold(0, u64::saturating_add)
    }

    /// The boxes of a batch, none of them empty; no boxes after the last batch.
    ///
    /// All batches together hold every chunk of the arrays once.
    #[must_use]
    pub fn parts(&self, mut batch: u64, layouts: &[ArrayLayout]) -> Vec<Part> {
        for group in &self.groups {
            let count = group.count(layouts);
            if batch < count {
                return group.parts(batch, layouts);
            }
            batch -= count;
        }
        Vec::new()
    }
}

/// Packs whole arrays into as few batches as possible, in order.
fn whole_arrays(small: &[&ExpectedArray<'_>], references: u64) -> Vec<Group> {
    let mut groups = Vec::new();
    let (mut arrays, mut held) = (Vec::new(), 0_u64);
    for array in small {
        if held.saturating_add(array.expected) > references && !arrays.is_empty() {
            groups.push(Group::Whole { arrays: std::mem::take(&mut arrays) });
            held = 0;
        }
        arrays.push(array.array);
        held = held.saturating_add(array.expected);
    }
    if !arrays.is_empty() {
        groups.push(Group::Whole { arrays });
    }
    groups
}

/// An array as a member of a group: what one row of its manifests takes.
struct Row {
    member: Member,
    /// Elements of the leading dimension.
    elements: u64,
    references: u64,
}

/// Cuts arrays that share their leading dimension; one whose manifests side by side are too much
/// for a batch is cut along its other dimensions too.
fn shared(arrays: &[&ExpectedArray<'_>], references: u64, at_once: u64) -> Vec<Group> {
    let mut groups = Vec::new();
    let (mut rows, mut held): (Vec<Row>, u64) = (Vec::new(), 0);
    let length = arrays.first().and_then(|array| array.layout.shape().first()).copied();
    for array in arrays {
        match row(array) {
            Some(row) if row.references <= references => {
                if held.saturating_add(row.references) > references && !rows.is_empty() {
                    groups.extend(side_by_side(&rows, length, references, at_once));
                    rows.clear();
                    held = 0;
                }
                held = held.saturating_add(row.references);
                rows.push(row);
            }
            _ => groups.push(cells(array, references)),
        }
    }
    groups.extend(side_by_side(&rows, length, references, at_once));
    groups
}

fn row(array: &ExpectedArray<'_>) -> Option<Row> {
    let (&extent, &chunk) =
        (array.layout.grid_shape().first()?, array.layout.chunk_shape().first()?);
    let chunks = (*array.split.first()?).min(u32::try_from(extent).unwrap_or(u32::MAX)).max(1);
    let held = u128::from(array.expected) * u128::from(chunks);
    Some(Row {
        member: Member { array: array.array, chunks },
        elements: chunk.saturating_mul(u64::from(chunks)),
        references: u64::try_from(held.div_ceil(u128::from(extent.max(1)))).unwrap_or(u64::MAX),
    })
}

/// The longest step, a multiple of a manifest's length, that keeps every batch within `references`;
/// or, where that is more than `at_once`, one of which several fill as much.
fn side_by_side(rows: &[Row], length: Option<u64>, references: u64, at_once: u64) -> Option<Group> {
    let length = length.filter(|_| !rows.is_empty())?;
    let held = |step: u64| {
        let held = |row: &Row| step.div_ceil(row.elements.max(1)).saturating_mul(row.references);
        rows.iter().map(held).fold(0, u64::saturating_add)
    };
    // The most multiples that fit, by halving: what fits, fits when it is shorter.
    let multiples = |elements: u64, most: u64| {
        let (mut fitting, mut beyond) = (0, length.div_ceil(elements).max(1) + 1);
        while beyond - fitting > 1 {
            let middle = fitting + (beyond - fitting) / 2;
            if held(middle.saturating_mul(elements)) <= most {
                fitting = middle;
            } else {
                beyond = middle;
            }
        }
        fitting
    };
    let mut aligned: Vec<u64> = rows.iter().map(|row| row.elements.max(1)).collect();
    aligned.sort_unstable_by(|a, b| b.cmp(a));
    let step = aligned
        .iter()
        .find_map(|elements| {
            let all = multiples(*elements, references);
            let few = multiples(*elements, at_once).clamp(1, all.max(1));
            (all > 0).then(|| filling(all, few).saturating_mul(*elements))
        })
        .unwrap_or_else(|| aligned.last().copied().unwrap_or(1));
    Some(Group::Shared { arrays: rows.iter().map(|row| row.member).collect(), length, step })
}

/// The number, at most `few` and at least half of it, of which multiples come nearest to `all`.
fn filling(all: u64, few: u64) -> u64 {
    let numbers = (few.div_ceil(2)..=few).rev().take(LOOKED_AT);
    numbers.min_by_key(|number| all % number.max(&1)).unwrap_or(few)
}

/// Cuts one array along as many dimensions as it takes.
fn cells(array: &ExpectedArray<'_>, references: u64) -> Group {
    let layout = array.layout;
    let few = u32::try_from(references).unwrap_or(u32::MAX);
    let room = possible_chunks(few, layout.chunks(), array.expected);
    let cell = manifest_split(layout.grid_shape(), room)
        .iter()
        .zip(layout.grid_shape())
        .zip(&array.split)
        .map(|((length, extent), split)| {
            let whole = u32::try_from(*extent).unwrap_or(u32::MAX);
            if *length >= whole {
                whole
            } else if *length > *split {
                *length / *split * *split
            } else {
                *length
            }
        })
        .collect();
    Group::Cells { array: array.array, cell }
}

impl Group {
    fn count(&self, layouts: &[ArrayLayout]) -> u64 {
        match self {
            Self::Whole { .. } => 1,
            Self::Shared { length, step, .. } => length.div_ceil((*step).max(1)),
            Self::Cells { array, cell } => layouts.get(*array).map_or(0, |layout| {
                let along =
                    |(extent, length): (&u64, &u32)| extent.div_ceil(u64::from(*length).max(1));
                layout.grid_shape().iter().zip(cell).map(along).fold(1, u64::saturating_mul)
            }),
        }
    }

    fn parts(&self, batch: u64, layouts: &[ArrayLayout]) -> Vec<Part> {
        let whole =
            |array: usize| layouts.get(array).map(|layout| (layout, ChunkBox::whole(layout)));
        match self {
            Self::Whole { arrays } => arrays
                .iter()
                .filter_map(|array| Some(Part { array: *array, region: whole(*array)?.1 }))
                .collect(),
            Self::Shared { arrays, step, .. } => arrays
                .iter()
                .filter_map(|member| {
                    let (layout, region) = whole(member.array)?;
                    let range = member.range(batch.saturating_mul(*step), *step, layout)?;
                    Some(Part { array: member.array, region: region.with_leading(range) })
                })
                .collect(),
            Self::Cells { array, cell } => whole(*array)
                .map(|(_, region)| Part { array: *array, region: region.cell(cell, batch) })
                .into_iter()
                .collect(),
        }
    }
}

impl Member {
    /// The chunks whose manifests begin within `step` elements from `start`.
    fn range(self, start: u64, step: u64, layout: &ArrayLayout) -> Option<std::ops::Range<u32>> {
        let (&extent, &chunk) = (layout.grid_shape().first()?, layout.chunk_shape().first()?);
        let together = u64::from(self.chunks.max(1));
        let elements = chunk.saturating_mul(together).max(1);
        let first = |element: u64| {
            let chunks = element.div_ceil(elements).saturating_mul(together);
            u32::try_from(chunks.min(extent)).unwrap_or(u32::MAX)
        };
        let range = first(start)..first(start.saturating_add(step));
        (!range.is_empty()).then_some(range)
    }
}

#[cfg(test)]
mod tests;
