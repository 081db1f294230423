//! How many requests may be in flight, and how fast they may follow one another: learned from what
//! the service answers.
//!
//! A state machine without a clock of its own or IO: it is told when requests are sent, answered and
//! refused, and says what is allowed now. Throughput decides. The number trebles with the first
//! round of answers and doubles with every other while more in flight get more answers a second, or
//! grows as far as it takes to ask for what services bear, because a round far away is long;
//! where requests only wait longer (latency rises at equal throughput) it falls back to what that
//! throughput needs, and later tries a quarter more from time to time. A refusal halves it (as in
//! AIMD), and the rate at which the service did answer becomes a [`Pace`], which rises slowly until
//! the next one; refusals that come only now and then change nothing.

use std::time::Duration;

use super::concurrency::{FIRST_CONCURRENCY, InFlight};
use super::pace::Pace;

/// A round is at least so long: shorter ones tell nothing of throughput.
const LEAST_ROUND: Duration = Duration::from_millis(10);

/// How many times as many are allowed after the first round of answers, and after others.
const GROWTH: (usize, usize) = (3, 2);

/// Requests a second that a service is asked for after the first round of answers, and after others,
/// where it is so far away that three times or twice as many in flight would ask for fewer. S3 bears 5,500 below a prefix ("Best practices design
/// patterns: optimizing Amazon S3 performance"); many bear less.
const RATES: (f64, f64) = (1_200.0, 5_000.0);

/// So many answers tell how far away a service is, when there has not yet been work for all that are
/// allowed.
const LOOKS: usize = 4;

/// An answer that takes so many times as long as the quickest one of late may have waited in a queue.
const SLOW: f64 = 2.0;

/// Answers that on average take no more than so many times as long as the quickest did not wait.
const EVEN: f64 = 1.25;

/// Answers that on average take so many times as long as with fewer in flight wait for one another: no
/// more are allowed until it is known what those that there are bring.
const LONGER: f64 = 1.5;

/// Share of the additional requests in flight that must come back as throughput.
const WORTH_IT: f64 = 0.4;

/// Share of the time of this process's threads from which on the processor is the limit.
const BUSY: f64 = 0.95;

/// Requests of which the mean takes so many times as long as the quickest one of late wait in a queue:
/// more of them would wait longer, and their answers would take memory.
const QUEUED: f64 = 8.0;

/// Of the answers that always wait in this process to be read, as many are kept, so that there is
/// always one; the requests of the others bring nothing.
const KEPT_WAITING: u32 = 32;

/// How long a number is kept before a quarter more is tried, at first and at last.
const PATIENCE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(8));

/// What is being found out.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Phase {
    /// Each answer allows some more; with how many in flight there were how many answers a second in
    /// the round before.
    Growing { before: Option<(usize, f64)> },
    /// The number stays until it is time for another try.
    Holding { until: Duration, patience: Duration },
    /// A quarter more, which is settling in, or being measured, against what there was before.
    Trying { before: (usize, f64), settled: bool, patience: Duration },
    /// After a refusal: each answer allows one more, up to this, or to what the pace needs.
    Recovering { to: usize },
}

/// Answers since some time.
#[derive(Debug, Clone, Copy)]
struct Round {
    began: Duration,
    /// What was allowed then.
    allowed: usize,
    answers: usize,
    /// Whether the number was all used, in this round and in the one before.
    full: (bool, bool),
    /// The fewest answers that waited to be read when another one came.
    waiting: u32,
}

impl Round {
    fn new(began: Duration, allowed: usize, was_full: bool) -> Self {
        Self { began, allowed, answers: 0, full: (was_full, false), waiting: u32::MAX }
    }

    /// Whether the number was all used, in this round or in the one before.
    fn is_full(&self) -> bool {
        self.full.0 || self.full.1
    }
}

/// The state of one limit.
#[derive(Debug)]
pub(super) struct Controller {
    bounds: InFlight,
    allowed: usize,
    in_flight: usize,
    phase: Phase,
    round: Round,
    /// Requests that were in flight when the number was reduced: what waits beside their answers will
    /// be less.
    stale: usize,
    /// Counts the decreases: requests sent before one do not cause another.
    epoch: u64,
    /// Mean time from sending to the answer, of the last ones.
    latency: Option<f64>,
    /// The shortest of this round, and of the one before: an answer that came quickly for a reason of
    /// its own is soon forgotten.
    quickest: (f64, f64),
    pace: Pace,
}

impl Controller {
    /// A limit within bounds; requests are sent at least as far `apart`.
    pub(super) fn new(bounds: InFlight, apart: Option<Duration>) -> Self {
        let allowed = bounds.begin;
        Self {
            bounds,
            allowed,
            in_flight: 0,
            phase: Phase::Growing { before: None },
            round: Round::new(Duration::ZERO, allowed, false),
            stale: 0,
            epoch: 0,
            latency: None,
            quickest: (f64::INFINITY, f64::INFINITY),
            pace: Pace::default().apart(apart),
        }
    }

    /// How many may be in flight now.
    pub(super) fn allowed(&self) -> usize {
        self.allowed
    }

    /// Takes a place among those in flight, if there is one.
    pub(super) fn take(&mut self, now: Duration) -> bool {
        if self.in_flight >= self.allowed {
            return false;
        }
        if 2 * self.in_flight < self.allowed {
            // There was nothing to do, or everything is new: what is measured begins here.
            self.round = Round { full: self.round.full, ..Round::new(now, self.allowed, false) };
            let recovers = matches!(self.phase, Phase::Recovering { .. });
            if self.pace.rate().is_none() && !recovers {
                // A rate of before would be that of the few requests that there were to send. After a
                // refusal it is few requests that are allowed.
                self.pace.begin_anew();
            }
        }
        self.in_flight += 1;
        self.round.full.1 |= self.in_flight >= self.allowed;
        true
    }

    /// Whether another one may be taken at once.
    pub(super) fn has_room(&self) -> bool {
        self.in_flight < self.allowed
    }

    /// When a request that has its place may be sent, or may ask again.
    pub(super) fn turn(&mut self, now: Duration) -> Duration {
        self.pace.turn(now)
    }

    /// A request's turn has come: the epoch that it is sent in, unless it must wait for another turn.
    pub(super) fn send(&self, now: Duration) -> Option<u64> {
        (!self.pace.pauses(now)).then_some(self.epoch)
    }

    /// A place is given back, whatever came of it.
    pub(super) fn give_back(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    /// A request was answered after `latency`, when so many other answers were `waiting` to be read;
    /// `busy` tells how busy this process's threads were since it was last asked, from 0 to 1.
    pub(super) fn answered(
        &mut self,
        now: Duration,
        latency: Duration,
        waiting: u32,
        busy: impl FnOnce() -> f64,
    ) {
        let last = latency.as_secs_f64();
        self.latency = Some(self.latency.map_or(last, |mean| mean + (last - mean) / 16.0));
        self.quickest.0 = self.quickest.0.min(last);
        self.pace.answered(now);
        self.round.answers += 1;
        let waiting = if self.stale > 0 { 0 } else { waiting };
        self.stale = self.stale.saturating_sub(1);
        self.round.waiting = self.round.waiting.min(waiting);
        let was = self.round.allowed;
        let most = match self.phase {
            Phase::Growing { before } => {
                self.look();
                self.grown(last, before)
            }
            Phase::Recovering { to } => self.needed().unwrap_or(to).min(2 * was).min(self.most()),
            Phase::Holding { .. } | Phase::Trying { .. } => was,
        };
        if self.allowed < most {
            // As many more with each answer as come to that with all of the round.
            self.allowed = most.min(self.allowed + most.div_ceil(was.max(1)) - 1);
        }
        let elapsed = now.saturating_sub(self.round.began);
        if self.round.answers >= self.round.allowed && elapsed >= LEAST_ROUND {
            #[expect(clippy::cast_precision_loss, reason = "a rate")]
            let rate = self.round.answers as f64 / elapsed.as_secs_f64();
            self.judge(now, rate, busy);
            self.quickest = (f64::INFINITY, self.quickest.0);
            self.round = Round::new(now, self.allowed, self.round.full.1);
        }
    }

    /// A round of answers came at `rate`: what that says of the number in flight.
    fn judge(&mut self, now: Duration, rate: f64, busy: impl FnOnce() -> f64) {
        let (was, full) = (self.round.allowed, self.round.full.1);
        // The service may have come nearer.
        self.allowed = self.allowed.min(self.most());
        let is_most = self.allowed >= self.most();
        let needless = self.round.waiting.saturating_sub(KEPT_WAITING);
        let needless = usize::try_from(needless).unwrap_or(usize::MAX);
        self.phase = match self.phase {
            Phase::Recovering { .. } if self.pace.is_limit(now) => return,
            Phase::Growing { .. } | Phase::Holding { .. } | Phase::Trying { .. }
                if needless > 0 && !self.bounds.is_fixed() =>
            {
                let least = self.bounds.begin.min(self.allowed);
                self.allowed = self.allowed.saturating_sub(needless).max(least);
                self.stale = self.in_flight;
                Self::hold(now, PATIENCE.0)
            }
            Phase::Recovering { to } if self.allowed >= to.min(self.most()) => {
                Self::hold(now, PATIENCE.0)
            }
            Phase::Holding { until, patience } if self.bounds.is_fixed() => {
                // Back to the number that was asked for.
                if now < until || is_most {
                    return;
                }
                self.allowed = a_quarter_more(was).min(self.most());
                Self::hold(now, patience)
            }
            _ if self.bounds.is_fixed() => return,
            Phase::Growing { before } if full => match before {
                // Nothing is learned from as many once more.
                Some(before) if before.0 >= was || !is_worth_it(before, (was, rate)) => {
                    self.allowed = enough_for(rate, before).min(self.queued_twice(rate)).min(was);
                    Self::hold(now, PATIENCE.0)
                }
                _ if self.is_queueing() || busy() >= BUSY => {
                    self.allowed = was;
                    Self::hold(now, PATIENCE.0)
                }
                _ if is_most && self.queued_twice(rate) < was => {
                    self.allowed = self.queued_twice(rate);
                    Self::hold(now, PATIENCE.0)
                }
                _ => Phase::Growing { before: Some((was, rate)) },
            },
            Phase::Holding { until, patience } if now >= until && full && !is_most => {
                if self.is_queueing() || busy() >= BUSY {
                    Self::hold(now, longer(patience))
                } else {
                    self.try_more((was, rate), patience)
                }
            }
            Phase::Trying { before, settled: false, patience } => {
                Phase::Trying { before, settled: true, patience }
            }
            Phase::Trying { before, settled: true, patience } if full => {
                if is_worth_it(before, (was, rate)) {
                    if is_most {
                        Self::hold(now, PATIENCE.0)
                    } else {
                        self.try_more((was, rate), PATIENCE.0)
                    }
                } else {
                    self.allowed = before.0;
                    Self::hold(now, longer(patience))
                }
            }
            other => other,
        };
    }

    fn hold(now: Duration, patience: Duration) -> Phase {
        Phase::Holding { until: now + patience, patience }
    }

    fn try_more(&mut self, before: (usize, f64), patience: Duration) -> Phase {
        self.allowed = a_quarter_more(before.0).min(self.most());
        Phase::Trying { before, settled: false, patience }
    }

    /// The service asked for less: half, once for all requests that were in flight together.
    pub(super) fn throttled(&mut self, now: Duration, epoch: u64) {
        let is_too_much = self.pace.refused();
        if matches!(self.phase, Phase::Growing { .. }) {
            // It may be the first of many.
            self.phase = Self::hold(now, PATIENCE.0);
        }
        if !is_too_much || self.epoch != epoch {
            return;
        }
        self.epoch += 1;
        self.pace.slow_down(now);
        let before = self.allowed;
        self.allowed = (before / 2).max(1);
        self.phase = Phase::Recovering { to: before };
        self.round = Round::new(now, self.allowed, false);
    }

    /// The quickest answer of late, in seconds.
    fn quickest(&self) -> f64 {
        self.quickest.0.min(self.quickest.1)
    }

    /// Takes a few answers for what they tell of the distance, when there was no work yet for all that
    /// are allowed: far away, the first requests may be more.
    fn look(&mut self) {
        if self.round.is_full() || self.round.answers != LOOKS {
            return;
        }
        let far = self.far_away(RATES.0).min(self.most());
        if far >= 2 * self.allowed.max(self.bounds.begin) {
            self.allowed = far;
        }
    }

    /// How many there may be when all of this round is answered, whose last answer took so long;
    /// `before` tells of the round before.
    fn grown(&self, last: f64, before: Option<(usize, f64)>) -> usize {
        let was = self.round.allowed;
        let grown = match before {
            _ if !self.round.is_full() || self.is_queueing() => was,
            None if was <= self.bounds.begin && last <= SLOW * self.quickest() => {
                self.far_away(RATES.0).max(GROWTH.0 * was)
            }
            Some(before) if self.takes_longer(before) => was,
            // Half of the answers have come, none of them was a refusal, and on average they did not wait.
            _ if 2 * self.round.answers >= was && self.is_even() => {
                self.far_away(RATES.1).max(GROWTH.1 * was)
            }
            _ => GROWTH.1 * was,
        };
        grown.min(self.most())
    }

    /// Whether answers take about as long as the quickest of late.
    fn is_even(&self) -> bool {
        self.latency.is_some_and(|mean| mean <= EVEN * self.quickest())
    }

    /// As many in flight as it takes to send this process's share of so many a second.
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    fn far_away(&self, rate: f64) -> usize {
        let share = self.bounds.begin as f64 / FIRST_CONCURRENCY as f64;
        at_least(share * rate * self.quickest())
    }

    /// The most that may be allowed now: where answers come quickly, those that there is room for
    /// although none has been read.
    fn most(&self) -> usize {
        self.bounds.most.min(self.far_away(RATES.1).max(self.bounds.near))
    }

    /// Whether requests wait for one another, at the service or for this machine, rather than for it.
    fn is_queueing(&self) -> bool {
        self.latency.is_some_and(|mean| mean > QUEUED * self.quickest())
    }

    /// Whether answers take longer than they did when so many requests in flight brought such a rate.
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    fn takes_longer(&self, (in_flight, rate): (usize, f64)) -> bool {
        self.latency.is_some_and(|mean| mean * rate > LONGER * in_flight as f64)
    }

    /// Twice as many as bring a rate when none waits in a queue, and no fewer than at the beginning.
    fn queued_twice(&self, rate: f64) -> usize {
        let needed = 2.0 * rate * self.quickest();
        at_least(needed).max(self.bounds.begin)
    }

    /// Twice as many as are in flight at the pace that was learned: half of them still does.
    fn needed(&self) -> Option<usize> {
        let needed = 2.0 * self.pace.rate()? * self.latency?;
        Some(at_least(needed).saturating_add(2))
    }
}

/// As many in flight as bring a rate if each brings what each did `before`, and no fewer than then.
#[expect(clippy::cast_precision_loss, reason = "an estimate")]
fn enough_for(rate: f64, before: (usize, f64)) -> usize {
    let times = (rate / before.1.max(f64::MIN_POSITIVE)).max(1.0);
    at_least(before.0 as f64 * times)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "an estimate; the cast saturates"
)]
fn at_least(number: f64) -> usize {
    number.ceil() as usize
}

fn a_quarter_more(number: usize) -> usize {
    number + (number / 4).max(1)
}

fn longer(patience: Duration) -> Duration {
    (2 * patience).min(PATIENCE.1)
}

/// Whether more in flight brought enough more answers a second.
#[expect(clippy::cast_precision_loss, reason = "an estimate")]
fn is_worth_it(before: (usize, f64), now: (usize, f64)) -> bool {
    let more = now.0 as f64 / before.0.max(1) as f64 - 1.0;
    now.1 >= before.1 * (1.0 + WORTH_IT * more)
}
