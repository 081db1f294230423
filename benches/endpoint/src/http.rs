//! The part of HTTP/1.1 that object store clients speak: requests with `Content-Length` on
//! connections that stay open, and response heads. Knows nothing of S3 beyond its chunked uploads.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::xml::percent_decode;

/// A request, read whole.
#[derive(Debug, Default)]
pub(crate) struct Request {
    pub method: String,
    /// Percent-decoded, with its leading slash.
    pub path: Vec<u8>,
    /// Percent-decoded, in order.
    pub query: Vec<(String, Vec<u8>)>,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn query(&self, name: &str) -> Option<&[u8]> {
        self.query.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_slice())
    }

    /// As [`Request::query`], as text; bytes that are not UTF-8 are replaced.
    pub(crate) fn query_text(&self, name: &str) -> Option<String> {
        self.query(name).map(|value| String::from_utf8_lossy(value).into_owned())
    }
}

/// Reads the next request; `None` when the client has closed the connection.
///
/// # Errors
/// Those of the socket, and `InvalidData` for what is not HTTP.
pub(crate) async fn read_request(
    stream: &mut TcpStream,
    input: &mut Vec<u8>,
) -> io::Result<Option<Request>> {
    let (mut request, head) = loop {
        if let Some(parsed) = parse_head(input)? {
            break parsed;
        }
        if stream.read_buf(input).await? == 0 {
            return Ok(None);
        }
    };
    input.drain(..head);
    let length = match request.header("content-length") {
        Some(text) => text.parse().map_err(|_| invalid("Content-Length"))?,
        None => 0,
    };
    if request.header("expect").is_some() {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
    }
    while input.len() < length {
        if stream.read_buf(input).await? == 0 {
            return Ok(None);
        }
    }
    request.body = input.drain(..length).collect();
    let signed = request.header("x-amz-content-sha256").unwrap_or_default();
    if signed.starts_with("STREAMING-") {
        request.body = decode_chunked(&request.body).ok_or_else(|| invalid("chunked upload"))?;
    }
    Ok(Some(request))
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// The head of a request and its length in bytes; `None` when more bytes are needed.
fn parse_head(input: &[u8]) -> io::Result<Option<(Request, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Request::new(&mut headers);
    let length = match head.parse(input) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(invalid(&error.to_string())),
    };
    let target = head.path.unwrap_or("/");
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let pair = |part: &str| {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let name = percent_decode(name.as_bytes(), true);
        let value = percent_decode(value.as_bytes(), true);
        (String::from_utf8_lossy(&name).into_owned(), value)
    };
    let header = |h: &httparse::Header<'_>| {
        (h.name.to_ascii_lowercase(), String::from_utf8_lossy(h.value).into_owned())
    };
    let request = Request {
        method: head.method.unwrap_or_default().to_owned(),
        path: percent_decode(path.as_bytes(), false),
        query: query.split('&').filter(|part| !part.is_empty()).map(pair).collect(),
        headers: head.headers.iter().map(header).collect(),
        body: Vec::new(),
    };
    Ok(Some((request, length)))
}

/// Takes the frames of an `aws-chunked` body apart (signatures and trailers are dropped).
fn decode_chunked(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::with_capacity(rest.len());
    loop {
        let line_end = memchr::memmem::find(rest, b"\r\n")?;
        let line = std::str::from_utf8(&rest[..line_end]).ok()?;
        let size = usize::from_str_radix(line.split(';').next()?.trim(), 16).ok()?;
        if size == 0 {
            return Some(body);
        }
        rest = rest.get(line_end + 2..)?;
        body.extend_from_slice(rest.get(..size)?);
        rest = rest.get(size + 2..)?;
    }
}

/// The reason phrases of the statuses in use.
fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        202 => "Accepted",
        204 => "No Content",
        206 => "Partial Content",
        304 => "Not Modified",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        412 => "Precondition Failed",
        416 => "Range Not Satisfiable",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "Status",
    }
}

/// The head of a response; `headers` are complete lines with their line ends.
pub(crate) fn head(status: u16, content_type: &str, length: u64, headers: &str) -> String {
    format!(
        "HTTP/1.1 {status} {}\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n{headers}\r\n",
        reason(status)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_and_chunked_bodies() {
        let text =
            b"GET /b/a%20b+c?list-type=2&prefix=x%2Fy+z&uploads HTTP/1.1\r\nHost: h\r\n\r\nrest";
        let (request, length) = parse_head(text).unwrap().unwrap();
        assert_eq!(&text[length..], b"rest");
        assert_eq!(request.path, b"/b/a b+c");
        assert_eq!(request.query("prefix"), Some(&b"x/y z"[..]));
        assert_eq!(request.query("uploads"), Some(&b""[..]));
        assert_eq!(request.header("host"), Some("h"));
        assert!(parse_head(b"GET / HTTP/1.1\r\n").unwrap().is_none());
        assert!(parse_head(b"\x00\x01\r\n\r\n").is_err());
        let body = b"5;chunk-signature=x\r\nhello\r\n1\r\n!\r\n0\r\nx-amz-checksum: y\r\n\r\n";
        assert_eq!(decode_chunked(body).unwrap(), b"hello!");
    }
}
