//! Any bytes as a page of Azure: our reader does not panic, and what it reads `object_store`'s parser does not read otherwise.

#![no_main]

use std::sync::{Arc, LazyLock, Mutex};

use libfuzzer_sys::fuzz_target;
use object_store::RetryConfig;
use object_store::azure::{MicrosoftAzure, MicrosoftAzureBuilder};
use object_store::client::HttpConnector;
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use refreeze::source::page::PageRequest;
use refreeze::source::xml::connector::{Dialect, PageConnector, PageParser};
use refreeze::source::xml::exchange::Exchange;
use refreeze::source::xml::fetch::list_page;
use refreeze::source::xml::signer::AzureSigner;

#[path = "../../tests/rust/xml/common.rs"]
mod common;

struct Clients {
    body: Arc<Mutex<Vec<u8>>>,
    stock: MicrosoftAzure,
    own: MicrosoftAzure,
    runtime: tokio::runtime::Runtime,
}

fn client(connector: impl HttpConnector) -> MicrosoftAzure {
    MicrosoftAzureBuilder::new()
        .with_account("account")
        .with_container_name("container")
        .with_endpoint("http://127.0.0.1:1".to_owned())
        .with_skip_signature(true)
        .with_allow_http(true)
        .with_http_connector(connector)
        .with_retry(RetryConfig { max_retries: 0, ..RetryConfig::default() })
        .build()
        .unwrap()
}

static CLIENTS: LazyLock<Clients> = LazyLock::new(|| {
    let canned = common::Canned::default();
    let stock = client(canned.clone());
    let signer = AzureSigner::new(Arc::clone(stock.credentials()), "account".to_owned(), true);
    let scanned = PageConnector::over(canned.clone(), PageParser::Scan)
        .with_dialect(Dialect::Azure(Arc::new(signer)));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    Clients { body: canned.0, own: client(scanned), stock, runtime }
});

fuzz_target!(|body: &[u8]| {
    let clients = &*CLIENTS;
    body.clone_into(&mut clients.body.lock().unwrap());
    let exchange = Arc::new(Exchange::default());
    let asked = clients.stock.list_paginated(None, PaginatedListOptions::default());
    let stock = clients.runtime.block_on(asked);
    let own = list_page(&clients.own, PageRequest::default(), &exchange);
    let own = clients.runtime.block_on(own);
    if let (Ok(stock), Ok(page)) = (&stock, &own)
        && let Err(what) = common::agree(body, stock, page)
    {
        panic!("{what}");
    }
});
