//! How many references wait to be written, told to whoever gathers the next ones: both share the
//! memory of a commit.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

/// Of the memory of a reference, what its line in the transaction log takes until the commit: a third.
const LOGGED: u64 = 3;

/// References that were handed to a [`ManifestWriter`](super::ManifestWriter) and take memory.
#[derive(Debug, Clone, Default)]
pub struct Unwritten(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Those whose turn has not come yet.
    queued: AtomicU64,
    /// Those whose manifests are not made yet.
    waiting: AtomicU64,
    /// As many as take what the log of the next commit takes.
    logged: AtomicU64,
    fewer: Notify,
}

impl Unwritten {
    /// So many will be written when it is their turn.
    pub(crate) fn handed_over(&self, references: u64) {
        self.0.queued.fetch_add(references, Ordering::Relaxed);
    }

    /// So many are to be written now, whether or not they had to wait for their turn.
    pub(super) fn begin(&self, references: u64) {
        self.0.waiting.fetch_add(references, Ordering::Relaxed);
        let fewer = |now: u64| Some(now.saturating_sub(references));
        let _ = self.0.queued.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fewer);
    }

    /// The manifest of so many is made.
    pub(super) fn made(&self, references: u64) {
        self.0.logged.fetch_add(references / LOGGED, Ordering::Relaxed);
        let fewer = |now: u64| Some(now.saturating_sub(references));
        let _ = self.0.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fewer);
        self.0.fewer.notify_waiters();
    }

    /// Everything is committed but what is still to be taken.
    pub(crate) fn committed(&self) {
        self.0.waiting.store(0, Ordering::Relaxed);
        self.0.logged.store(0, Ordering::Relaxed);
        self.0.fewer.notify_waiters();
    }

    /// Whether what was handed over is still being worked on: by a commit that `waits_for_these`
    /// references too, until its manifests are made, otherwise until it is committed.
    pub fn is_busy(&self, waits_for_these: bool) -> bool {
        let (waiting, all) = self.waiting_and_all();
        if waits_for_these { waiting > 0 } else { all > 0 }
    }

    /// As many as take the memory that all of them take.
    pub(crate) fn references(&self) -> u64 {
        self.waiting_and_all().1
    }

    /// References whose manifests are not made, and all that take memory.
    fn waiting_and_all(&self) -> (u64, u64) {
        let queued = self.0.queued.load(Ordering::Relaxed);
        let waiting = self.0.waiting.load(Ordering::Relaxed).saturating_add(queued);
        (waiting, waiting.saturating_add(self.0.logged.load(Ordering::Relaxed)))
    }

    /// Waits until there is room for `gathered` references beside those that are unwritten, of
    /// `most` in all. Where nothing is unwritten there always is.
    ///
    /// The commit `waits_for_these` when they belong to it: then they do not wait for the commit.
    pub(crate) async fn room_for(&self, gathered: u64, most: u64, waits_for_these: bool) {
        loop {
            // Registered before the look, so that what is freed in between is not missed.
            let fewer = self.0.fewer.notified();
            tokio::pin!(fewer);
            fewer.as_mut().enable();
            let (_, unwritten) = self.waiting_and_all();
            if !self.is_busy(waits_for_these) || unwritten.saturating_add(gathered) <= most {
                return;
            }
            fewer.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn who_gathers_waits_for_what_is_being_written_and_for_nothing_else() {
        let unwritten = Unwritten::default();
        unwritten.room_for(1_000, 10, false).await;
        unwritten.begin(90);
        unwritten.room_for(10, 100, false).await;
        let wait = unwritten.room_for(40, 100, false);
        tokio::pin!(wait);
        assert!(wait.as_mut().now_or_never().is_none());
        // A third of it stays, for the log: 90 - 20 are unwritten.
        unwritten.made(30);
        assert!(wait.as_mut().now_or_never().is_none());
        unwritten.made(15);
        wait.await;
        unwritten.made(45);
        assert!(unwritten.room_for(71, 100, false).now_or_never().is_none());
        unwritten.committed();
        unwritten.room_for(1_000, 10, false).await;
    }

    #[tokio::test]
    async fn what_a_commit_waits_for_does_not_wait_for_the_commit() {
        let unwritten = Unwritten::default();
        unwritten.begin(30);
        unwritten.begin(60);
        unwritten.made(30);
        assert!(unwritten.room_for(40, 100, true).now_or_never().is_none());
        assert!(unwritten.is_busy(true));
        unwritten.made(60);
        assert!(!unwritten.is_busy(true) && unwritten.is_busy(false));
        // What was handed over is in the way before its turn comes, and after that until it is made.
        unwritten.handed_over(60);
        assert!(unwritten.room_for(40, 100, true).now_or_never().is_none());
        unwritten.begin(60);
        assert!(unwritten.room_for(40, 100, true).now_or_never().is_none());
        unwritten.made(60);
        // The log of 150 still takes what 50 take.
        unwritten.room_for(80, 100, true).await;
        assert!(unwritten.room_for(80, 100, false).now_or_never().is_none());
        unwritten.handed_over(30);
        unwritten.committed();
        assert!(unwritten.room_for(80, 100, false).now_or_never().is_none());
    }
}
