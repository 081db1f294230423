//! What several tests share: strategies for grids and the brute-force oracle of all keys.

use proptest::prelude::*;

use crate::batch::ReferenceBatch;
use crate::grid::chunk_box::ChunkBox;
use crate::zarr::key::{ChunkKeyEncoding, ChunkKeyForm, ChunkKeySeparator};
use crate::zarr::metadata::ArrayLayout;

pub(crate) fn encodings() -> impl Strategy<Value = ChunkKeyEncoding> {
    (
        prop_oneof![Just(ChunkKeyForm::Default), Just(ChunkKeyForm::V2)],
        prop_oneof![Just(ChunkKeySeparator::Slash), Just(ChunkKeySeparator::Dot)],
    )
        .prop_map(|(form, separator)| ChunkKeyEncoding { form, separator })
}

/// Grids of 0 to 8 dimensions and at most a few thousand chunks.
pub(crate) fn small_grids() -> impl Strategy<Value = Vec<u64>> {
    prop_oneof![
        proptest::collection::vec(1_u64..=2500, 0..=1),
        proptest::collection::vec(1_u64..=45, 2),
        proptest::collection::vec(1_u64..=13, 3),
        proptest::collection::vec(0_u64..=12, 2),
        proptest::collection::vec(1_u64..=2, 8),
        (1_u64..=3, 1_u64..=700).prop_map(|(a, b)| vec![a, b]),
        (1_u64..=700, 1_u64..=3).prop_map(|(a, b)| vec![a, b]),
    ]
}

/// Every key of a grid with its coordinates, sorted as bytes.
pub(crate) fn all_keys(encoding: ChunkKeyEncoding, grid: &[u64]) -> Vec<(Vec<u8>, Vec<u32>)> {
    let mut coords = vec![vec![]];
    for extent in grid {
        coords = coords
            .into_iter()
            .flat_map(|head: Vec<u32>| {
                (0..u32::try_from(*extent).unwrap()).map(move |coord| {
                    let mut coords = head.clone();
                    coords.push(coord);
                    coords
                })
            })
            .collect();
    }
    let mut keys: Vec<_> =
        coords.into_iter().map(|coords| (encoding.encode(&coords).into_bytes(), coords)).collect();
    keys.sort();
    keys
}

/// A golden file: text that is in repositories, and must be written and read as it was.
pub(crate) fn golden(name: &str) -> String {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/");
    std::fs::read_to_string(format!("{folder}{name}")).unwrap_or_default()
}

/// Fails unless `written` is a golden file byte for byte, and leaves it below `target/golden/` then.
pub(crate) fn assert_golden(written: &str, name: &str) {
    let expected = golden(name);
    if written != expected {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/target/golden/");
        std::fs::create_dir_all(folder).unwrap();
        std::fs::write(format!("{folder}{name}"), written).unwrap();
    }
    assert_eq!(written, expected, "what is written (left) is not tests/golden/{name} any more");
}

/// An array whose chunks are single elements.
pub(crate) fn layout(shape: &[u64]) -> ArrayLayout {
    let encoding = ChunkKeyEncoding::parse("default", "/").unwrap();
    ArrayLayout::new(shape.to_vec(), vec![1; shape.len()], encoding).unwrap()
}

/// References to some of an array's chunks, last ones first: those whose index gives a bit of
/// `seed` that is set.
pub(crate) fn sparse_batch(layout: &ArrayLayout, split: &[u32], seed: u64) -> ReferenceBatch {
    let mut batch = ReferenceBatch::new(layout, ChunkBox::whole(layout), split);
    for index in (0..layout.chunks()).rev() {
        if seed.rotate_left(u32::try_from(index * index % 61).unwrap()) & 1 == 1 {
            batch.push(&layout.coords(index), 1 + index, 7).unwrap();
        }
    }
    batch
}
