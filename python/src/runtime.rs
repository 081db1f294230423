//! Runs the crate's futures with the GIL released, while signals still reach Python, and ends its
//! threads before the interpreter is torn down.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use pyo3::exceptions::{PyKeyboardInterrupt, PyRuntimeError};
use pyo3::prelude::*;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::oneshot;

use crate::errors::to_python;

/// How often Python gets to see signals (Ctrl-C).
const SIGNAL_CHECK: Duration = Duration::from_millis(100);

/// How long an interrupted job may take to put things in order.
const GRACE: Duration = Duration::from_millis(1_500);

/// How long tasks that nobody waits for may take to end when the process does.
const LEAVE: Duration = Duration::from_millis(500);

/// Whether the process is about to end; see [`stop_calls`].
static STOPPING: AtomicBool = AtomicBool::new(false);

/// The runtime itself, until [`shut_down`] takes it.
static RUNTIME: Mutex<Option<Runtime>> = Mutex::new(None);

/// One runtime for the process: clients keep their connections between calls.
fn runtime() -> PyResult<&'static Handle> {
    static HANDLE: OnceLock<Handle> = OnceLock::new();
    if let Some(handle) = HANDLE.get() {
        return Ok(handle);
    }
    let mut owned = RUNTIME.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(handle) = HANDLE.get() {
        return Ok(handle);
    }
    let runtime = Builder::new_multi_thread()
        .enable_all()
        .thread_name("refreeze")
        .build()
        .map_err(|error| PyRuntimeError::new_err(format!("cannot start threads: {error}")))?;
    let handle = HANDLE.get_or_init(|| runtime.handle().clone());
    *owned = Some(runtime);
    Ok(handle)
}

/// Makes every call, now and later, raise `KeyboardInterrupt` soon: the process is about to end.
///
/// A signal does the same to a call in the main thread. This reaches those in other threads.
#[pyfunction]
pub(crate) fn stop_calls() {
    STOPPING.store(true, Ordering::SeqCst);
}

/// Ends the threads of the runtime, which may call Python; the interpreter calls this at exit.
#[pyfunction]
pub(crate) fn shut_down(py: Python<'_>) {
    stop_calls();
    let runtime = RUNTIME.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(runtime) = runtime {
        py.detach(|| runtime.shutdown_timeout(LEAVE));
    }
}

/// Fails when a signal handler raises, or the process is about to end.
fn check() -> PyResult<()> {
    if STOPPING.load(Ordering::SeqCst) {
        return Err(PyKeyboardInterrupt::new_err(()));
    }
    // A path instead of the closure is not general enough in lifetimes.
    #[expect(clippy::redundant_closure_for_method_calls)]
    Python::attach(|py| py.check_signals())
}

/// Runs `work` to its end or until a signal handler raises.
///
/// `work` gets a receiver that completes when it should stop; it has [`GRACE`] to do so.
pub(crate) fn run<T, F>(
    py: Python<'_>,
    work: impl FnOnce(oneshot::Receiver<()>) -> F + Send,
) -> PyResult<T>
where
    T: Send + 'static,
    F: Future<Output = refreeze::Result<T>> + Send + 'static,
{
    py.detach(|| {
        check()?;
        let runtime = runtime()?;
        let (stop, stopped) = oneshot::channel();
        let mut task = runtime.spawn(work(stopped));
        block_on(runtime, async {
            loop {
                tokio::select! {
                    outcome = &mut task => return finish(outcome),
                    () = tokio::time::sleep(SIGNAL_CHECK) => {}
                }
                if let Err(raised) = check() {
                    let _ = stop.send(());
                    if tokio::time::timeout(GRACE, &mut task).await.is_err() {
                        task.abort();
                    }
                    return Err(raised);
                }
            }
        })
    })
}

/// Waits for a future, also on one of the runtime's own threads: there a progress callback of
/// Python may call another function of the package.
fn block_on<T>(runtime: &Handle, future: impl Future<Output = T>) -> T {
    if Handle::try_current().is_ok() {
        tokio::task::block_in_place(|| runtime.block_on(future))
    } else {
        runtime.block_on(future)
    }
}

/// Lets the current thread start tasks on the runtime.
pub(crate) fn enter() -> Option<tokio::runtime::EnterGuard<'static>> {
    runtime().ok().map(Handle::enter)
}

/// Waits for a future on this thread, which must not hold the GIL, until a signal handler raises.
pub(crate) fn wait<T>(future: impl Future<Output = T>) -> PyResult<T> {
    check()?;
    let mut future = std::pin::pin!(future);
    block_on(runtime()?, async {
        loop {
            tokio::select! {
                output = &mut future => return Ok(output),
                () = tokio::time::sleep(SIGNAL_CHECK) => {}
            }
            check()?;
        }
    })
}

fn finish<T>(outcome: Result<refreeze::Result<T>, tokio::task::JoinError>) -> PyResult<T> {
    match outcome {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(Python::attach(|py| to_python(py, &error))),
        Err(failure) => Err(PyRuntimeError::new_err(format!("internal error: {failure}"))),
    }
}
