//! How many LIST pages the endpoint can serve, and what one costs it in CPU time.
//! Usage: `load URL PREFIX PAGES CONNECTIONS [START_AFTER…]`; the start keys are used in turn.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a program for a terminal"
)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Instant;

fn exchange(stream: &mut TcpStream, request: &str, buffer: &mut Vec<u8>) -> std::io::Result<usize> {
    stream.write_all(request.as_bytes())?;
    buffer.clear();
    let mut chunk = vec![0; 1 << 18];
    loop {
        let n = stream.read(&mut chunk)?;
        buffer.extend_from_slice(&chunk[..n]);
        let text = String::from_utf8_lossy(&buffer[..buffer.len().min(300)]).into_owned();
        if let Some((head, _)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|l| l.strip_prefix("Content-Length: "));
            let length: usize = length.and_then(|l| l.parse().ok()).unwrap_or(0);
            if buffer.len() >= head.len() + 4 + length || n == 0 {
                return Ok(head.len() + 4);
            }
        } else if n == 0 {
            return Ok(0);
        }
    }
}

fn cpu_ms(address: &str) -> std::io::Result<f64> {
    let mut buffer = Vec::new();
    let mut stream = TcpStream::connect(address)?;
    let body = exchange(&mut stream, "GET /__stats HTTP/1.1\r\n\r\n", &mut buffer)?;
    let stats: serde_json::Value = serde_json::from_slice(&buffer[body..])?;
    Ok(stats["cpu_ms"].as_f64().unwrap_or(0.0))
}

#[allow(clippy::cast_precision_loss)] // counts of pages
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, prefix, pages, connections, starts @ ..] = arguments.as_slice() else {
        return Err("usage: load URL PREFIX PAGES CONNECTIONS [START_AFTER...]".into());
    };
    let address = url.trim_start_matches("http://").to_owned();
    let (pages, connections): (usize, usize) = (pages.parse()?, connections.parse()?);
    let before = cpu_ms(&address)?;
    let begin = Instant::now();
    let bytes = std::thread::scope(|scope| {
        let work = (0..connections).map(|_| {
            scope.spawn(|| -> std::io::Result<usize> {
                let mut stream = TcpStream::connect(&address)?;
                let (mut buffer, mut bytes) = (Vec::new(), 0);
                for i in 0..pages / connections {
                    let start = starts.get(i % starts.len().max(1)).map_or("", String::as_str);
                    let request = format!(
                        "GET /bucket?list-type=2&prefix={prefix}&start-after={start} HTTP/1.1\r\nHost: x\r\n\r\n"
                    );
                    exchange(&mut stream, &request, &mut buffer)?;
                    bytes += buffer.len();
                }
                Ok(bytes)
            })
        });
        let work: Vec<_> = work.collect();
        work.into_iter().filter_map(|w| w.join().ok()?.ok()).sum::<usize>()
    });
    let elapsed = begin.elapsed().as_secs_f64();
    let cpu = cpu_ms(&address)? - before;
    println!(
        "{:.0} pages/s, {:.0} bytes a page, {:.3} ms CPU of the endpoint a page",
        pages as f64 / elapsed,
        bytes as f64 / pages as f64,
        cpu / pages as f64
    );
    Ok(())
}
