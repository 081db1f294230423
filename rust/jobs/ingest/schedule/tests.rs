//! What is taken when, and that nothing is lost.

use super::*;
use crate::plan::{ExpectedArray, LimitOptions};
use crate::testing::layout;
use crate::zarr::metadata::ArraySpec;

/// Gives the schedule of one array of 64 chunks, of which `expected` exist, in manifests of
/// `split` chunks and commits of 8 references.
fn with_schedule(expected: u64, split: u32, test: impl FnOnce(Schedule<'_>)) {
    let layout = layout(&[64]);
    let (path, source_path, document) = ("/x".to_owned(), "x".to_owned(), Vec::new());
    let spec = ArraySpec { path, source_path, document, layout: layout.clone(), copied: false };
    let pieces = [Piece::whole(0, &spec)];
    let splits = [vec![split]];
    let known =
        ExpectedArray { array: 0, layout: &layout, leading: None, split: vec![split], expected };
    let batches = Batches::new(&[known], 8);
    let options = LimitOptions { references_per_commit: Some(8), ..LimitOptions::default() };
    let plan = Workload {
        batches: &batches,
        layouts: std::slice::from_ref(&layout),
        pieces: &[&pieces],
        splits: &splits,
    };
    let expectations = vec![Expectation::new(64, expected)];
    test(Schedule::new(plan, PlanLimits::from(options), expectations, 0, std::iter::empty()));
}

/// First chunk of each part, and the first one behind it.
fn ranges(parts: &[Part]) -> Vec<(u32, u32)> {
    let bounds = |part: &Part| (part.region.ranges()[0].start, part.region.ranges()[0].end);
    parts.iter().map(bounds).collect()
}

#[test]
fn what_is_expected_to_fit_a_commit_is_taken_and_no_more() {
    with_schedule(64, 4, |mut schedule| {
        assert_eq!(ranges(&schedule.take(0)), [(0, 8)]);
        assert!(schedule.take(8).is_empty() && !schedule.is_empty());
        assert_eq!(ranges(&schedule.take(0)), [(8, 16)]);
        assert_eq!(schedule.mark().next, 2);
    });
}

#[test]
fn what_comes_after_is_known_where_nothing_is_guessed() {
    with_schedule(64, 4, |mut schedule| {
        let mut parts = schedule.take(0);
        let after_first: Vec<_> = schedule.after(&parts, 0).collect();
        for later in after_first {
            assert_eq!(schedule.after(&parts, 0).next().as_ref(), Some(&later));
            parts = schedule.take(0);
            assert_eq!((parts.clone(), true), later);
        }
        assert!(schedule.is_empty() && ranges(&parts) == [(56, 64)]);
        assert_eq!(schedule.after(&parts, 0).next(), None);
    });
    with_schedule(32, 4, |mut schedule| {
        let parts = schedule.take(0);
        assert!(schedule.after(&parts, 0).all(|(_, is_known)| !is_known));
        // What is guessed is what comes, as long as nothing else is learned.
        let guessed: Vec<_> = schedule.after(&parts, 0).map(|(parts, _)| parts).collect();
        for later in guessed {
            assert_eq!(schedule.take(0), later);
        }
        assert!(schedule.is_empty());
    });
}

#[test]
fn a_commit_is_given_out_in_steps() {
    with_schedule(64, 2, |schedule| {
        let limits = PlanLimits { references_at_once: 4, ..schedule.limits };
        let layout = layout(&[64]);
        let known = ExpectedArray {
            array: 0,
            layout: &layout,
            leading: None,
            split: vec![2],
            expected: 64,
        };
        let batches = Batches::in_steps(&[known], 8, 4);
        let plan = Workload { batches: &batches, ..schedule.plan };
        let mut schedule = Schedule { plan, limits, total: 16, ..schedule }.in_steps();
        assert_eq!(ranges(&schedule.take(0)), [(0, 4)]);
        assert!(schedule.has_more_for(4));
        let next = schedule.clone().take(4);
        let after: Vec<_> =
            schedule.after(&next, 4).map(|(parts, _)| ranges(&parts)).take(3).collect();
        assert_eq!(after, [[(4, 8)], [(8, 12)], [(12, 16)]]);
        assert_eq!(ranges(&schedule.take(4)), [(4, 8)]);
        assert!(!schedule.has_more_for(8) && schedule.has_more_for(0));
        assert_eq!(ranges(&schedule.take(0)), [(8, 12)]);
    });
}

#[test]
fn what_was_given_up_comes_first_and_halved_when_it_was_alone() {
    with_schedule(4, 4, |mut schedule| {
        let parts = schedule.take(0);
        let given_up = |parts: &[Part]| vec![(parts[0].clone(), 9)];
        assert_eq!(ranges(&parts), [(0, 64)]);
        schedule.give_up(given_up(&parts), false);
        assert_eq!(ranges(&schedule.rest().cloned().collect::<Vec<_>>()), [(0, 64)]);
        // Now known to be too much for a commit, however much is ready: cut until it is not.
        let halved = schedule.take(0);
        assert_eq!(halved.len(), 1);
        let (start, end) = ranges(&halved)[0];
        assert!(start == 0 && end < 64, "{start}..{end}");
        schedule.give_up(given_up(&halved), true);
        let rest = ranges(&schedule.rest().cloned().collect::<Vec<_>>());
        assert_eq!(rest[..2], [(0, end / 2), (end / 2, end)]);
        assert_eq!(rest.iter().map(|(start, end)| end - start).sum::<u32>(), 64);
    });
}

#[test]
fn sparse_neighbours_are_taken_together_once_they_are_known_to_be_sparse() {
    with_schedule(32, 4, |mut schedule| {
        let first = schedule.take(0);
        schedule.learn(&first[0], 0);
        let next = schedule.take(0);
        assert_eq!(ranges(&next), [(ranges(&first)[0].1, 64)]);
        assert!(schedule.is_empty());
    });
}

#[test]
fn nothing_is_lost_or_taken_twice() {
    with_schedule(64, 1, |mut schedule| {
        let mut seen = Vec::new();
        let mut failures = 5;
        while !schedule.is_empty() {
            let parts = schedule.take(0);
            if failures > 0 {
                failures -= 1;
                schedule.give_up(parts.into_iter().map(|part| (part, 9)).collect(), true);
                continue;
            }
            seen.extend(ranges(&parts).into_iter().flat_map(|(start, end)| start..end));
        }
        assert_eq!(seen, (0..64).collect::<Vec<_>>());
    });
}
