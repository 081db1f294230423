//! How fast requests may follow one another, once a service has refused some: at the rate at which
//! it answered, a little less at first and slowly more again.
//!
//! Part of the [controller](super::controller): no clock of its own.

use std::time::Duration;

/// What is counted together.
const SLOT: Duration = Duration::from_millis(50);

/// The slots that a rate is taken from.
const SLOTS: usize = 8;

/// Answers from which on a rate can be told.
const LEAST_ANSWERS: u32 = 8;

/// Of the rate at which the service answered, what is asked for after a refusal.
const AFTER_REFUSAL: f64 = 0.97;

/// The rate rises by the first share every [`STEP`], by as much more with each step without a refusal,
/// up to the second; by the last until it has met its second refusal, before which it is a guess.
const RISE: (f64, f64, f64) = (0.003, 0.1, 0.2);
const STEP: Duration = Duration::from_millis(500);

/// Of so many requests, the later ones counting more, the share of refusals up to which they say
/// nothing of a rate: servers fail now and then whatever is asked of them, and fewer requests would
/// not make that rarer. The second tells sooner that too many were sent at once.
const NOW_AND_THEN: [(f64, f64); 2] = [(256.0, 0.035), (64.0, 0.06)];

/// Nothing is sent for this long after a refusal.
const PAUSE: Duration = Duration::from_millis(40);

/// Answers of late, and what follows from them.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Answers by slot, and which slot each of them is.
    counts: [(u64, u32); SLOTS],
    /// Answers and refusals.
    requests: f64,
    /// Shares of refusals, as in [`NOW_AND_THEN`].
    refused: [f64; 2],
    /// When the first answer came, or the first after a pause.
    since: Option<Duration>,
    /// The slot of the last answer.
    last: u64,
    /// Requests a second.
    rate: Option<f64>,
    /// Whether it was refused twice.
    proven: bool,
    /// When it rises next, and how often it has risen without a refusal.
    rises: (Duration, u32),
    next: Duration,
    /// The last time to which a request had to wait.
    waited: Option<Duration>,
    /// The end of the pause.
    paused: Duration,
    /// What the user wants, at least.
    apart: Option<Duration>,
}

impl Pace {
    pub(super) fn apart(mut self, apart: Option<Duration>) -> Self {
        self.apart = apart;
        self
    }

    /// Whether it is the rate that has kept requests waiting, of late.
    pub(super) fn is_limit(&self, now: Duration) -> bool {
        self.rate.is_some() && self.waited.is_some_and(|last| now < last + STEP)
    }

    /// When the next request may be sent; it is sent then.
    pub(super) fn turn(&mut self, now: Duration) -> Duration {
        self.rise(now);
        let turn = self.next.max(now);
        if turn > now {
            self.waited = Some(turn);
        }
        let learned = self.rate.map(|rate| Duration::from_secs_f64(1.0 / rate.max(0.1)));
        self.next = turn + learned.max(self.apart).unwrap_or_default();
        turn
    }

    /// There were far fewer requests before: what was answered then tells nothing of the rate.
    pub(super) fn begin_anew(&mut self) {
        self.since = None;
        self.counts = [(0, 0); SLOTS];
    }

    pub(super) fn answered(&mut self, now: Duration) {
        let slot = slot_of(now);
        if self.since.is_none() || slot > self.last + SLOTS as u64 {
            self.since = Some(now);
        }
        self.last = slot;
        let count = &mut self.counts[index_of(slot)];
        if count.0 != slot {
            *count = (slot, 0);
        }
        count.1 += 1;
        self.note(0.0);
    }

    /// The service refused a request; whether that says that there are too many of them.
    pub(super) fn refused(&mut self) -> bool {
        self.note(1.0);
        self.refused.iter().zip(NOW_AND_THEN).any(|(share, (_, most))| *share > most)
    }

    fn note(&mut self, refused: f64) {
        self.requests += 1.0;
        for (share, (remembered, _)) in self.refused.iter_mut().zip(NOW_AND_THEN) {
            *share += (refused - *share) / self.requests.min(remembered);
        }
    }

    /// The service asks for less: from now on at the rate at which it answers, if that is known.
    pub(super) fn slow_down(&mut self, now: Duration) {
        if let Some(rate) = self.rate_of_answers(now) {
            self.proven = self.rate.is_some();
            self.rate = Some(self.rate.map_or(rate, |before| rate.min(before)) * AFTER_REFUSAL);
        }
        self.rises = (now + STEP, 0);
        self.paused = now + PAUSE;
        self.next = self.next.max(self.paused);
    }

    /// Whether nothing may be sent now, whatever was said before.
    pub(super) fn pauses(&self, now: Duration) -> bool {
        now < self.paused
    }

    /// Requests a second, if the service's limit is known.
    pub(super) fn rate(&self) -> Option<f64> {
        self.rate
    }

    /// Answers a second, of late or since they began to come: of the whole time or the last part of
    /// it, because there may have been fewer requests before.
    fn rate_of_answers(&self, now: Duration) -> Option<f64> {
        let of = |slots: usize| {
            let first = slot_of(now).saturating_sub(slots as u64 - 1);
            let recent = self.counts.iter().filter(|(slot, _)| *slot >= first);
            let answers: u32 = recent.map(|(_, count)| count).sum();
            let begin = SLOT.saturating_mul(u32::try_from(first).unwrap_or(u32::MAX));
            let elapsed = now.saturating_sub(self.since?.max(begin));
            (answers >= LEAST_ANSWERS && elapsed >= SLOT)
                .then(|| f64::from(answers) / elapsed.as_secs_f64())
        };
        let (whole, part) = (of(SLOTS)?, of(SLOTS / 2).unwrap_or_default());
        Some(whole.max(part))
    }

    /// Raises the rate where it is time to, and it was what requests waited for.
    fn rise(&mut self, now: Duration) {
        let Some(rate) = self.rate.filter(|_| now >= self.rises.0) else { return };
        if self.is_limit(now) {
            let steps = self.rises.1 + 1;
            self.rises.1 = steps;
            let (least, most, guess) = RISE;
            let share = if self.proven { (least * f64::from(steps)).min(most) } else { guess };
            self.rate = Some(rate * (1.0 + share));
        }
        self.rises.0 = now + STEP;
    }
}

fn slot_of(now: Duration) -> u64 {
    u64::try_from(now.as_nanos() / SLOT.as_nanos()).unwrap_or(u64::MAX)
}

fn index_of(slot: u64) -> usize {
    usize::try_from(slot % SLOTS as u64).unwrap_or_default()
}
