//! GET, HEAD, PUT, DELETE, multipart uploads and bulk deletes of single objects, with the
//! conditions that Icechunk and Zarr clients use. Listings are in `list`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::ops::Range;

use crate::batch;
use crate::bucket::{Bucket, Condition, unquoted};
use crate::http::{Request, head};
use crate::time;
use crate::xml::{escape, percent_decode, texts};

/// Multipart uploads under way: id → part number → bytes.
#[derive(Debug, Default)]
pub(crate) struct Uploads {
    next: u64,
    parts: BTreeMap<String, Upload>,
}

#[derive(Debug, Default)]
struct Upload {
    metadata: String,
    parts: BTreeMap<u32, Vec<u8>>,
}

/// The user's metadata of a request, as header lines.
fn metadata(request: &Request) -> String {
    let mut lines = String::new();
    for (name, value) in request.headers.iter().filter(|(n, _)| n.starts_with("x-amz-meta-")) {
        // Writing to a String cannot fail.
        let _ = write!(lines, "{name}: {value}\r\n");
    }
    lines
}

/// Writes a whole response with an XML `<Error>` document.
pub(crate) fn error(status: u16, code: &str, out: &mut Vec<u8>) {
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{code}</Message><RequestId>0</RequestId></Error>"
    );
    text(status, &body, "", out);
}

/// Writes a whole response with an XML body.
pub(crate) fn text(status: u16, body: &str, headers: &str, out: &mut Vec<u8>) {
    let kind = if body.starts_with('{') { "application/json" } else { "application/xml" };
    out.extend_from_slice(head(status, kind, body.len() as u64, headers).as_bytes());
    out.extend_from_slice(body.as_bytes());
}

/// GET and HEAD.
pub(crate) fn get(bucket: &Bucket, key: &[u8], request: &Request, out: &mut Vec<u8>) {
    let is_head = request.method == "HEAD";
    let Some(found) = bucket.find(key) else {
        error(404, "NoSuchKey", out);
        if is_head {
            out.clear();
            out.extend_from_slice(head(404, "application/xml", 0, "").as_bytes());
        }
        return;
    };
    let etag = found.etag();
    let modified = found.modified();
    let mut headers = format!(
        "Last-Modified: {}\r\nAccept-Ranges: bytes\r\nx-goog-generation: {}\r\n",
        time::http_date(modified),
        found.generation()
    );
    headers.push_str(found.metadata());
    if let Some(etag) = &etag {
        headers.push_str("ETag: ");
        headers.push_str(etag);
        headers.push_str("\r\n");
    }
    let kind = "application/octet-stream";
    if let Some(status) = refused(request, etag.as_deref(), modified) {
        out.extend_from_slice(head(status, kind, 0, &headers).as_bytes());
        return;
    }
    let size = found.size();
    let (status, range) = match request.header("range").and_then(|r| r.strip_prefix("bytes=")) {
        None => (200, 0..size),
        Some(range) => match parse_range(range, size) {
            Some(range) => (206, range),
            None => return error(416, "InvalidRange", out),
        },
    };
    if status == 206 {
        let last = range.end.saturating_sub(1);
        let first = range.start;
        // Writing to a String cannot fail.
        let _ = write!(headers, "Content-Range: bytes {first}-{last}/{size}\r\n");
    }
    out.extend_from_slice(head(status, kind, range.end - range.start, &headers).as_bytes());
    if !is_head {
        found.bytes(range, out);
    }
}

/// The status when a condition of a read does not hold.
fn refused(request: &Request, etag: Option<&str>, modified: time::Millis) -> Option<u16> {
    let lists = |header: &str| {
        let listed = |list: &str| {
            let listed = |e: &str| e == "*" || Some(unquoted(e)) == etag.map(unquoted);
            list.split(',').any(|e| listed(e.trim()))
        };
        request.header(header).map(listed)
    };
    let dated = |header: &str| request.header(header).and_then(time::parse_http_date);
    if lists("if-match") == Some(false)
        || dated("if-unmodified-since").is_some_and(|at| modified / 1000 * 1000 > at)
    {
        return Some(412);
    }
    let unchanged = dated("if-modified-since").is_some_and(|at| modified / 1000 * 1000 <= at);
    (lists("if-none-match") == Some(true) || unchanged).then_some(304)
}

/// `a-b`, `a-` or `-n` as the bytes it covers; `None` when it covers none.
fn parse_range(text: &str, size: u64) -> Option<Range<u64>> {
    let (from, to) = text.split_once('-')?;
    let range = if from.is_empty() {
        size.saturating_sub(to.parse().ok()?)..size
    } else {
        let end = if to.is_empty() { size } else { to.parse::<u64>().ok()?.saturating_add(1) };
        from.parse().ok()?..end.min(size)
    };
    (range.start < range.end).then_some(range)
}

/// PUT: plain, copy, or one part of an upload.
pub(crate) fn put(
    bucket: &mut Bucket,
    uploads: &mut Uploads,
    key: &[u8],
    request: Request,
    out: &mut Vec<u8>,
) {
    if let Some(id) = request.query_text("uploadId") {
        let number = request.query_text("partNumber").and_then(|n| n.parse().ok());
        match (uploads.parts.get_mut(&id), number) {
            (Some(upload), Some(number)) => {
                upload.parts.insert(number, request.body);
                return text(200, "", &format!("ETag: \"part-{number}\"\r\n"), out);
            }
            _ => return error(404, "NoSuchUpload", out),
        }
    }
    let generation = request.header("x-goog-if-generation-match").and_then(|g| g.parse().ok());
    let condition = Condition {
        absent: request.header("if-none-match") == Some("*") || generation == Some(0),
        etag: request.header("if-match").map(str::to_owned),
        generation: generation.filter(|g| *g != 0),
    };
    let source = copy_source(&request);
    if !bucket.allows(key, &condition) {
        // Azure has a word of its own for what is there already.
        let azure = request.header("x-ms-blob-type").is_some();
        if condition.absent && azure {
            return error(409, "BlobAlreadyExists", out);
        }
        return error(412, "PreconditionFailed", out);
    }
    let metadata = metadata(&request);
    let Some(source) = source else {
        let stored = bucket.put(key.to_vec(), request.body, time::now());
        stored.metadata = metadata;
        let (etag, generation) = (&stored.etag, stored.generation);
        let headers = format!("ETag: {etag}\r\nx-goog-generation: {generation}\r\n");
        return text(200, "", &headers, out);
    };
    let expected = request.header("x-amz-copy-source-if-match");
    copy(bucket, key, &source, expected, metadata, out);
}

/// Where to copy from, as `/bucket/key`.
fn copy_source(request: &Request) -> Option<Vec<u8>> {
    let path = ["x-amz-copy-source", "x-goog-copy-source"]
        .iter()
        .find_map(|name| request.header(name))
        .or_else(|| request.header("x-ms-copy-source")?.splitn(4, '/').nth(3))?;
    Some(percent_decode(path.as_bytes(), false))
}

/// Copies `source` (`/bucket/key`), metadata included unless there is new metadata.
fn copy(
    bucket: &mut Bucket,
    key: &[u8],
    source: &[u8],
    expected: Option<&str>,
    mut metadata: String,
    out: &mut Vec<u8>,
) {
    let source = source.strip_prefix(b"/").unwrap_or(source);
    let at = memchr::memchr(b'/', source).map_or(source.len(), |at| at + 1);
    let mut body = Vec::new();
    match bucket.find(&source[at..]) {
        Some(found) => {
            let etag = found.etag();
            if expected.is_some_and(|e| Some(unquoted(e)) != etag.as_deref().map(unquoted)) {
                return error(412, "PreconditionFailed", out);
            }
            found.bytes(0..found.size(), &mut body);
            if metadata.is_empty() {
                found.metadata().clone_into(&mut metadata);
            }
        }
        None => return error(404, "NoSuchKey", out),
    }
    let stored = bucket.put(key.to_vec(), body, time::now());
    stored.metadata = metadata;
    let (etag, modified) = (unquoted(&stored.etag), time::rfc3339(stored.modified));
    let answer = format!(
        "<CopyObjectResult><ETag>&quot;{etag}&quot;</ETag><LastModified>{modified}</LastModified></CopyObjectResult>"
    );
    text(200, &answer, "", out);
}

/// DELETE of an object or of an upload.
pub(crate) fn delete(
    bucket: &mut Bucket,
    uploads: &mut Uploads,
    key: &[u8],
    request: &Request,
    out: &mut Vec<u8>,
) {
    match request.query_text("uploadId") {
        Some(id) => {
            uploads.parts.remove(&id);
        }
        None => bucket.delete(key),
    }
    out.extend_from_slice(b"HTTP/1.1 204 No Content\r\n\r\n");
}

/// POST: begin or complete an upload, or delete many objects.
pub(crate) fn post(
    bucket: &mut Bucket,
    uploads: &mut Uploads,
    key: &[u8],
    request: &Request,
    out: &mut Vec<u8>,
) {
    let mut name = Vec::new();
    escape(key, &mut name);
    let name = String::from_utf8_lossy(&name);
    if request.query("comp") == Some(b"batch") {
        batch::delete(bucket, request, out);
    } else if request.query("delete").is_some() {
        let mut answer = String::from("<DeleteResult>");
        for key in texts(&String::from_utf8_lossy(&request.body), "Key") {
            bucket.delete(key.as_bytes());
            let mut escaped = Vec::new();
            escape(key.as_bytes(), &mut escaped);
            let escaped = String::from_utf8_lossy(&escaped);
            let _ = write!(answer, "<Deleted><Key>{escaped}</Key></Deleted>");
        }
        answer.push_str("</DeleteResult>");
        text(200, &answer, "", out);
    } else if request.query("uploads").is_some() {
        uploads.next += 1;
        let id = uploads.next.to_string();
        let answer = format!(
            "<InitiateMultipartUploadResult><Key>{name}</Key><UploadId>{id}</UploadId></InitiateMultipartUploadResult>"
        );
        let upload = Upload { metadata: metadata(request), parts: BTreeMap::new() };
        uploads.parts.insert(id, upload);
        text(200, &answer, "", out);
    } else if let Some(upload) =
        request.query_text("uploadId").and_then(|id| uploads.parts.remove(&id))
    {
        let condition = Condition {
            absent: request.header("if-none-match") == Some("*"),
            etag: request.header("if-match").map(str::to_owned),
            generation: None,
        };
        if !bucket.allows(key, &condition) {
            return error(412, "PreconditionFailed", out);
        }
        let body = upload.parts.into_values().flatten().collect();
        let stored = bucket.put(key.to_vec(), body, time::now());
        stored.metadata = upload.metadata;
        let etag = unquoted(&stored.etag);
        let answer = format!(
            "<CompleteMultipartUploadResult><Key>{name}</Key><ETag>&quot;{etag}&quot;</ETag></CompleteMultipartUploadResult>"
        );
        text(200, &answer, "", out);
    } else {
        error(400, "InvalidRequest", out);
    }
}
