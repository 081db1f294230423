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
    references: AtomicU64,
    fewer: Notify,
}

impl Unwritten {
    /// So many are to be written now.
    pub(super) fn begin(&self, references: u64) {
        self.0.references.store(references, Ordering::Relaxed);
    }

    /// The manifest of so many is made.
    pub(super) fn made(&self, references: u64) {
        let freed = references - references / LOGGED;
        let fewer = |now: u64| Some(now.saturating_sub(freed));
        let _ = self.0.references.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fewer);
        self.0.fewer.notify_waiters();
    }

    /// Everything is committed.
    pub(crate) fn committed(&self) {
        self.0.references.store(0, Ordering::Relaxed);
        self.0.fewer.notify_waiters();
    }

    /// Waits until there is room for `gathered` references beside those that are unwritten, of
    /// `most` in all. Where nothing is unwritten there always is.
    pub(crate) async fn room_for(&self, gathered: u64, most: u64) {
        loop {
            // Registered before the look, so that what is freed in between is not missed.
            let fewer = self.0.fewer.notified();
            tokio::pin!(fewer);
            fewer.as_mut().enable();
            let unwritten = self.0.references.load(Ordering::Relaxed);
            if unwritten == 0 || unwritten.saturating_add(gathered) <= most {
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
        unwritten.room_for(1_000, 10).await;
        unwritten.begin(90);
        unwritten.room_for(10, 100).await;
        let wait = unwritten.room_for(40, 100);
        tokio::pin!(wait);
        assert!(wait.as_mut().now_or_never().is_none());
        // A third of it stays, for the log: 90 - 20 are unwritten.
        unwritten.made(30);
        assert!(wait.as_mut().now_or_never().is_none());
        unwritten.made(15);
        wait.await;
        unwritten.made(45);
        assert!(unwritten.room_for(71, 100).now_or_never().is_none());
        unwritten.committed();
        unwritten.room_for(1_000, 10).await;
    }
}
