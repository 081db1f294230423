//! Any bytes as a page of Google's JSON API: our reader does not panic, and reads what a tree of the JSON holds.

#![no_main]

use std::sync::{Arc, LazyLock, Mutex};

use libfuzzer_sys::fuzz_target;
use object_store::aws::AmazonS3;
use refreeze::source::page::PageRequest;
use refreeze::source::xml::connector::{PageConnector, PageParser};
use refreeze::source::xml::exchange::Exchange;
use refreeze::source::xml::fetch::list_page;
use serde_json::Value;

#[path = "../../tests/rust/xml/common.rs"]
mod common;

struct Client {
    body: Arc<Mutex<Vec<u8>>>,
    store: AmazonS3,
    runtime: tokio::runtime::Runtime,
}

static CLIENT: LazyLock<Client> = LazyLock::new(|| {
    let canned = common::Canned::default();
    let connector = PageConnector::over(canned.clone(), PageParser::Scan);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    Client { body: canned.0, store: common::store(connector, "http://127.0.0.1:1"), runtime }
});

fuzz_target!(|body: &[u8]| {
    let client = &*CLIENT;
    body.clone_into(&mut client.body.lock().unwrap());
    let exchange = Arc::new(Exchange::json());
    let asked = list_page(&client.store, PageRequest::default(), &exchange);
    let Ok(page) = client.runtime.block_on(asked) else { return };
    // What we skip need not be text.
    let Ok(tree) = serde_json::from_slice::<Value>(body) else { return };
    let nothing = Vec::new();
    let items = tree.get("items").and_then(Value::as_array).unwrap_or(&nothing);
    assert_eq!(items.len(), page.len(), "other keys");
    for (at, item) in items.iter().enumerate() {
        assert_eq!(item["name"].as_str().map(str::as_bytes), Some(page.key(at)));
        let size = item["size"].as_u64().or_else(|| item["size"].as_str()?.parse().ok());
        assert_eq!(size, Some(page.entries[at].size));
    }
    let token = tree.get("nextPageToken").and_then(Value::as_str).filter(|token| !token.is_empty());
    assert_eq!(token, page.next_token.as_deref());
    assert_eq!(token.is_some(), page.truncated);
});
