//! While the references of some parts are written and committed, the next are listed: the network
//! waits for the processor no longer than memory makes it.

use std::future::Future;
use std::pin::pin;

use super::committer::{Committer, Counts};
use super::gatherer::{Event, Gathered};
use super::schedule::Schedule;
use super::worker::{Staged, Worker};
use crate::Result;

/// Does all that is scheduled, commit by commit.
pub(super) async fn run(
    worker: &mut Worker<'_>,
    schedule: &mut Schedule<'_>,
    committer: &mut Committer<'_, '_>,
    counts: &Counts<'_, '_>,
) -> Result<()> {
    let Worker { gatherer, writer } = worker;
    let mut tell = |event: Event<'_>| counts.tell(event);
    // What is written and not committed yet, and how many references its commit holds so far.
    let (mut written, mut begun) = (Staged::default(), 0);
    let mut ready = gatherer.gather(schedule, 0, true, &mut tell).await?;
    while !(ready.parts.is_empty() && written.parts.is_empty()) {
        begun += ready.references();
        let Gathered { parts, fills_commit } = ready;
        // What a commit says is left is what is left before more is taken.
        let mut left = Some(schedule.mark());
        written.warnings.append(&mut gatherer.take_warnings());
        let unwritten = writer.unwritten();
        let write = async {
            let parent = committer.tip().clone();
            let staged = writer.write(&parent, parts, &mut |event| counts.tell(event)).await?;
            written.parts.extend(staged);
            if fills_commit && let Some(left) = left.take() {
                committer.commit(std::mem::take(&mut written), left).await?;
                unwritten.committed();
            }
            Ok(())
        };
        if fills_commit {
            begun = 0;
        }
        let listed = both(write, gatherer.gather(schedule, begun, true, &mut tell)).await?;
        ready = match (listed, left) {
            (Ok(gathered), _) => gathered,
            (Err(error), Some(left)) if !written.parts.is_empty() => {
                committer.commit(written, left).await?;
                return Err(error);
            }
            (Err(error), _) => return Err(error),
        };
    }
    Ok(())
}

/// Runs both to their ends. When the first fails, that is the end of both; when the second does,
/// the first still comes to its end.
async fn both<T>(
    written: impl Future<Output = Result<()>>,
    listed: impl Future<Output = Result<T>>,
) -> Result<Result<T>> {
    let (mut written, mut listed) = (pin!(written), pin!(listed));
    tokio::select! {
        done = &mut written => {
            done?;
            Ok(listed.await)
        }
        found = &mut listed => {
            written.await?;
            Ok(found)
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
        let error = both(slow, async { failed::<()>("page") }).await.unwrap().unwrap_err();
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
