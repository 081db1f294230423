//! Batches hold every chunk once, within their limit, and cut arrays at the same places.

use proptest::prelude::*;

use super::*;
use crate::zarr::key::ChunkKeyEncoding;

fn layout(shape: &[u64], chunks: &[u64]) -> ArrayLayout {
    let encoding = ChunkKeyEncoding::parse("default", "/").unwrap();
    ArrayLayout::new(shape.to_vec(), chunks.to_vec(), encoding).unwrap()
}

fn expected<'a>(
    array: usize,
    layout: &'a ArrayLayout,
    leading: Option<&'a str>,
    per_manifest: u64,
) -> ExpectedArray<'a> {
    let split = manifest_split(layout.grid_shape(), per_manifest);
    ExpectedArray { array, layout, leading, split, expected: layout.chunks() }
}

fn leading(batches: &Batches, layouts: &[ArrayLayout]) -> Vec<Vec<(usize, std::ops::Range<u32>)>> {
    (0..batches.count(layouts))
        .map(|batch| {
            let parts = batches.parts(batch, layouts);
            parts.iter().map(|part| (part.array, part.region.ranges()[0].clone())).collect()
        })
        .collect()
}

#[test]
fn arrays_that_share_time_are_cut_at_the_same_times() {
    let layouts = [layout(&[8_760, 100], &[1, 1]), layout(&[8_760, 200], &[24, 1])];
    let arrays = [
        expected(0, &layouts[0], Some("time"), 100_000),
        expected(1, &layouts[1], Some("time"), 10_000),
    ];
    let batches = Batches::new(&arrays, 330_000);
    // Manifests of 1,000 hours and of 50 * 24 hours.
    assert_eq!(
        leading(&batches, &layouts),
        [
            vec![(0, 0..3_000), (1, 0..100)],
            vec![(0, 3_000..5_000), (1, 100..200)],
            vec![(0, 5_000..8_000), (1, 200..300)],
            vec![(0, 8_000..8_760), (1, 300..365)],
        ]
        .as_slice(),
        "{batches:?}"
    );
}

#[test]
fn a_plate_of_small_arrays_is_one_batch() {
    let layouts: Vec<_> = (0..5_760).map(|_| layout(&[2, 2], &[1, 1])).collect();
    let arrays: Vec<_> =
        layouts.iter().enumerate().map(|(n, one)| expected(n, one, None, 250_000)).collect();
    let batches = Batches::new(&arrays, 1_000_000);
    assert_eq!(batches.count(&layouts), 1);
    assert_eq!(batches.parts(0, &layouts).len(), 5_760);
}

#[test]
fn a_batch_is_filled_to_the_last_reference() {
    let layouts: Vec<_> = (0..3).map(|_| layout(&[5, 2], &[1, 1])).collect();
    let of = |per_manifest| -> Vec<_> {
        let arrays = layouts.iter().enumerate();
        arrays.map(|(n, one)| expected(n, one, Some("time"), per_manifest)).collect()
    };
    let (whole, cut) = (Batches::new(&of(10), 20), Batches::new(&of(2), 4));
    assert_eq!(leading(&whole, &layouts), [vec![(0, 0..5), (1, 0..5)], vec![(2, 0..5)]]);
    let pairs = (0..5).map(|row| vec![(0, row..row + 1), (1, row..row + 1)]);
    let singles = [0..2, 2..4, 4..5].map(|range| vec![(2, range)]);
    assert_eq!(leading(&cut, &layouts), pairs.chain(singles).collect::<Vec<_>>());
    assert_eq!([0, 2].map(|array| cut.count_of(array, &layouts)), [5, 3]);
}

#[test]
fn several_steps_fill_a_commit() {
    let layouts = [layout(&[100, 10], &[1, 1])];
    let of = |manifests: u64, at_once| {
        let array = expected(0, &layouts[0], Some("time"), 10);
        leading(&Batches::in_steps(&[array], manifests * 10, at_once), &layouts)[0][0].1.end
    };
    // Of 38 manifests, twice nineteen are better than nine times four.
    assert_eq!(
        [(16, 40), (38, 40), (38, 39), (39, 40)].map(|(all, few)| of(all, few)),
        [4, 2, 2, 3]
    );
    // Never less than a manifest, nor more than a commit.
    assert_eq!([(5, 1), (3, 1_000)].map(|(all, few)| of(all, few)), [1, 3]);
}

/// A step as long as the longest manifest would be too much; one that suits the others is not.
#[test]
fn a_step_may_be_shorter_than_some_manifests() {
    let layouts = [layout(&[40, 100], &[1, 1]), layout(&[40, 10], &[10, 1])];
    let arrays =
        [expected(0, &layouts[0], Some("time"), 100), expected(1, &layouts[1], Some("time"), 10)];
    let batches = leading(&Batches::new(&arrays, 300), &layouts);
    assert_eq!(batches.len(), 20);
    assert_eq!(batches[0], [(0, 0..2), (1, 0..1)]);
    assert_eq!(batches[1], [(0, 2..4)]);
    assert_eq!(batches[5], [(0, 10..12), (1, 1..2)]);
}

#[test]
fn a_wide_step_is_cut_along_the_next_dimension() {
    let layouts = [layout(&[3, 100, 1_000], &[1, 1, 1])];
    let batches = Batches::new(&[expected(0, &layouts[0], Some("time"), 5_000)], 22_000);
    assert_eq!(batches.count(&layouts), 15);
    assert_eq!([0, 1].map(|array| batches.count_of(array, &layouts)), [15, 0]);
    assert_eq!(batches.parts(0, &layouts)[0].region.ranges(), [0..1, 0..20, 0..1_000]);
}

#[test]
fn a_sparse_giant_is_one_batch() {
    let layouts = [layout(&[1_000_000, 1_000_000], &[1, 1])];
    let mut array = expected(0, &layouts[0], None, 1);
    array.expected = 1_000_000;
    array.split = manifest_split(
        layouts[0].grid_shape(),
        possible_chunks(250_000, layouts[0].chunks(), array.expected),
    );
    assert_eq!(Batches::new(&[array], 2_000_000).count(&layouts), 1);
}

proptest! {
    #[test]
    fn batches_hold_every_chunk_once_and_stay_within_the_limit(
        arrays in proptest::collection::vec(
            (proptest::collection::vec((1_u64..30, 1_u64..5), 0..4), any::<bool>(), 1_u64..200),
            1..5,
        ),
        length in 1_u64..30,
        references in 1_u64..300,
        at_once in 1_u64..300,
    ) {
        let layouts: Vec<_> = arrays
            .iter()
            .map(|(axes, named, _)| {
                let (mut shape, chunks): (Vec<_>, Vec<_>) = axes.iter().copied().unzip();
                shape.iter_mut().take(usize::from(*named)).for_each(|first| *first = length);
                layout(&shape, &chunks)
            })
            .collect();
        let expected: Vec<_> = layouts
            .iter()
            .zip(&arrays)
            .enumerate()
            .map(|(n, (one, (_, named, per_manifest)))| {
                expected(n, one, named.then_some("time"), *per_manifest)
            })
            .collect();
        let batches = Batches::in_steps(&expected, references, at_once);
        let text = serde_json::to_string(&batches).unwrap();
        prop_assert_eq!(&serde_json::from_str::<Batches>(&text).unwrap(), &batches);
        let mut seen = vec![std::collections::HashSet::new(); layouts.len()];
        for batch in 0..batches.count(&layouts) {
            let parts = batches.parts(batch, &layouts);
            let held: u64 = parts.iter().map(|part| part.region.chunks()).sum();
            prop_assert!(held <= references, "{held} in {parts:?}");
            for part in parts {
                for index in 0..layouts[part.array].chunks() {
                    if part.region.contains(&layouts[part.array].coords(index)) {
                        prop_assert!(seen[part.array].insert(index));
                    }
                }
            }
        }
        for (layout, seen) in layouts.iter().zip(&seen) {
            prop_assert_eq!(seen.len() as u64, layout.chunks());
        }
        prop_assert!(batches.parts(batches.count(&layouts), &layouts).is_empty());
    }
}
