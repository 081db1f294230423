//! While the references of one commit are written and committed, those of the next are listed: the
//! network waits for the processor no longer than memory makes it.

use std::future::Future;
use std::pin::pin;

use super::committer::{Committer, Counts};
use super::schedule::Schedule;
use super::worker::{Event, Staged, Worker};
use crate::Result;

/// Does all that is scheduled, commit by commit.
pub(super) async fn run(
    worker: &mut Worker<'_>,
    schedule: &mut Schedule<'_>,
    committer: &mut Committer<'_, '_>,
    counts: &Counts<'_, '_>,
) -> Result<()> {
    let Worker { gatherer, writer } = worker;
    let mut ready = gatherer.gather(schedule, &mut |event| counts.tell(event)).await?;
    while !ready.is_empty() {
        // What the commit says is left is what is left before more is taken.
        let (left, warnings) = (schedule.mark(), gatherer.take_warnings());
        let unwritten = writer.unwritten();
        let commit = async {
            let parent = committer.tip().clone();
            let parts = writer.write(&parent, ready, &mut |event| counts.tell(event)).await?;
            committer.commit(Staged { parts, warnings }, left).await?;
            unwritten.committed();
            Ok(())
        };
        let mut tell = |event: Event<'_>| counts.tell(event);
        let listed = gatherer.gather(schedule, &mut tell);
        ready = both(commit, listed).await?;
    }
    Ok(())
}

/// Runs both to their ends. When the first fails, that is the end of both; when the second does, what
/// the first has begun is committed before.
async fn both<T>(
    committed: impl Future<Output = Result<()>>,
    listed: impl Future<Output = Result<T>>,
) -> Result<T> {
    let (mut committed, mut listed) = (pin!(committed), pin!(listed));
    tokio::select! {
        done = &mut committed => {
            done?;
            listed.await
        }
        found = &mut listed => {
            committed.await?;
            found
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::time::Duration;

    use tokio::time::sleep;

    use super::*;
    use crate::{Error, ErrorKind};

    fn failed<T>(message: &str) -> Result<T> {
        Err(Error::new(ErrorKind::Listing, message))
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_being_committed_is_committed_although_the_next_listing_fails() {
        let committed = Cell::new(false);
        let slow = async {
            sleep(Duration::from_secs(5)).await;
            committed.set(true);
            Ok(())
        };
        let error = both(slow, async { failed::<()>("page") }).await.unwrap_err();
        assert!(committed.get() && error.to_string().contains("page"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_commit_that_fails_ends_the_listing_and_its_error_comes_first() {
        let listed = Cell::new(false);
        let slow = async {
            sleep(Duration::from_secs(5)).await;
            listed.set(true);
            Ok(())
        };
        let error = both(async { failed("commit") }, slow).await.unwrap_err();
        assert!(!listed.get() && error.to_string().contains("commit"), "{error}");
        let late = async {
            sleep(Duration::from_secs(1)).await;
            failed("commit")
        };
        let error = both(late, async { failed::<()>("page") }).await.unwrap_err();
        assert!(error.to_string().contains("commit"), "{error}");
    }
}
