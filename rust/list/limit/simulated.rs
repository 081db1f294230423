//! A service in simulated time, for tests of the [controller](super::controller): what it can bear
//! is known, and so is what the controller should come to.

#![expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "simulated microseconds and counts are small"
)]

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use super::concurrency::InFlight;
use super::controller::Controller;

/// When a service refuses.
#[derive(Debug, Clone, Copy)]
pub(super) enum Refuses {
    Never,
    /// Above so many requests a second; what was not used of a tenth of a second may be used later.
    Above(f64),
    /// Above so many requests in each second of its clock.
    InASecond(u64),
    /// Above so many in flight.
    InFlight(usize),
    /// This share of all requests, whatever is asked of it.
    AtRandom(f64),
}

/// What a service can bear.
#[derive(Debug, Clone, Copy)]
pub(super) struct Service {
    /// Milliseconds that an answer takes, when nothing waits; and at random more than that.
    pub(super) latency: (f64, f64),
    /// Answers a second that it can give: more requests wait.
    pub(super) most: f64,
    /// Answers a second that this process can read: more of them wait here.
    pub(super) reads: f64,
    pub(super) refuses: Refuses,
}

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) seconds: f64,
    pub(super) answered: u64,
    pub(super) refused: u64,
    /// The most and the least that were allowed.
    pub(super) allowed: (usize, usize),
    /// Allowed at the end.
    pub(super) last: usize,
    pub(super) most_in_flight: usize,
}

impl Outcome {
    pub(super) fn rate(&self) -> f64 {
        self.answered as f64 / self.seconds
    }

    /// The share of all requests that was refused.
    pub(super) fn share_refused(&self) -> f64 {
        self.refused as f64 / (self.answered + self.refused) as f64
    }
}

/// Microseconds; what happens; which request.
type Event = Reverse<(u64, u8, u64)>;

const SENT: u8 = 0;
const ANSWERED: u8 = 1;
const AGAIN: u8 = 2;
const READ: u8 = 3;

/// A client that asks for `pages`, and a service that may change after so many seconds; what happens
/// at random follows from `seed`.
pub(super) fn run(seed: u64, bounds: InFlight, pages: u64, services: &[(f64, Service)]) -> Outcome {
    run_after(0, 1, seed, bounds, pages, services)
}

/// The same of a client that asks for the first few pages so many at a time, as an ingest does that
/// looks at its source first.
pub(super) fn run_after(
    first: u64,
    at_once: usize,
    seed: u64,
    bounds: InFlight,
    pages: u64,
    services: &[(f64, Service)],
) -> Outcome {
    let mut controller = Controller::new(bounds, None);
    let mut outcome = Outcome { allowed: (0, usize::MAX), ..Outcome::default() };
    let mut events: BinaryHeap<Event> = BinaryHeap::new();
    let mut asked = vec![(0_u64, 0_u64, 0_u32, 0_u32); usize::try_from(pages).unwrap()];
    let (mut read_until, mut unread) = (0_u64, 0_u32);
    let mut waiting: Vec<u64> = (0..pages).rev().collect();
    let (mut now, mut free_at, mut bucket, mut at_server) =
        (0_u64, 0_u64, (0_u64, f64::MAX), 0_usize);
    let (mut window, mut random) = ((0_u64, 0_u64), dice(seed));
    let time = |micros: u64| Duration::from_micros(micros);
    let mut in_flight = 0;
    while outcome.answered < pages {
        while let Some(request) = waiting.last().copied() {
            let sent = pages - waiting.len() as u64;
            if outcome.answered < first && (in_flight >= at_once || sent >= first) {
                break;
            }
            if !controller.take(time(now)) {
                break;
            }
            waiting.pop();
            in_flight += 1;
            outcome.most_in_flight = outcome.most_in_flight.max(in_flight);
            let turn = u64::try_from(controller.turn(time(now)).as_micros()).unwrap();
            events.push(Reverse((turn, SENT, request)));
        }
        let Some(Reverse((at, what, request))) = events.pop() else { break };
        now = at;
        let service = services.iter().rev().find(|(from, _)| *from * 1e6 <= at as f64).unwrap().1;
        let slot = &mut asked[request as usize];
        match what {
            SENT => {
                let Some(epoch) = controller.send(time(at)) else {
                    let turn = u64::try_from(controller.turn(time(at)).as_micros()).unwrap();
                    events.push(Reverse((turn.max(at + 1), SENT, request)));
                    continue;
                };
                (slot.0, slot.1) = (epoch, at);
                at_server += 1;
                let refused = match service.refuses {
                    Refuses::Never => false,
                    Refuses::Above(rate) => {
                        let most = (rate / 10.0).max(1.0);
                        bucket.1 =
                            (bucket.1 + at.saturating_sub(bucket.0) as f64 * rate / 1e6).min(most);
                        bucket.0 = at;
                        let refused = bucket.1 < 1.0;
                        bucket.1 -= f64::from(!refused);
                        refused
                    }
                    Refuses::InASecond(most) => {
                        if window.0 != at / 1_000_000 {
                            window = (at / 1_000_000, 0);
                        }
                        window.1 += 1;
                        window.1 > most
                    }
                    Refuses::InFlight(most) => at_server > most,
                    Refuses::AtRandom(share) => random() < share,
                };
                let latency = ((service.latency.0 + random() * service.latency.1) * 1e3) as u64;
                let begun = at.max(free_at);
                if !refused {
                    free_at = begun + (1e6 / service.most) as u64;
                }
                let ready = if refused { at } else { begun } + latency.max(1);
                slot.2 = if refused { slot.2 + 1 } else { 0 };
                events.push(Reverse((ready, ANSWERED, request)));
            }
            ANSWERED => {
                at_server -= 1;
                if slot.2 == 0 {
                    (slot.3, unread) = (unread, unread + 1);
                    read_until = at.max(read_until) + (1e6 / service.reads) as u64;
                    events.push(Reverse((read_until, READ, request)));
                } else {
                    in_flight -= 1;
                    outcome.refused += 1;
                    controller.throttled(time(at), slot.0);
                    let wait = 100_000 * (1_u64 << (slot.2 - 1).min(7));
                    let wait = (wait as f64 * (0.5 + random() / 2.0)) as u64;
                    events.push(Reverse((at + wait, AGAIN, request)));
                    controller.give_back();
                }
            }
            READ => {
                (in_flight, unread) = (in_flight - 1, unread - 1);
                outcome.answered += 1;
                controller.answered(time(at), time(at - slot.1), slot.3, || 0.0);
                controller.give_back();
            }
            _ => waiting.push(request),
        }
        let allowed = controller.allowed();
        outcome.allowed = (outcome.allowed.0.max(allowed), outcome.allowed.1.min(allowed));
    }
    outcome.seconds = now as f64 / 1e6;
    outcome.last = controller.allowed();
    outcome
}

/// Numbers from 0 to 1 that follow from `seed`.
fn dice(mut seed: u64) -> impl FnMut() -> f64 {
    move || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as f64 / (1_u64 << 31) as f64
    }
}
