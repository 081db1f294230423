//! A proxy before an HTTP server that gets exactly the n-th request wrong, in any of the ways of [`Fault`].
//!
//! The counterpart of `tests/python/fault_proxy.py` for tests of the core; what is asked, and what must come of it, is theirs.

use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// What becomes of a request. The server executes it unless it says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The connection ends without an answer; not executed.
    Closed,
    /// Executed, and then the connection ends instead of an answer.
    Lost,
    /// Executed, and then answered with status 500.
    LostError,
    /// Status 500; not executed.
    Error,
    /// Status 503, `SlowDown`; not executed.
    SlowDown,
    /// Status 429, to be asked again after a second; not executed.
    TooMany,
    /// Status 403; not executed.
    Refused,
    /// Status 200 and a document that tells of an error.
    ErrorDocument,
    /// The head, half the body, and the end of the connection.
    Cut,
    /// Half the body, with a length that agrees.
    Short,
    /// No body, with a length that agrees.
    Empty,
    /// Other bytes of the right length.
    Garbage,
}

impl Fault {
    pub(crate) const ALL: [Self; 12] = [
        Self::Closed,
        Self::Lost,
        Self::LostError,
        Self::Error,
        Self::SlowDown,
        Self::TooMany,
        Self::Refused,
        Self::ErrorDocument,
        Self::Cut,
        Self::Short,
        Self::Empty,
        Self::Garbage,
    ];

    /// Whether it is one of answers that have a body.
    pub(crate) fn is_of_content(self) -> bool {
        use Fault::{Cut, Empty, ErrorDocument, Garbage, Short};
        matches!(self, ErrorDocument | Cut | Short | Empty | Garbage)
    }

    fn is_executed(self) -> bool {
        use Fault::{Closed, Error, Refused, SlowDown, TooMany};
        !matches!(self, Closed | Error | SlowDown | TooMany | Refused)
    }
}

/// One of the requests that come after one another, some of them at the same time.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Chosen {
    /// The one with so many before it.
    Any(usize),
    /// The LIST of the source with so many before it, whatever else is sent meanwhile.
    Listing(usize),
}

/// Whether a request is a LIST of the source.
pub(crate) fn is_listing(asked: &str) -> bool {
    asked.contains("prefix=store")
}

#[derive(Debug, Default)]
struct State {
    /// Method and URL of the requests since [`FaultProxy::begin`].
    seen: Vec<String>,
    /// Which of them goes wrong, and how.
    chosen: Option<(Chosen, Fault)>,
}

impl State {
    /// Takes note of a request; gives back what becomes of it.
    fn note(&mut self, asked: &str) -> Option<Fault> {
        let before = self.seen.len();
        let listings = self.seen.iter().filter(|asked| is_listing(asked)).count();
        self.seen.push(asked.to_owned());
        let (chosen, fault) = self.chosen?;
        let is_it = match chosen {
            Chosen::Any(number) => number == before,
            Chosen::Listing(number) => number == listings && is_listing(asked),
        };
        is_it.then_some(fault)
    }
}

/// Passes requests on until it is dropped with the process.
#[derive(Debug)]
pub(crate) struct FaultProxy {
    address: String,
    state: Arc<Mutex<State>>,
}

impl FaultProxy {
    /// Before the server at `upstream`, such as `http://127.0.0.1:9000`.
    pub(crate) fn before(upstream: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let upstream = upstream.trim_start_matches("http://").to_owned();
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let (upstream, state) = (upstream.clone(), Arc::clone(&shared));
                // What goes wrong with a connection is what it is for.
                thread::spawn(move || while let Ok(true) = pass(&client, &upstream, &state) {});
            }
        });
        Self { address, state }
    }

    pub(crate) fn url(&self) -> String {
        self.address.clone()
    }

    /// Counts from now on, and gets one request wrong.
    pub(crate) fn begin(&self, chosen: Option<(Chosen, Fault)>) {
        *self.state.lock().unwrap() = State { seen: Vec::new(), chosen };
    }

    /// Method and URL of the requests since.
    pub(crate) fn seen(&self) -> Vec<String> {
        self.state.lock().unwrap().seen.clone()
    }
}

/// A message: its head, blank line included, and its body.
struct Message {
    head: Vec<u8>,
    body: Vec<u8>,
}

/// Reads a request, or an answer to `method`.
fn message(mut from: &TcpStream, method: Option<&str>) -> io::Result<Message> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        from.read_exact(&mut byte)?;
        head.extend(byte);
    }
    let text = String::from_utf8_lossy(&head).to_lowercase();
    let length = text.lines().find_map(|line| line.strip_prefix("content-length:"));
    let length = length.and_then(|length| length.trim().parse().ok()).unwrap_or(0);
    let mut body = vec![0; if method == Some("HEAD") { 0 } else { length }];
    from.read_exact(&mut body)?;
    Ok(Message { head, body })
}

/// Serves one request; gives back whether the connection goes on.
fn pass(mut client: &TcpStream, upstream: &str, state: &Mutex<State>) -> io::Result<bool> {
    let request = message(client, None)?;
    let head = String::from_utf8_lossy(&request.head).into_owned();
    let asked = head.split(" HTTP/").next().unwrap_or_default();
    let method = asked.split(' ').next().unwrap_or_default();
    let fault = state.lock().unwrap().note(asked);
    let mut answer = Message { head: Vec::new(), body: Vec::new() };
    if fault.is_none_or(Fault::is_executed) {
        let mut server = TcpStream::connect(upstream)?;
        server.write_all(&[request.head, request.body].concat())?;
        answer = message(&server, Some(method))?;
    }
    let error = |status: &str, code: &str| {
        let body = format!("<Error><Code>{code}</Code><Message>no</Message></Error>");
        let length = body.len();
        let head =
            format!("HTTP/1.1 {status}\r\nretry-after: 1\r\ncontent-length: {length}\r\n\r\n");
        Message { head: head.into_bytes(), body: body.into_bytes() }
    };
    let half = answer.body.len() / 2;
    match fault {
        None => {}
        Some(Fault::Closed | Fault::Lost) => return Ok(false),
        Some(Fault::Error | Fault::LostError) => {
            answer = error("500 Internal Server Error", "InternalError");
        }
        Some(Fault::SlowDown) => answer = error("503 Service Unavailable", "SlowDown"),
        Some(Fault::TooMany) => answer = error("429 Too Many Requests", "SlowDown"),
        Some(Fault::Refused) => answer = error("403 Forbidden", "AccessDenied"),
        Some(Fault::ErrorDocument) => answer = error("200 OK", "InternalError"),
        Some(Fault::Cut) => {
            client.write_all(&[answer.head.as_slice(), &answer.body[..half]].concat())?;
            return Ok(false);
        }
        Some(Fault::Garbage) => answer.body.iter_mut().for_each(|byte| *byte ^= 0x5A),
        Some(Fault::Short) => answer = with_length(answer, half),
        Some(Fault::Empty) => answer = with_length(answer, 0),
    }
    client.write_all(&[answer.head, answer.body].concat())?;
    Ok(true)
}

/// The beginning of an answer, with a length that agrees.
fn with_length(mut answer: Message, length: usize) -> Message {
    let text = String::from_utf8_lossy(&answer.head).into_owned();
    let kept =
        text.trim_end().lines().filter(|line| !line.to_lowercase().starts_with("content-length:"));
    let head = kept.flat_map(|line| [line, "\r\n"]).collect::<String>();
    answer.head = format!("{head}content-length: {length}\r\n\r\n").into_bytes();
    answer.body.truncate(length);
    answer
}
