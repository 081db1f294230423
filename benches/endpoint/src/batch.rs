//! Azure's deletion of many blobs by one request: a request in parts, each a request by itself, and
//! an answer in as many parts.

use std::fmt::Write as _;

use crate::bucket::Bucket;
use crate::http::{Request, head};
use crate::xml::percent_decode;

const BOUNDARY: &str = "batchresponse_0";

/// Deletes what a batch names, below `/container/`.
pub(crate) fn delete(bucket: &mut Bucket, request: &Request, out: &mut Vec<u8>) {
    let body = String::from_utf8_lossy(&request.body);
    let targets = body.lines().filter_map(|line| line.strip_prefix("DELETE ")?.split(' ').next());
    let mut answer = String::new();
    for (number, target) in targets.enumerate() {
        let path = target.split('?').next().unwrap_or_default().trim_start_matches('/');
        let key = path.split_once('/').map_or("", |(_, key)| key);
        bucket.delete(&percent_decode(key.as_bytes(), false));
        let _ = write!(
            answer,
            "--{BOUNDARY}\r\nContent-Type: application/http\r\nContent-ID: {number}\r\n\r\n\
             HTTP/1.1 202 Accepted\r\nx-ms-delete-type-permanent: true\r\n\r\n"
        );
    }
    let _ = write!(answer, "--{BOUNDARY}--\r\n");
    let kind = format!("multipart/mixed; boundary={BOUNDARY}");
    out.extend_from_slice(head(202, &kind, answer.len() as u64, "").as_bytes());
    out.extend_from_slice(answer.as_bytes());
}
