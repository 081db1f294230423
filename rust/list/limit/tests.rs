//! What the controller achieves against services in simulated time.

#![expect(clippy::cast_precision_loss, reason = "counts of requests are small")]

use proptest::prelude::*;

use super::concurrency::{Concurrency, InFlight};
use super::simulated::{Outcome, Refuses, Service, run, run_after};

const AUTO: InFlight = InFlight { begin: 64, most: 1_024, near: 1_024 };

/// Of the tests in which little happens at random, and of those in which much does.
const SEED: u64 = 9;
const SEEDS: std::ops::Range<u64> = 0..15;

fn steady(latency: f64, most: f64) -> Service {
    Service { latency: (latency, 0.0), most, reads: f64::INFINITY, refuses: Refuses::Never }
}

fn refusing(latency: f64, jitter: f64, refuses: Refuses) -> Service {
    Service { latency: (latency, jitter), most: 5_000.0, reads: f64::INFINITY, refuses }
}

fn alone(bounds: InFlight, pages: u64, service: Service) -> Outcome {
    run(SEED, bounds, pages, &[(0.0, service)])
}

#[test]
fn more_in_flight_make_up_for_latency() {
    for latency in [50.0, 200.0] {
        let found = alone(AUTO, 1_000, steady(latency, 1e6));
        // 64 + 192 + 384 and the rest, where 64 in flight take sixteen rounds.
        assert!(found.seconds <= 4.5 * latency / 1e3, "{latency}: {found:?}");
        assert!(found.most_in_flight > 400, "{found:?}");
    }
    // Farther away a round is longer, and fewer of them are needed: 64 + 240 and the rest.
    let found = alone(AUTO, 1_000, steady(200.0, 1e6));
    assert!(found.seconds <= 3.5 * 0.2, "{found:?}");
    let found = alone(AUTO, 20_000, steady(200.0, 1e6));
    assert_eq!(found.most_in_flight, 1_024, "{found:?}");
}

#[test]
fn where_answers_come_quickly_there_are_no_more_than_there_is_room_for() {
    let bounds = InFlight { near: 300, ..AUTO };
    for (latency, most) in [(5.0, 300), (50.0, 300), (100.0, 510), (200.0, 1_024)] {
        let found = alone(bounds, 40_000, steady(latency, 1e6));
        assert!(found.most_in_flight <= most, "{latency}: {found:?}");
        assert!(found.most_in_flight > most * 9 / 10 || latency < 50.0, "{latency}: {found:?}");
    }
    // A service that has come nearer.
    let services = [(0.0, steady(200.0, 1e6)), (2.0, steady(10.0, 1e6))];
    let found = run(SEED, bounds, 40_000, &services);
    assert!(found.most_in_flight >= 1_000 && found.last <= 300, "{found:?}");
}

#[test]
fn where_requests_queue_from_the_first_round_on_no_more_are_sent() {
    for latency in [0.2, 0.5, 2.0] {
        let found = alone(AUTO, 20_000, steady(latency, 2_000.0));
        assert!(found.rate() > 1_950.0 && found.most_in_flight <= 112, "{latency}: {found:?}");
    }
}

#[test]
fn one_quick_answer_does_not_keep_requests_down() {
    let services = [(0.0, steady(5.0, 1e6)), (0.004, steady(200.0, 1e6))];
    let found = run(SEED, AUTO, 40_000, &services);
    assert!(found.last > 300, "{found:?}");
}

#[test]
fn answers_that_would_only_wait_here_are_not_asked_for() {
    for (latency, needed) in [(5.0, 10), (20.0, 40), (75.0, 150), (200.0, 400)] {
        let slow = Service { reads: 2_000.0, ..steady(latency, 1e6) };
        let found = alone(AUTO, 20_000, slow);
        let work = 20_000.0 / 2_000.0 + latency / 1e3 * 5.0;
        assert!(found.seconds < work, "{latency}: {found:?}");
        assert!(found.last <= needed.max(64) + 200, "{latency}: {found:?}");
        // What became slow, because files are written too, is asked for less.
        let quick = Service { reads: 1e6, ..slow };
        let found = run(SEED, AUTO, 20_000, &[(0.0, quick), (1.5 * latency / 1e3, slow)]);
        assert!(found.last <= needed.max(64) + 200, "{latency}: {found:?}");
    }
}

#[test]
fn what_brings_nothing_is_taken_back() {
    // The service gives 2,000 a second whatever is asked: ten in flight would do.
    let found = alone(AUTO, 20_000, steady(5.0, 2_000.0));
    assert!(found.rate() > 1_950.0 && found.last <= 80, "{found:?}");
    // 80 in flight are enough for 400 a second; 64 are not.
    let found = alone(AUTO, 10_000, steady(200.0, 400.0));
    assert!(found.rate() > 370.0 && found.last <= 200, "{found:?}");
    // 380 are needed; twice as many are no harm.
    let found = alone(AUTO, 20_000, steady(200.0, 1_900.0));
    assert!(found.rate() > 1_600.0 && (300..=800).contains(&found.last), "{found:?}");
}

#[test]
fn a_service_that_becomes_quicker_is_asked_for_more() {
    let services = [(0.0, steady(100.0, 500.0)), (8.0, steady(100.0, 4_000.0))];
    let found = run(SEED, AUTO, 60_000, &services);
    assert!(found.last > 300, "{found:?}");
}

#[test]
fn a_service_that_refuses_above_a_rate_is_asked_at_nearly_that_rate() {
    for latency in [0.02, 0.5, 5.0, 20.0, 50.0, 200.0] {
        for jitter in [0.0, latency] {
            for rate in [1_000.0, 500.0] {
                let mut shares = Vec::new();
                for seed in SEEDS {
                    let service = refusing(latency, jitter, Refuses::Above(rate));
                    let found = run(seed, AUTO, 20_000, &[(0.0, service)]);
                    assert!(found.rate() >= 0.9 * rate, "{latency} {jitter} {rate}: {found:?}");
                    shares.push(found.share_refused());
                }
                shares.sort_by(f64::total_cmp);
                assert!(shares[shares.len() / 2] <= 0.03, "{latency} {jitter} {rate}: {shares:?}");
                assert!(shares[shares.len() - 1] <= 0.035, "{latency} {jitter} {rate}: {shares:?}");
            }
        }
    }
}

#[test]
fn a_rate_learned_from_a_few_requests_one_by_one_is_soon_left_behind() {
    for first in [2, 5, 8, 20] {
        let service = refusing(50.0, 0.0, Refuses::Above(600.0));
        let found = run_after(first, 1, SEED, AUTO, 10_000, &[(0.0, service)]);
        // What the first ones took is not the controller's.
        let seconds = found.seconds - first as f64 * 0.05;
        assert!(10_000.0 / seconds >= 0.9 * 600.0, "{first}: {found:?}");
        assert!(found.share_refused() <= 0.03, "{first}: {found:?}");
    }
}

#[test]
fn a_few_answers_tell_how_many_a_service_far_away_may_be_asked_for() {
    let looked =
        |latency, pages| run_after(7, 7, SEED, AUTO, pages, &[(0.0, steady(latency, 1e6))]);
    // The looks, 240 and the rest.
    let found = looked(200.0, 800);
    assert!(found.seconds <= 3.5 * 0.2, "{found:?}");
    // One of eight processes takes an eighth of that: 30.
    let bounds = Concurrency::Auto { shares: 8 }.in_flight(1_000);
    let found = run_after(4, 4, SEED, bounds, 34, &[(0.0, steady(200.0, 1e6))]);
    assert_eq!((found.most_in_flight, found.seconds > 0.39), (30, true), "{found:?}");
    // No more than at the beginning where that is enough.
    assert_eq!(looked(20.0, 60).most_in_flight, 53);
    assert_eq!(looked(20.0, 70).most_in_flight, 63);
    for latency in [20.0, 50.0, 200.0] {
        for rate in [500.0, 600.0, 1_000.0] {
            let service = refusing(latency, 0.0, Refuses::Above(rate));
            let found = run_after(7, 7, SEED, AUTO, 20_000, &[(0.0, service)]);
            assert!(20_000.0 / found.seconds >= 0.9 * rate, "{latency} {rate}: {found:?}");
            assert!(found.share_refused() <= 0.03, "{latency} {rate}: {found:?}");
        }
    }
}

#[test]
fn refusals_now_and_then_are_no_limit() {
    for (latency, most) in [(5.0, 2_000.0), (50.0, 1_000.0), (200.0, 1_000.0)] {
        for share in [0.002, 0.01] {
            let refuses = Refuses::AtRandom(share);
            let service = Service { refuses, ..steady(latency, most) };
            let undisturbed = alone(AUTO, 20_000, steady(latency, most));
            for seed in SEEDS {
                let found = run(seed, AUTO, 20_000, &[(0.0, service)]);
                assert!(
                    found.rate() >= 0.8 * undisturbed.rate(),
                    "{latency} {share}: {found:?}, {undisturbed:?}"
                );
            }
        }
    }
}

#[test]
fn after_a_slow_down_it_comes_back() {
    let calm = steady(100.0, 1e6);
    let angry = refusing(100.0, 0.0, Refuses::Above(50.0));
    for bounds in [AUTO, InFlight::fixed(64)] {
        let found = run(SEED, bounds, 40_000, &[(0.0, calm), (1.0, angry), (5.0, calm)]);
        assert!(found.allowed.1 <= bounds.begin / 2, "{found:?}");
        assert!(found.last >= bounds.begin, "{found:?}");
    }
}

fn refusals() -> impl Strategy<Value = Refuses> {
    prop_oneof![
        Just(Refuses::Never),
        (20.0_f64..3_000.0).prop_map(Refuses::Above),
        (20_u64..3_000).prop_map(Refuses::InASecond),
        (1_usize..200).prop_map(Refuses::InFlight),
        (0.0..0.5).prop_map(Refuses::AtRandom),
    ]
}

fn services() -> impl Strategy<Value = Service> {
    (0.2_f64..400.0, 0.0_f64..200.0, 50.0_f64..20_000.0, refusals()).prop_map(
        |(latency, jitter, most, refuses)| Service {
            latency: (latency, jitter),
            refuses,
            ..steady(latency, most)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_the_service_does_the_bounds_hold_and_the_work_is_done(
        first in services(), then in services(), number in prop_oneof![
            Just(Concurrency::default()),
            (1_usize..300).prop_map(Concurrency::Fixed),
            (1_usize..40).prop_map(|shares| Concurrency::Auto { shares }),
        ],
        room in 1_usize..2_000, pages in 1_u64..4_000,
    ) {
        let bounds = number.in_flight(room);
        let found = run(SEED, bounds, pages, &[(0.0, first), (2.0, then)]);
        prop_assert_eq!(found.answered, pages);
        prop_assert!(found.allowed.0 <= bounds.most && bounds.most <= 1_024);
        prop_assert!(found.allowed.1 >= 1 && found.most_in_flight <= bounds.most);
    }
}
