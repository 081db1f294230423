//! Both paths make the same repository of the same chunks.

use proptest::prelude::*;
use refreeze::grid::chunk_box::ChunkBox;
use refreeze::target::locations::Locations;

use super::world::{Part, Shape, World, coords_of};

/// Grids of up to three dimensions (a scalar among them) with any splits.
fn shapes() -> impl Strategy<Value = Vec<Shape>> {
    let shape = proptest::collection::vec((1_u64..7, 1_u32..5), 0..4).prop_map(|axes| {
        let (grid, split) = axes.into_iter().unzip();
        Shape { grid, split }
    });
    proptest::collection::vec(shape, 1..4)
}

/// A number that looks random and depends on all that is given.
fn noise(seed: u64, coords: &[u32]) -> u64 {
    coords.iter().fold(seed | 1, |state, coord| {
        let mixed = (state ^ u64::from(*coord)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        mixed ^ (mixed >> 29)
    })
}

/// Some of the chunks of a part, in no order.
fn part(seed: u64, density: u64, array: usize, region: ChunkBox) -> Part {
    let mut chunks: Vec<_> = coords_of(&region)
        .into_iter()
        .filter(|coords| noise(seed, coords) % 100 < density)
        .map(|coords| {
            let noise = noise(seed ^ 0x77, &coords);
            let time = i64::try_from(noise % 2_000_000_000_000_000).unwrap();
            (coords, 1 + noise % 1_000_000, time)
        })
        .collect();
    chunks.sort_by_key(|(coords, ..)| noise(seed ^ 0x99, coords));
    Part { array, region, chunks }
}

/// The commits of an ingest: each a range of every array's leading dimension, cut where manifests
/// end unless `ragged`.
fn commits(
    shapes: &[Shape],
    world: &World,
    seed: u64,
    density: u64,
    ragged: bool,
) -> Vec<Vec<Part>> {
    let mut commits = vec![Vec::new(); 3];
    for (number, (shape, array)) in shapes.iter().zip(&world.arrays).enumerate() {
        let whole = ChunkBox::whole(&array.layout);
        let Some(leading) = whole.ranges().first().cloned() else {
            commits[0].push(part(seed, density.max(50), number, whole));
            continue;
        };
        let step = if ragged { 1 } else { shape.split[0] };
        let cut = |share: u32| (leading.end * share / 3 / step * step).min(leading.end);
        let bounds = [0, cut(1), cut(2), leading.end];
        for (commit, bounds) in commits.iter_mut().zip(bounds.windows(2)) {
            let (start, end) = (bounds[0], bounds[1]);
            // Sometimes one array comes as two parts of one commit.
            let middle = if ragged { start.midpoint(end) } else { start };
            for range in [start..middle, middle..end] {
                if !range.is_empty() {
                    let seed = seed ^ ((number as u64) << 8);
                    commit.push(part(seed, density, number, whole.with_leading(range)));
                }
            }
        }
    }
    commits.retain(|parts| parts.iter().any(|part| !part.chunks.is_empty()));
    commits
}

async fn assert_equal(
    shapes: &[Shape],
    (seed, density): (u64, u64),
    ragged: bool,
    form: Locations,
    tagged: bool,
) {
    let mut ours = World::new(shapes, form).await;
    let mut theirs = World::new(shapes, form).await;
    (ours.tagged, theirs.tagged) = (tagged, tagged);
    let commits = commits(shapes, &ours, seed, density, ragged);
    let mut held = 0;
    for parts in &commits {
        let (before, their_before) = (ours.tip("main").await, theirs.tip("main").await);
        let after = ours.commit(parts).await;
        let their_after = theirs.commit_by_session(parts).await;
        let (looks, their_looks) = (ours.look(&after).await, theirs.look(&their_after).await);
        assert_eq!(looks.references, their_looks.references);
        assert_eq!(looks.locations, their_looks.locations);
        held += parts.iter().map(|part| part.chunks.len()).sum::<usize>();
        assert_eq!(looks.references.len(), held);
        assert_eq!(looks.files.iter().sum::<u64>(), held as u64);
        if !ragged {
            assert_eq!(looks.extents, their_looks.extents);
            assert_eq!(looks.files, their_looks.files);
        }
        for (shape, array) in shapes.iter().zip(&ours.arrays) {
            for extents in &looks.extents[&array.path] {
                for ((start, end), length) in extents.iter().zip(&shape.split) {
                    assert_eq!(start / length, (end - 1) / length, "a split is straddled");
                }
            }
        }
        let changed = ours.changed(&before, &after).await;
        assert_eq!(changed, theirs.changed(&their_before, &their_after).await);
        let listed: usize = changed.values().map(std::collections::BTreeSet::len).sum();
        assert_eq!(listed, parts.iter().map(|part| part.chunks.len()).sum::<usize>());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn direct_and_session_commits_are_equal(
        shapes in shapes(),
        seed in any::<u64>(),
        density in prop_oneof![Just(100_u64), 1_u64..100],
        ragged in any::<bool>(),
        absolute in any::<bool>(),
        tagged in any::<bool>(),
    ) {
        let form = if absolute { Locations::Absolute } else { Locations::Relative };
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(assert_equal(&shapes, (seed, density), ragged, form, tagged));
    }

    #[test]
    fn a_missing_chunk_is_found(
        grid in proptest::collection::vec(1_u64..7, 0..4),
        split in proptest::collection::vec(1_u32..5, 4),
        seed in any::<u64>(),
        density in prop_oneof![Just(100_u64), 90_u64..100, 0_u64..100],
        start in 0_u32..4,
    ) {
        let shapes = [Shape { split: split[..grid.len()].to_vec(), grid }];
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let world = runtime.block_on(World::new(&shapes, Locations::Relative));
        let whole = ChunkBox::whole(&world.arrays[0].layout);
        let end = whole.ranges().first().map_or(0, |range| range.end);
        let part = part(seed, density, 0, whole.with_leading(start.min(end - u32::from(end > 0))..end));
        let mut batch = world.batch(&part);
        let there: std::collections::HashSet<_> =
            part.chunks.iter().map(|(coords, ..)| coords.clone()).collect();
        prop_assert_eq!(batch.len(), there.len() as u64);
        prop_assert_eq!(batch.bytes(), part.chunks.iter().map(|(_, size, _)| size).sum::<u64>());
        match batch.first_missing() {
            None => prop_assert_eq!(batch.len(), part.region.chunks()),
            Some(coords) => prop_assert!(part.region.contains(&coords) && !there.contains(&coords)),
        }
        let sorted: Vec<_> =
            batch.into_sorted().iter().map(|chunk| chunk.index).collect();
        let mut expected: Vec<_> =
            there.iter().map(|coords| world.arrays[0].layout.index(coords)).collect();
        expected.sort_unstable();
        prop_assert_eq!(sorted, expected);
    }
}
