//! References put where some are already: what is in the part is replaced, and nothing else.

use std::collections::BTreeMap;

use proptest::prelude::*;
use refreeze::ErrorKind;
use refreeze::grid::chunk_box::ChunkBox;
use refreeze::target::locations::Locations;

use super::world::{Chunk, Part, Shape, World, coords_of};

/// Some chunks of a box; size and time follow from the seed.
fn some(seed: u64, density: u64, region: &ChunkBox) -> Vec<Chunk> {
    let mixed = |coords: &[u32]| {
        coords.iter().fold(seed, |hash, coord| {
            (hash ^ u64::from(*coord)).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29)
        })
    };
    coords_of(region)
        .into_iter()
        .filter_map(|coords| {
            let hash = mixed(&coords);
            // Few sizes, so that some references come out the same again.
            let time = i64::from(u8::try_from(hash >> 40 & 1).unwrap()) * 1_000_000;
            (hash % 100 < density).then(|| (coords, 1 + (hash >> 50 & 1), time))
        })
        .collect()
}

type Model = BTreeMap<Vec<u32>, (u64, i64)>;

fn model_of(chunks: &[Chunk]) -> Model {
    chunks.iter().map(|(coords, size, time)| (coords.clone(), (*size, *time))).collect()
}

/// Fills an array, replaces parts of it, and compares with a map after each.
async fn assert_replaces(shape: Shape, seed: u64, density: u64, parts: Vec<(ChunkBox, u64)>) {
    let world = World::new(&[shape], Locations::Relative).await;
    let whole = ChunkBox::whole(&world.arrays[0].layout);
    let mut model = Model::new();
    for (number, (region, density)) in
        std::iter::once((whole.clone(), density)).chain(parts).enumerate()
    {
        let Some(region) = region.intersection(&whole) else { continue };
        let chunks = some(seed.rotate_left(u32::try_from(number).unwrap() % 3), density, &region);
        let mut expected = model.clone();
        expected.retain(|coords, _| !region.contains(coords));
        expected.extend(model_of(&chunks));
        let parent = world.tip("main").await;
        let part = Part { array: 0, region, chunks };
        if expected == model {
            let error = world.try_commit("main", &parent, &[part]).await.unwrap_err();
            assert!(error.message().contains("no references"), "{error}");
            continue;
        }
        let tip = world.commit(&[part]).await;
        let looks = world.look(&tip).await;
        let found: Vec<_> = looks.references.keys().map(|(_, coords)| coords.clone()).collect();
        assert_eq!(found, expected.keys().cloned().collect::<Vec<_>>());
        for ((_, coords), said) in &looks.references {
            let (size, time) = expected[coords];
            // Icechunk reads the time 0 as none.
            let seconds = match time / 1_000_000 {
                0 => "checksum: None".to_owned(),
                seconds => format!("SecondsSinceEpoch({seconds})"),
            };
            assert!(
                said.contains(&format!("length: {size},")) && said.contains(&seconds),
                "{said}"
            );
        }
        assert_eq!(looks.files.iter().sum::<u64>(), expected.len() as u64);
        let changed = world.changed(&parent, &tip).await.remove("/group/array0");
        let differ = |coords: &&Vec<u32>| model.get(*coords) != expected.get(*coords);
        let all: std::collections::BTreeSet<_> = model.keys().chain(expected.keys()).collect();
        let differing = all.into_iter().filter(differ).cloned().collect();
        assert_eq!(changed, Some(differing), "the log lists what has changed, and no more");
        model = expected;
    }
}

fn boxes(ndim: usize) -> impl Strategy<Value = Vec<(ChunkBox, u64)>> {
    let range = (0_u32..6, 1_u32..5).prop_map(|(start, length)| start..start + length);
    let region = proptest::collection::vec(range, ndim).prop_map(ChunkBox::from_ranges);
    proptest::collection::vec((region, prop_oneof![Just(0_u64), Just(100), 0_u64..100]), 1..4)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn a_part_becomes_what_was_found_in_it(
        grid in proptest::collection::vec(1_u64..7, 0..4),
        split in proptest::collection::vec(1_u32..5, 4),
        seed in any::<u64>(),
        density in prop_oneof![Just(100_u64), 1_u64..100],
        parts in (0_usize..4).prop_flat_map(boxes),
    ) {
        prop_assume!(parts[0].0.ranges().len() == grid.len());
        let shape = Shape { split: split[..grid.len()].to_vec(), grid };
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(assert_replaces(shape, seed, density, parts));
    }
}

#[tokio::test]
async fn manifests_beside_a_replaced_part_stay_as_they_are() {
    let shape = Shape { grid: vec![6, 4], split: vec![2, 4] };
    let world = World::new(&[shape], Locations::Relative).await;
    let whole = ChunkBox::whole(&world.arrays[0].layout);
    let chunks = coords_of(&whole).into_iter().map(|coords| (coords, 10, 7)).collect();
    let before = world.commit(&[Part { array: 0, region: whole.clone(), chunks }]).await;
    let region = whole.with_leading(3..4);
    let chunks = coords_of(&region).into_iter().map(|coords| (coords, 11, 7)).collect();
    let after = world.commit(&[Part { array: 0, region, chunks }]).await;
    let ids = async |snapshot| {
        let files = world.repository.lookup_manifest_files(snapshot).await.unwrap();
        files.map(|file| file.id).collect::<std::collections::HashSet<_>>()
    };
    assert_eq!(ids(&before).await.intersection(&ids(&after).await).count(), 2);
    assert_eq!(ids(&after).await.len(), 3);
}

#[tokio::test]
async fn references_to_another_source_are_not_replaced() {
    let shape = Shape { grid: vec![4], split: vec![4] };
    let world = World::new(&[shape], Locations::Relative).await;
    let whole = ChunkBox::whole(&world.arrays[0].layout);
    let chunks = coords_of(&whole).into_iter().map(|coords| (coords, 10, 7)).collect();
    let parent = world.commit(&[Part { array: 0, region: whole.clone(), chunks }]).await;
    let chunks = vec![(vec![1], 11, 7)];
    let part = Part { array: 0, region: whole.with_leading(1..2), chunks };
    let error = world.try_commit_from(1, "main", &parent, &[part]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Mismatch);
    assert!(error.message().contains("/c/1, where this source has c/2"), "{error}");
}
