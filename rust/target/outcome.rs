//! Whether a write to the repository info was made, when its answer does not tell.
//!
//! An answer can be lost after the server has done what it was asked, and a library that sends the
//! request again meets its own write and calls that a conflict. What counts is what stands in the
//! repository, so that is read again before a write is called a failure. What is written and what
//! it must look like are the callers' business.

use std::error::Error as StdError;
use std::time::Duration;

use icechunk::Repository;
use icechunk::format::repo_info::RepoInfo;
use icechunk::format::{IcechunkFormatError, SnapshotId};
use object_store::client::{HttpError, HttpErrorKind};

use crate::error::TargetContext;
use crate::{Error, ErrorKind};

/// How often a write is tried that was cut off before it was answered. Other failures are tried
/// again by `object_store`; of these it cannot know whether that does harm.
const ATTEMPTS: u32 = 4;

/// The wait before the second attempt; four times as long before each later one.
const FIRST_WAIT: Duration = Duration::from_millis(50);

/// A write that failed.
#[derive(Debug)]
pub(crate) enum Failure<E> {
    /// The repository is not as the write would have made it.
    Undone(E),
    /// Nobody knows: the repository cannot be read any more.
    Unknown(E),
}

impl<E> Failure<E>
where
    std::result::Result<(), E>: TargetContext<()>,
{
    /// The error to give to the caller; `doing` completes the sentence "cannot …".
    pub(crate) fn doing(self, doing: impl FnOnce() -> String) -> Error {
        let (failed, known) = match self {
            Self::Undone(error) => (error, true),
            Self::Unknown(error) => (error, false),
        };
        match Err::<(), E>(failed).doing(doing) {
            Err(error) if known => error,
            Err(error) => unknown(&error),
            // An error stays one.
            Ok(()) => Error::new(ErrorKind::Target, "the write failed"),
        }
    }
}

/// Writes, and finds out what became of it.
///
/// `attempt` changes the repository info under a condition that it reads itself, so that it may be
/// repeated. `found` looks in the info for what it was to bring about: that counts, whatever the
/// answer was.
pub(crate) async fn write<T, E, F>(
    repository: &Repository,
    attempt: impl Fn() -> F,
    found: impl Fn(&RepoInfo) -> std::result::Result<Option<T>, IcechunkFormatError>,
) -> std::result::Result<T, Failure<E>>
where
    E: StdError + 'static,
    F: Future<Output = std::result::Result<T, E>>,
{
    let mut wait = FIRST_WAIT;
    let mut attempts = 0;
    loop {
        attempts += 1;
        let error = match attempt().await {
            Ok(written) => return Ok(written),
            Err(error) => error,
        };
        let Ok((info, _)) = repository.asset_manager().fetch_repo_info().await else {
            return Err(Failure::Unknown(error));
        };
        match found(&info) {
            Ok(Some(written)) => {
                tracing::debug!(%error, "a write was made although its answer says otherwise");
                return Ok(written);
            }
            Ok(None) if attempts < ATTEMPTS && cut_off(&error) => {
                tokio::time::sleep(wait).await;
                wait *= 4;
            }
            Ok(None) => return Err(Failure::Undone(error)),
            Err(_) => return Err(Failure::Unknown(error)),
        }
    }
}

/// Something to find in the repository info by a yes or no.
pub(crate) fn when(
    stands: impl Fn(&RepoInfo) -> std::result::Result<bool, IcechunkFormatError>,
) -> impl Fn(&RepoInfo) -> std::result::Result<Option<()>, IcechunkFormatError> {
    move |info| stands(info).map(|stands| stands.then_some(()))
}

/// Whether a branch holds a snapshot, at its tip or in its history.
pub(crate) fn on_branch(
    info: &RepoInfo,
    branch: &str,
    snapshot: &SnapshotId,
) -> std::result::Result<bool, IcechunkFormatError> {
    let Ok(tip) = info.resolve_branch(branch) else { return Ok(false) };
    for known in info.ancestry(&tip)? {
        if known?.id == *snapshot {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether a request ended without an answer, on the way there or back.
pub(super) fn cut_off(error: &(dyn StdError + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(inner) = cause {
        if let Some(http) = inner.downcast_ref::<HttpError>() {
            use HttpErrorKind::{Decode, Interrupted, Timeout, Unknown};
            return matches!(http.kind(), Timeout | Interrupted | Decode | Unknown);
        }
        cause = inner.source();
    }
    false
}

/// Adds to an error that it may not be one.
fn unknown(error: &Error) -> Error {
    let kind = if error.kind() == ErrorKind::Access { error.kind() } else { ErrorKind::Target };
    let message = format!(
        "{}; whether it was done all the same is not known, because the repository cannot be read",
        error.message()
    );
    Error::new(kind, message)
        .with_hint("when the target can be reached again, run the same command: it finds out")
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::sync::Arc;

    use icechunk::repository::{RepositoryError, RepositoryErrorKind};

    use super::*;

    async fn repository() -> Repository {
        let storage = icechunk::new_in_memory_storage().await.unwrap();
        Repository::create(Arc::clone(&storage)).execute().await.unwrap()
    }

    fn lost() -> RepositoryError {
        RepositoryError::capture(RepositoryErrorKind::Other("lost".to_owned()))
    }

    /// Regression: whose answer was lost was taken for a failure, or for somebody else's write.
    #[tokio::test]
    async fn what_stands_counts() {
        let repository = repository().await;
        let main = repository.lookup_branch("main").await.unwrap();
        let create = || async {
            repository.create_branch("new", &main).await?;
            Err(lost())
        };
        let created = when(|info| on_branch(info, "new", &main));
        assert!(write(&repository, create, created).await.is_ok());
    }

    #[tokio::test]
    async fn what_does_not_is_a_failure_and_tried_once() {
        let repository = repository().await;
        let tried = Cell::new(0);
        let fail = || async {
            tried.set(tried.get() + 1);
            Err::<(), _>(lost())
        };
        let failure = write(&repository, fail, when(|_| Ok(false))).await.unwrap_err();
        assert!(matches!(failure, Failure::Undone(_)));
        assert_eq!(tried.get(), 1);
        let told = failure.doing(|| "write".to_owned());
        assert_eq!(
            (told.kind(), told.message()),
            (ErrorKind::Target, "cannot write: unexpected error: lost")
        );
    }

    #[test]
    fn an_unknown_outcome_is_said_to_be_one() {
        let told = Failure::Unknown(lost()).doing(|| "publish".to_owned());
        assert!(told.message().contains("not known"), "{told}");
    }
}
