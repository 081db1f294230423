//! The texts that refreeze wrote and hashed before they were spelled out: how its types printed
//! themselves then. Repositories hold them, so that they stay as they are here whatever becomes of
//! the types. Nothing new is written in this form.

use super::{Determinants, Fields};
use crate::zarr::key::{ChunkKeyEncoding, ChunkKeyForm, ChunkKeySeparator};
use crate::zarr::metadata::ArrayLayout;

/// What an earlier version recorded of an array's chunk keys.
#[must_use]
pub fn earlier_keys(encoding: ChunkKeyEncoding) -> String {
    let form = match encoding.form {
        ChunkKeyForm::Default => "Default",
        ChunkKeyForm::V2 => "V2",
    };
    let separator = match encoding.separator {
        ChunkKeySeparator::Slash => "Slash",
        ChunkKeySeparator::Dot => "Dot",
    };
    format!("ChunkKeyEncoding {{ form: {form}, separator: {separator} }}")
}

/// The fingerprint that an earlier version wrote.
pub(super) fn fingerprint(plan: &Determinants<'_>) -> String {
    let mut digest = Fields::default();
    digest.add(plan.sources.as_bytes());
    digest.add(text(plan).as_bytes());
    for group in plan.groups {
        digest.add(group.path.as_bytes());
        digest.add(&group.document);
    }
    for (array, _) in plan.arrays {
        digest.add(array.path.as_bytes());
        digest.add(array.source_path.as_bytes());
        digest.add(&array.document);
        digest.add(format!("{} {}", layout(&array.layout), array.copied).as_bytes());
    }
    digest.finish()
}

/// The text of options and pieces. Lists of numbers and strings are printed as the standard library
/// prints them, which is what an earlier version did.
pub(super) fn text(plan: &Determinants<'_>) -> String {
    let pieces: Vec<_> = plan.arrays.iter().flat_map(|(_, pieces)| *pieces).collect();
    let pieces: Vec<_> = pieces
        .into_iter()
        .map(|piece| {
            let ranges = piece.target.ranges();
            let shift = piece.shift.chunks(ranges.len());
            let (source, array) = (piece.source, &piece.array);
            let (path, layout) = (&array.source_path, layout(&array.layout));
            format!("({source}, {path:?}, {layout}, {ranges:?}, {shift:?})")
        })
        .collect();
    format!(
        "{} {} {} {:?} {} [{}]",
        capitalised(plan.empty_chunks),
        capitalised(plan.locations),
        plan.mode,
        plan.replaced,
        plan.request,
        pieces.join(", ")
    )
}

fn layout(layout: &ArrayLayout) -> String {
    let (shape, chunk_shape, grid_shape) =
        (layout.shape(), layout.chunk_shape(), layout.grid_shape());
    let encoding = earlier_keys(layout.encoding());
    format!(
        "ArrayLayout {{ shape: {shape:?}, chunk_shape: {chunk_shape:?}, \
         grid_shape: {grid_shape:?}, encoding: {encoding} }}"
    )
}

/// The name of a variant, from that of the option.
fn capitalised(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect()
}
