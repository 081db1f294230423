//! A thread of its own for manifests that are taken apart and made anew, one after the other.
//!
//! Hundreds of thousands of references are as many small allocations. glibc keeps what is freed of
//! those for the thread that made them: on whatever thread is free, every one of them would come to
//! keep as much.

use std::sync::mpsc::{Sender, channel};
use std::thread::Builder;

use tokio::sync::oneshot;

use crate::error::target_error;
use crate::{Error, ErrorKind, Result};

type Job = Box<dyn FnOnce() + Send>;

/// The thread; it ends with this.
#[derive(Debug)]
pub struct OneThread(Sender<Job>);

impl OneThread {
    /// Starts it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Target`] when the system has no room for a thread.
    pub fn start() -> Result<Self> {
        let (jobs, queue) = channel::<Job>();
        Builder::new()
            .name("manifests".to_owned())
            .spawn(move || queue.into_iter().for_each(|job| job()))
            .map_err(|error| target_error("start a thread for manifests", &error))?;
        Ok(Self(jobs))
    }

    /// Does work there and waits for it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Target`] when it was broken off; those of the work itself.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (told, outcome) = oneshot::channel();
        let job = Box::new(move || {
            // Nobody waits any more when the caller was stopped.
            let _ = told.send(work());
        });
        let broken = || Error::new(ErrorKind::Target, "the work on a manifest was broken off");
        self.0.send(job).map_err(|_| broken())?;
        outcome.await.map_err(|_| broken())?
    }
}
