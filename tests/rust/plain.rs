//! Listings in plain HTTP have a client of their own: whatever a server does, it says the same of it
//! as the client of all other requests.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse,
};
use refreeze::source::transport::Transport;
use refreeze::source::xml::exchange::Exchange;

/// What a server does with a request, of which it has read the head.
type Script = fn(&str, &mut TcpStream, u16);

/// A server on a free port, and the heads of the requests that it got. It ends with the process.
fn serving(script: Script) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let heads = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&heads);
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let seen = Arc::clone(&seen);
            thread::spawn(move || {
                while let Some(head) = head(&mut stream) {
                    seen.lock().unwrap().push(head.clone());
                    script(&head, &mut stream, port);
                }
            });
        }
    });
    (format!("http://127.0.0.1:{port}"), heads)
}

fn head(stream: &mut TcpStream) -> Option<String> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    String::from_utf8(head).ok()
}

fn say(stream: &mut TcpStream, text: &str) {
    let _ = stream.write_all(text.as_bytes());
}

fn answer(stream: &mut TcpStream, status: &str, headers: &str, body: &str) {
    let length = body.len();
    say(stream, &format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n{headers}\r\n{body}"));
}

/// Says no more, but does not close either.
fn stall() {
    thread::sleep(Duration::from_secs(20));
}

fn close(stream: &TcpStream) {
    let _ = stream.shutdown(std::net::Shutdown::Both);
}

const SCRIPTS: [(&str, Script); 13] = [
    ("an answer", |_, stream, _| answer(stream, "200 OK", "X-Some: thing\r\n", "<page/>")),
    ("a long one", |_, stream, _| answer(stream, "200 OK", "", &"long ".repeat(200_000))),
    ("in chunks", |_, stream, _| {
        say(stream, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        say(stream, "5\r\nabcde\r\n3\r\nfgh\r\n0\r\n\r\n");
    }),
    ("until the end", |_, stream, _| {
        say(stream, "HTTP/1.1 200 OK\r\n\r\nabc");
        close(stream);
    }),
    ("a refusal", |_, stream, _| answer(stream, "503 Slow Down", "Retry-After: 1\r\n", "later")),
    ("elsewhere on the host", |head, stream, _| {
        if head.starts_with("GET /moved") {
            answer(stream, "200 OK", "", "here");
        } else {
            answer(stream, "307 Temporary Redirect", "Location: /moved\r\n", "");
        }
    }),
    ("on another host", |_, stream, port| {
        let there = format!("Location: http://localhost:{port}/\r\n");
        answer(stream, "301 Moved Permanently", &there, "");
    }),
    ("nothing at all", |_, stream, _| close(stream)),
    ("half a head", |_, stream, _| {
        say(stream, "HTTP/1.1 200 OK\r\nContent-");
        close(stream);
    }),
    ("half a body", |_, stream, _| {
        say(stream, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
        close(stream);
    }),
    ("no HTTP", |_, stream, _| {
        say(stream, "220 mail.example.org ESMTP\r\n\r\n");
        close(stream);
    }),
    ("no answer", |_, _, _| stall()),
    ("no end", |_, stream, _| {
        say(stream, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
        stall();
    }),
];

fn client() -> HttpClient {
    let options = ClientOptions::new()
        .with_allow_http(true)
        .with_timeout(Duration::from_millis(700))
        .with_default_headers(
            [(http::header::COOKIE, "a=b".parse().unwrap())].into_iter().collect(),
        );
    Transport::default().with_headers([("x-more", "secret")]).unwrap().connect(&options).unwrap()
}

fn request(url: &str, is_listing: bool) -> HttpRequest {
    let mut request = http::Request::get(format!("{url}/bucket?list-type=2&prefix=a%2Fb%20c"))
        .header("x-amz-date", "20260101T000000Z")
        .body(HttpRequestBody::empty())
        .unwrap();
    if is_listing {
        request.extensions_mut().insert(Arc::new(Exchange::default()));
    }
    request
}

/// Status, headers and body; or the kind of the failure, in the head or the body.
type Told = Result<(u16, BTreeSet<String>, Vec<u8>), (HttpErrorKind, bool)>;

async fn told(client: &HttpClient, request: HttpRequest) -> Told {
    let response: HttpResponse = client.execute(request).await.map_err(|e| (e.kind(), false))?;
    let (parts, body) = response.into_parts();
    let headers = parts.headers.iter().map(|(name, value)| format!("{name}: {value:?}")).collect();
    let body = body.bytes().await.map_err(|e| (e.kind(), true))?;
    Ok((parts.status.as_u16(), headers, body.to_vec()))
}

/// Of a head its first line, and the others in any order.
fn lines(head: &str) -> (String, BTreeSet<String>) {
    let mut lines = head.lines().map(str::to_lowercase).filter(|line| !line.is_empty());
    (lines.next().unwrap_or_default(), lines.collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn it_asks_and_tells_as_the_other_client_does() {
    for (name, script) in SCRIPTS {
        let mut outcomes = Vec::new();
        for is_listing in [false, true] {
            let (url, heads) = serving(script);
            let found = told(&client(), request(&url, is_listing)).await;
            let heads = heads.lock().unwrap();
            let port = url.rsplit(':').next().unwrap().to_owned();
            let asked: Vec<_> =
                heads.iter().map(|head| lines(&head.replace(&port, "port"))).collect();
            outcomes.push((found, asked));
        }
        let (listing, other) = (outcomes.pop().unwrap(), outcomes.pop().unwrap());
        assert_eq!(listing.0, other.0, "{name}");
        // Redirections are the other client's business, which asks again.
        let asked = &listing.1[usize::from(name.ends_with("host"))..];
        assert_eq!(asked, &other.1[..], "{name}");
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_no_answer() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    for is_listing in [false, true] {
        let kind = told(&client(), request(&url, is_listing)).await.unwrap_err();
        assert_eq!(kind, (HttpErrorKind::Connect, false));
    }
}
