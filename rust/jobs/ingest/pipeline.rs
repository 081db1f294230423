//! While the references of some parts are written and committed, the next are listed: the network
//! waits for the processor no longer than memory makes it.

use std::future::Future;
use std::pin::pin;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::committer::{Committer, Counts};
use super::gatherer::{Event, Gathered, Gatherer};
use super::schedule::{Mark, Schedule};
use super::worker::{Staged, Worker, Writer};
use crate::{Error, ErrorKind, Result};

/// What was listed together, on its way to be written.
struct Step<'a> {
    gathered: Gathered<'a>,
    /// What is left to be done when it is committed: what was left before more was taken.
    left: Mark,
    warnings: Vec<String>,
}

/// Does all that is scheduled, commit by commit.
pub(super) async fn run(
    worker: &mut Worker<'_>,
    schedule: &mut Schedule<'_>,
    committer: &mut Committer<'_, '_>,
    counts: &Counts<'_, '_>,
) -> Result<()> {
    let Worker { gatherer, writer } = worker;
    // What waits in it shares the memory with what is listed (`Unwritten`).
    let (hand, steps) = unbounded_channel();
    both(write(writer, steps, committer, counts), list(gatherer, schedule, hand, counts)).await??;
    if schedule.is_empty() {
        Ok(())
    } else {
        // A fault of ours, which must not become a hole in what is published.
        Err(Error::new(ErrorKind::Incomplete, "the listing ended before everything was listed")
            .with_hint("nothing was published; please report this, with the command and its log"))
    }
}

/// Lists step after step.
async fn list<'a>(
    gatherer: &mut Gatherer<'a>,
    schedule: &mut Schedule<'_>,
    hand: UnboundedSender<Step<'a>>,
    counts: &Counts<'_, '_>,
) -> Result<()> {
    // How many references the commit holds so far.
    let mut begun = 0;
    while !schedule.is_empty() {
        let mut tell = |event: Event<'_>| counts.tell(event);
        let ready = gatherer.gather(schedule, begun, true, &mut tell).await?;
        // Nothing is ready where all that was begun did not fit: the commit is full without it.
        begun = if ready.fills_commit { 0 } else { begun + ready.references() };
        gatherer.hands_over(ready.references());
        let (left, warnings) = (schedule.mark(), gatherer.take_warnings());
        if hand.send(Step { gathered: ready, left, warnings }).is_err() {
            // Writing has failed, which ends this too.
            break;
        }
        // Writing begins before the pages that are there already are looked at.
        tokio::task::yield_now().await;
    }
    Ok(())
}

/// Writes step after step, and commits when a commit is full. What was written is committed also when
/// there are no more steps because their listing has failed.
async fn write(
    writer: &Writer<'_>,
    mut steps: UnboundedReceiver<Step<'_>>,
    committer: &mut Committer<'_, '_>,
    counts: &Counts<'_, '_>,
) -> Result<()> {
    let unwritten = writer.unwritten();
    let (mut written, mut last) = (Staged::default(), None);
    while let Some(Step { gathered, left, mut warnings }) = steps.recv().await {
        let Gathered { parts, fills_commit } = gathered;
        written.warnings.append(&mut warnings);
        let parent = committer.tip().clone();
        let staged = writer.write(&parent, parts, &mut |event| counts.tell(event)).await?;
        written.parts.extend(staged);
        last = Some(left);
        if fills_commit && let Some(left) = last.take() {
            committer.commit(std::mem::take(&mut written), left).await?;
            unwritten.committed();
        }
    }
    match last {
        Some(left) if !written.parts.is_empty() => committer.commit(written, left).await,
        _ => Ok(()),
    }
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
