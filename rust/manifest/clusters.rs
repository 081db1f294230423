//! Which manifests are made anew together when references are put where there are some already.
//!
//! A reader takes the first manifest whose extents hold a chunk, so that extents must never
//! overlap. References that replace others therefore share manifests with those that stay beside
//! them, and so does every manifest that the resulting extents would touch.

use crate::grid::chunk_box::ChunkBox;

/// Manifests and buckets that become one set of new manifests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cluster {
    /// Everything in it.
    hull: ChunkBox,
    /// Positions of manifests.
    pub(super) manifests: Vec<usize>,
    /// Positions of buckets.
    pub(super) buckets: Vec<usize>,
}

/// Groups the manifests that share chunks with `part` and the buckets of its references: whatever
/// belongs to different clusters does not overlap, nor does it overlap the other manifests.
///
/// A cluster without manifests is new references only.
pub(super) fn clusters(
    part: &ChunkBox,
    manifests: &[ChunkBox],
    buckets: &[ChunkBox],
) -> Vec<Cluster> {
    let (touched, mut others): (Vec<_>, Vec<_>) =
        manifests.iter().enumerate().partition(|(_, extents)| extents.intersects(part));
    let old = touched.into_iter().map(|(position, extents)| Cluster {
        hull: extents.clone(),
        manifests: vec![position],
        buckets: Vec::new(),
    });
    let new = buckets.iter().enumerate().map(|(position, bucket)| Cluster {
        hull: bucket.intersection(part).unwrap_or_else(|| bucket.clone()),
        manifests: Vec::new(),
        buckets: vec![position],
    });
    let mut apart: Vec<Cluster> = Vec::new();
    for mut cluster in old.chain(new) {
        loop {
            let hull = cluster.hull.clone();
            let (hit, rest): (Vec<_>, Vec<_>) =
                apart.into_iter().partition(|other| other.hull.intersects(&hull));
            apart = rest;
            let (near, far): (Vec<_>, Vec<_>) =
                others.into_iter().partition(|(_, extents)| extents.intersects(&hull));
            others = far;
            if hit.is_empty() && near.is_empty() {
                break;
            }
            for other in hit {
                cluster.hull = cluster.hull.hull(&other.hull);
                cluster.manifests.extend(other.manifests);
                cluster.buckets.extend(other.buckets);
            }
            for (position, extents) in near {
                cluster.hull = cluster.hull.hull(extents);
                cluster.manifests.push(position);
            }
        }
        apart.push(cluster);
    }
    apart
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn region(rows: std::ops::Range<u32>, columns: std::ops::Range<u32>) -> ChunkBox {
        ChunkBox::from_ranges(vec![rows, columns])
    }

    #[test]
    fn new_rows_leave_manifests_alone() {
        let manifests = [region(0..4, 0..9), region(4..8, 0..9)];
        let found = clusters(&region(8..10, 0..9), &manifests, &[region(8..12, 0..9)]);
        assert_eq!(found.len(), 1);
        assert_eq!((&found[0].manifests, &found[0].buckets), (&vec![], &vec![0]));
        // A ragged last row is made anew with the manifest that holds it, and only with that.
        let found = clusters(&region(7..10, 0..9), &manifests, &[region(4..12, 0..9)]);
        assert_eq!(found.len(), 1);
        assert_eq!((&found[0].manifests, &found[0].buckets), (&vec![1], &vec![0]));
    }

    #[test]
    fn a_hull_takes_in_what_it_would_cover() {
        // Those at two corners are touched; their hull covers the third.
        let manifests = [region(0..2, 0..2), region(2..4, 2..4), region(0..2, 2..4)];
        let found = clusters(&region(1..3, 1..3), &manifests, &[region(0..4, 0..4)]);
        assert_eq!(found.len(), 1);
        let mut taken = found[0].manifests.clone();
        taken.sort_unstable();
        assert_eq!(taken, [0, 1, 2]);
    }

    fn boxes(most: usize) -> impl Strategy<Value = Vec<ChunkBox>> {
        let range = (0_u32..12, 1_u32..5).prop_map(|(start, length)| start..start + length);
        let one = (range.clone(), range).prop_map(|(rows, columns)| region(rows, columns));
        proptest::collection::vec(one, 0..most)
    }

    proptest! {
        #[test]
        fn clusters_are_apart_and_lose_nothing(
            manifests in boxes(12), part in boxes(2), buckets in boxes(6),
        ) {
            // As in a repository: manifests that do not overlap.
            let mut apart: Vec<ChunkBox> = Vec::new();
            for manifest in manifests {
                if !apart.iter().any(|other| other.intersects(&manifest)) {
                    apart.push(manifest);
                }
            }
            let part = part.into_iter().next().unwrap_or_else(|| region(0..16, 0..3));
            let buckets: Vec<_> =
                buckets.into_iter().filter_map(|bucket| bucket.intersection(&part)).collect();
            let found = clusters(&part, &apart, &buckets);
            let mut taken: Vec<_> = found.iter().flat_map(|c| c.buckets.clone()).collect();
            taken.sort_unstable();
            prop_assert_eq!(taken, (0..buckets.len()).collect::<Vec<_>>());
            for (position, manifest) in apart.iter().enumerate() {
                let holders: Vec<_> =
                    found.iter().filter(|c| c.manifests.contains(&position)).collect();
                prop_assert!(holders.len() <= 1);
                prop_assert!(!holders.is_empty() || !manifest.intersects(&part));
                for cluster in &found {
                    let own = cluster.manifests.contains(&position);
                    prop_assert_eq!(own, cluster.hull.intersects(manifest));
                }
            }
            for (number, one) in found.iter().enumerate() {
                for other in found.iter().skip(number + 1) {
                    prop_assert!(!one.hull.intersects(&other.hull));
                }
            }
        }
    }
}
