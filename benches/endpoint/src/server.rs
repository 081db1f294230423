//! The running endpoint: accepts connections, sends each request to `answer` (listings) or
//! `objects`, and answers the requests that control the endpoint itself.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::allowance::Allowance;
use crate::asked::Dialect;
use crate::bucket::Bucket;
use crate::config::{ArrayConfig, Config};
use crate::error::Error;
use crate::faults::{Faults, mix, unit};
use crate::http::{Request, read_request};
use crate::objects::{self, Uploads, error};
use crate::start::From;
use crate::stats::{Counters, LoggedList, Stats};

/// Connections that may wait to be accepted. With the usual 128, clients that open a thousand at once
/// try some again a second later, which says nothing of them.
const BACKLOG: u32 = 4096;

/// What can be changed while the endpoint runs; as in [`Config`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// See [`Config::latency_ms`].
    pub latency_ms: u64,
    /// See [`Config::latency_jitter_ms`].
    pub latency_jitter_ms: u64,
    /// See [`Config::object_latency_ms`].
    pub object_latency_ms: u64,
    /// See [`Config::page_size`].
    pub page_size: usize,
    /// See [`Config::allow`].
    pub allow: bool,
    /// See [`Config::faults`].
    pub faults: Faults,
    /// Whether LIST requests are kept for [`Endpoint::log`].
    pub log: bool,
}

/// A running endpoint; dropping it closes the socket and all connections.
#[derive(Debug)]
pub struct Endpoint {
    shared: Arc<Shared>,
    address: SocketAddr,
    runtime: Option<tokio::runtime::Runtime>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) name: String,
    pub(crate) bucket: RwLock<Bucket>,
    uploads: Mutex<Uploads>,
    settings: RwLock<Arc<Settings>>,
    pub(crate) counters: Counters,
    /// Numbers the LIST requests for the dice; reset with the counters.
    pub(crate) requests: AtomicU64,
    /// Numbers the others.
    object_requests: AtomicU64,
    /// Where the page served last began.
    pub(crate) repeatable: Mutex<Option<From>>,
    /// See [`Faults::slow_down_above_rate`](crate::faults::Faults::slow_down_above_rate).
    pub(crate) allowance: Mutex<Allowance>,
}

impl Endpoint {
    /// Starts on `127.0.0.1:port` (0: any free port) with `threads` threads of its own.
    ///
    /// # Errors
    /// [`Error::Config`] for a configuration that makes no sense, [`Error::Io`] when the port is
    /// taken or threads cannot be started.
    pub fn start(config: Config, port: u16, threads: usize) -> Result<Self, Error> {
        let bucket = Bucket::new(&config)?;
        let settings = Settings {
            latency_ms: config.latency_ms,
            latency_jitter_ms: config.latency_jitter_ms,
            object_latency_ms: config.object_latency_ms,
            page_size: config.page_size,
            allow: config.allow,
            faults: config.faults,
            log: false,
        };
        let shared = Arc::new(Shared {
            name: config.bucket,
            bucket: RwLock::new(bucket),
            uploads: Mutex::default(),
            settings: RwLock::new(Arc::new(settings)),
            counters: Counters::default(),
            requests: AtomicU64::new(0),
            object_requests: AtomicU64::new(0),
            repeatable: Mutex::default(),
            allowance: Mutex::default(),
        });
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads.max(1))
            .thread_name("endpoint")
            .enable_all()
            .build()?;
        // Entered, not blocked on: callers may be inside a runtime of their own.
        let address = {
            let _inside = runtime.enter();
            let socket = TcpSocket::new_v4()?;
            socket.set_reuseaddr(true)?;
            socket.bind((Ipv4Addr::LOCALHOST, port).into())?;
            let listener = socket.listen(BACKLOG)?;
            let address = listener.local_addr()?;
            runtime.spawn(accept(listener, Arc::clone(&shared)));
            address
        };
        Ok(Self { shared, address, runtime: Some(runtime) })
    }

    /// `http://127.0.0.1:PORT`
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The counters.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.shared.counters.snapshot()
    }

    /// The LIST requests since start or reset, in the order of their answers, when
    /// [`Settings::log`] is on.
    #[must_use]
    pub fn log(&self) -> Vec<LoggedList> {
        self.shared.counters.log()
    }

    /// Sets the counters, the log and the numbering of requests back to zero.
    pub fn reset(&self) {
        self.shared.reset();
    }

    /// Serves an array from the next request on, in the place of the one whose chunks have the same
    /// keys: one that has grown.
    ///
    /// # Errors
    /// [`Error::Config`] for a configuration that makes no sense.
    pub fn serve(&self, array: ArrayConfig) -> Result<(), Error> {
        self.shared.serve(array)
    }

    /// Changes settings from the next request on.
    pub fn set(&self, change: impl FnOnce(&mut Settings)) {
        let mut guard = self.shared.settings.write().unwrap_or_else(PoisonError::into_inner);
        change(Arc::make_mut(&mut guard));
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(connection(stream, Arc::clone(&shared)));
            }
            // Out of file descriptors, most likely: wait for some to be given back.
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

/// How much of a response goes out.
pub(crate) enum Reply {
    /// From this offset of the buffer.
    Whole(usize),
    /// These bytes; then the connection is closed.
    Cut(std::ops::Range<usize>),
    /// Nothing, and the connection stays open.
    Stall,
}

async fn connection(mut stream: TcpStream, shared: Arc<Shared>) {
    let _ = stream.set_nodelay(true);
    let (mut input, mut out) = (Vec::with_capacity(8192), Vec::new());
    // An error here is the client's going away; there is nobody to tell.
    while let Ok(Some(request)) = read_request(&mut stream, &mut input).await {
        out.clear();
        let close = request.header("connection").is_some_and(|c| c.eq_ignore_ascii_case("close"));
        let written = match shared.answer(request, &mut out).await {
            Reply::Whole(from) => stream.write_all(&out[from..]).await,
            Reply::Cut(range) => {
                let _ = stream.write_all(&out[range]).await;
                return;
            }
            Reply::Stall => return std::future::pending().await,
        };
        if written.is_err() || close {
            return;
        }
    }
}

impl Shared {
    fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn uploads(&self) -> MutexGuard<'_, Uploads> {
        self.uploads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reset(&self) {
        self.counters.reset();
        *self.repeatable.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.requests.store(0, Relaxed);
        self.object_requests.store(0, Relaxed);
    }

    async fn answer(&self, mut request: Request, out: &mut Vec<u8>) -> Reply {
        if request.path.starts_with(b"/__") {
            self.control(&request, out);
            return Reply::Whole(0);
        }
        let settings = self.settings();
        let path = request.path.strip_prefix(b"/").unwrap_or_default();
        let slash = memchr::memchr(b'/', path).unwrap_or(path.len());
        let key = path.get(slash + 1..).unwrap_or_default().to_vec();
        let known = &path[..slash] == self.name.as_bytes();
        if let Some((dialect, bucket)) = Dialect::of(&request)
            && bucket == self.name.as_bytes()
        {
            return self.answer_list(&settings, dialect, &request, out).await;
        }
        self.counters.count(&request.method);
        if settings.object_latency_ms > 0 {
            tokio::time::sleep(Duration::from_millis(settings.object_latency_ms)).await;
        }
        let faults = &settings.faults;
        let reads = matches!(request.method.as_str(), "GET" | "HEAD");
        if (reads && faults.ignore_read_conditions) || (!reads && faults.ignore_write_conditions) {
            let condition = |name: &str| name.starts_with("if-") || name.contains("-if-");
            request.headers.retain(|(name, _)| !condition(name));
        }
        let number = self.object_requests.fetch_add(1, Relaxed);
        if !settings.allow {
            error(403, "AccessDenied", out);
        } else if unit(mix(faults.seed, number)) < faults.object_slow_down {
            error(503, "SlowDown", out);
        } else if !known {
            error(404, "NoSuchBucket", out);
        } else if key.is_empty() && request.method == "HEAD" {
            objects::text(200, "", "", out);
        } else if reads {
            let bucket = self.bucket.read().unwrap_or_else(PoisonError::into_inner);
            objects::get(&bucket, &key, &request, out);
            self.counters.get_bytes.fetch_add(out.len() as u64, Relaxed);
        } else {
            let mut bucket = self.bucket.write().unwrap_or_else(PoisonError::into_inner);
            let mut uploads = self.uploads();
            match request.method.as_str() {
                "PUT" => objects::put(&mut bucket, &mut uploads, &key, request, out),
                "DELETE" => objects::delete(&mut bucket, &mut uploads, &key, &request, out),
                "POST" => objects::post(&mut bucket, &mut uploads, &key, &request, out),
                _ => error(400, "MethodNotAllowed", out),
            }
        }
        Reply::Whole(0)
    }

    /// `/__stats`, `/__log`, `/__reset`, `/__settings`, `/__array`.
    fn control(&self, request: &Request, out: &mut Vec<u8>) {
        let json = |value: serde_json::Result<String>| value.unwrap_or_default();
        let done = |result: Result<(), String>, out: &mut Vec<u8>| match result {
            Ok(()) => objects::text(200, "{}", "", out),
            Err(problem) => {
                let body = serde_json::json!({ "error": problem }).to_string();
                objects::text(400, &body, "", out);
            }
        };
        match (request.method.as_str(), request.path.as_slice()) {
            (_, b"/__stats") => {
                let body = json(serde_json::to_string(&self.counters.snapshot()));
                objects::text(200, &body, "", out);
            }
            (_, b"/__log") => {
                let log = self.counters.log();
                let body = json(serde_json::to_string(&serde_json::json!({ "list": log })));
                objects::text(200, &body, "", out);
            }
            ("POST", b"/__reset") => {
                self.reset();
                objects::text(200, "{}", "", out);
            }
            ("POST", b"/__settings") => {
                done(self.change(&request.body).map_err(|problem| problem.to_string()), out);
            }
            ("POST", b"/__array") => {
                let array = serde_json::from_slice(&request.body)
                    .map_err(|problem| Error::Config(problem.to_string()));
                let served = array.and_then(|array| self.serve(array));
                done(served.map_err(|problem| problem.to_string()), out);
            }
            _ => error(404, "NoSuchControl", out),
        }
    }

    fn serve(&self, array: ArrayConfig) -> Result<(), Error> {
        self.bucket.write().unwrap_or_else(PoisonError::into_inner).serve(array)
    }

    /// Lays the fields of a JSON object over the settings.
    fn change(&self, body: &[u8]) -> serde_json::Result<()> {
        let changes: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(body)?;
        let mut guard = self.settings.write().unwrap_or_else(PoisonError::into_inner);
        let mut merged = serde_json::to_value(guard.as_ref())?;
        for (name, value) in changes {
            merged[name] = value;
        }
        *guard = Arc::new(serde_json::from_value(merged)?);
        Ok(())
    }
}
