//! Every setting of `Faults`, seen from the client's side.

#![allow(
    clippy::unwrap_used,
    reason = "what fails here is a failed test; clippy knows tests by their attribute, not helpers"
)]

mod common;

use std::time::Duration;

use common::{client, list_all, one_page};
use refreeze_endpoint::{ArrayConfig, Config, Endpoint, Faults, ObjectConfig, Order, StartAfter};

/// 25 chunks `a/c/0` … and one object beside them, in pages of ten.
fn endpoint(faults: Faults) -> Endpoint {
    let array = ArrayConfig { prefix: "a".into(), grid: vec![25], ..ArrayConfig::default() };
    let object = ObjectConfig { key: "a/zarr.json".into(), ..ObjectConfig::default() };
    let beyond = ObjectConfig { key: "b".into(), ..ObjectConfig::default() };
    let config = Config {
        arrays: vec![array],
        objects: vec![object, beyond],
        page_size: 10,
        faults,
        ..Config::default()
    };
    Endpoint::start(config, 0, 1).unwrap()
}

struct Listed {
    keys: Vec<String>,
    token: Option<String>,
}

async fn page(
    endpoint: &Endpoint,
    start: Option<&str>,
    token: Option<String>,
) -> Result<Listed, String> {
    let page = one_page(&client(endpoint), "a/", start, token).await.map_err(|e| e.to_string())?;
    let keys = page.result.objects.iter().map(|o| o.location.to_string()).collect();
    Ok(Listed { keys, token: page.page_token })
}

#[tokio::test]
async fn start_after() {
    let with = |start_after| endpoint(Faults { start_after, ..Faults::default() });
    let first = |page: Result<Listed, String>| page.unwrap().keys.first().cloned();
    let honoured = with(StartAfter::Honoured);
    assert_eq!(first(page(&honoured, Some("a/c/10"), None).await).unwrap(), "a/c/11");
    let ignored = with(StartAfter::Ignored);
    assert_eq!(first(page(&ignored, Some("a/c/10"), None).await).unwrap(), "a/c/0");
    let unless = with(StartAfter::IgnoredUnlessExists);
    assert_eq!(first(page(&unless, Some("a/c/10"), None).await).unwrap(), "a/c/11");
    assert_eq!(first(page(&unless, Some("a/c/10x"), None).await).unwrap(), "a/c/0");
    let empty = with(StartAfter::Empty);
    assert_eq!(first(page(&empty, Some("a/c/10"), None).await), None);
    assert_eq!(first(page(&empty, None, None).await).unwrap(), "a/c/0");
    let inclusive = with(StartAfter::Inclusive);
    assert_eq!(first(page(&inclusive, Some("a/c/10"), None).await).unwrap(), "a/c/10");
}

#[tokio::test]
async fn order() {
    let mut sorted = page(&endpoint(Faults::default()), None, None).await.unwrap().keys;
    for order in [Order::Descending, Order::Shuffled] {
        let endpoint = endpoint(Faults { order, ..Faults::default() });
        let mut keys = page(&endpoint, None, None).await.unwrap().keys;
        assert_ne!(keys, sorted);
        assert_eq!(list_all(&client(&endpoint), "a/", None, None).await.unwrap().len(), 26);
        keys.sort();
        sorted.sort();
        assert_eq!(keys, sorted);
    }
}

#[tokio::test]
async fn prefix_limits_and_tokens() {
    let all = endpoint(Faults { ignore_prefix: true, ..Faults::default() });
    let keys = list_all(&client(&all), "a/", None, None).await.unwrap();
    assert_eq!(keys.last().unwrap(), "b");
    let unlimited = endpoint(Faults { ignore_max_keys: true, ..Faults::default() });
    assert_eq!(page(&unlimited, None, None).await.unwrap().keys.len(), 26);
    let silent = endpoint(Faults { omit_token: true, ..Faults::default() });
    assert_eq!(page(&silent, None, None).await.unwrap().token, None);
    let turning = endpoint(Faults { token_loop: true, ..Faults::default() });
    let first = page(&turning, None, None).await.unwrap();
    let second = page(&turning, None, first.token.clone()).await.unwrap();
    assert_eq!(second.token, first.token);
    assert_ne!(second.keys, first.keys);
    let outside = endpoint(Faults { outside_key: 1.0, ..Faults::default() });
    assert_eq!(page(&outside, None, None).await.unwrap().keys.last().unwrap(), "!outside/key");
}

#[tokio::test]
async fn hidden_keys() {
    let hidden = endpoint(Faults { hide_objects: true, ..Faults::default() });
    assert_eq!(list_all(&client(&hidden), "", None, None).await.unwrap().len(), 25);
    let one = endpoint(Faults { hide_keys: vec!["a/c/7".into()], ..Faults::default() });
    let keys = list_all(&client(&one), "", None, None).await.unwrap();
    assert_eq!(keys.len(), 26);
    assert!(!keys.contains(&"a/c/7".to_owned()));
}

#[tokio::test]
async fn pages_that_end_wrongly() {
    let short = endpoint(Faults { short_page: 1.0, short_page_keys: 3, ..Faults::default() });
    let got = page(&short, None, None).await.unwrap();
    assert_eq!((got.keys.len(), got.token), (3, None));

    let exact = endpoint(Faults { truncated_at_exact_end: true, ..Faults::default() });
    exact.set(|s| s.page_size = 13);
    let first = page(&exact, None, None).await.unwrap();
    let second = page(&exact, None, first.token).await.unwrap();
    assert_eq!(second.keys.len(), 13);
    let third = page(&exact, None, Some(second.token.unwrap())).await.unwrap();
    assert_eq!((third.keys.len(), third.token), (0, None));

    let empty = endpoint(Faults { empty_truncated: 1.0, limit: Some(2), ..Faults::default() });
    let mut start = page(&empty, Some("a/c/24"), None).await.unwrap();
    assert!(start.keys.is_empty());
    start = page(&empty, None, start.token).await.unwrap();
    assert!(start.keys.is_empty());
    start = page(&empty, None, start.token).await.unwrap();
    assert_eq!(start.keys[0], "a/c/3");

    let again = endpoint(Faults { repeat_page: 1.0, skip: 1, ..Faults::default() });
    let first = page(&again, None, None).await.unwrap();
    let second = page(&again, None, first.token).await.unwrap();
    assert_eq!(second.keys, first.keys);
}

#[tokio::test]
async fn failures_on_the_way() {
    let cases = [
        (Faults { truncate_xml: 1.0, ..Faults::default() }, "invalid list response"),
        (Faults { cut_body: 1.0, ..Faults::default() }, "response body"),
        (Faults { cut_connection: 1.0, ..Faults::default() }, "HTTP error"),
        (Faults { internal_error: 1.0, ..Faults::default() }, "500"),
        (Faults { slow_down: 1.0, ..Faults::default() }, "SlowDown"),
        (Faults { slow_down_above: Some(0), ..Faults::default() }, "SlowDown"),
    ];
    for (faults, text) in cases {
        let endpoint = endpoint(faults.clone());
        let Err(problem) = page(&endpoint, None, None).await else {
            panic!("{faults:?} was not noticed");
        };
        assert!(problem.contains(text), "{problem}");
        assert_eq!(endpoint.stats().struck, 1);
        endpoint.set(|s| s.faults = Faults::default());
        assert_eq!(page(&endpoint, None, None).await.unwrap().keys.len(), 10);
    }
    // The stock client takes an error document for an empty page.
    let error = endpoint(Faults { error_body: 1.0, ..Faults::default() });
    assert!(page(&error, None, None).await.unwrap().keys.is_empty());
    let stalled = endpoint(Faults { stall: 1.0, ..Faults::default() });
    let waited = tokio::time::timeout(Duration::from_millis(200), page(&stalled, None, None)).await;
    assert!(waited.is_err());
    let closed = endpoint(Faults::default());
    closed.set(|s| s.allow = false);
    assert!(page(&closed, None, None).await.err().unwrap().contains("AccessDenied"));
}

#[tokio::test]
async fn rates_and_latency() {
    let half = endpoint(Faults { slow_down: 0.5, ..Faults::default() });
    half.set(|s| s.log = true);
    for _ in 0..100 {
        let _ = page(&half, None, None).await;
    }
    let stats = half.stats();
    assert_eq!(stats.list, 100);
    assert!((30..70).contains(&stats.struck), "{stats:?}");
    assert_eq!(half.log().len() as u64, 100 - stats.struck);
    half.reset();
    assert_eq!(half.stats().list, 0);
    let slow = endpoint(Faults::default());
    slow.set(|s| s.latency_ms = 50);
    let begin = std::time::Instant::now();
    page(&slow, None, None).await.unwrap();
    assert!(begin.elapsed() >= Duration::from_millis(50));
}
