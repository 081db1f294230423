//! Canned responses instead of a network, and the comparison of the scanner with the stock parser.
#![allow(dead_code)] // each test binary uses its part

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpRequest, HttpResponse, HttpService,
};
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::{ClientOptions, RetryConfig, path::Path};
use refreeze::source::page::Page;
use refreeze::source::page::PageRequest;
use refreeze::source::xml::connector::{PageConnector, PageParser};
use refreeze::source::xml::exchange::Exchange;
use refreeze::source::xml::fetch::list_page;

/// Answers every request with status 200 and the present body.
#[derive(Debug, Clone, Default)]
pub(crate) struct Canned(pub Arc<Mutex<Vec<u8>>>);

#[async_trait]
impl HttpService for Canned {
    async fn call(&self, _: HttpRequest) -> Result<HttpResponse, HttpError> {
        Ok(HttpResponse::new(self.0.lock().unwrap().clone().into()))
    }
}

impl HttpConnector for Canned {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

pub(crate) fn store(connector: impl HttpConnector, url: &str) -> AmazonS3 {
    let retry = RetryConfig { max_retries: 0, ..RetryConfig::default() };
    AmazonS3Builder::new()
        .with_endpoint(url)
        .with_bucket_name("bucket")
        .with_region("us-east-1")
        .with_skip_signature(true)
        .with_allow_http(true)
        .with_http_connector(connector)
        .with_retry(retry)
        .build()
        .unwrap()
}

/// The same body read by the stock parser alone and through the connector in both settings.
pub(crate) struct Differential {
    body: Arc<Mutex<Vec<u8>>>,
    stock: AmazonS3,
    scan: AmazonS3,
    xml: AmazonS3,
    runtime: tokio::runtime::Runtime,
}

/// What became of a body, for counting how much a test really tested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Agreed,
    BothFailed,
    OnlyScanner,
    Distrusted,
}

impl Differential {
    pub(crate) fn new() -> Self {
        let canned = Canned::default();
        let url = "http://127.0.0.1:1";
        Self {
            body: Arc::clone(&canned.0),
            stock: store(canned.clone(), url),
            scan: store(PageConnector::over(canned.clone(), PageParser::Scan), url),
            xml: store(PageConnector::over(canned, PageParser::Xml), url),
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap(),
        }
    }

    /// Err: a disagreement.
    pub(crate) fn check(&self, body: &[u8]) -> Result<Outcome, String> {
        if let Err((_, returned)) = refreeze::source::xml::document::scan(body.to_vec())
            && returned != body
        {
            return Err("a refused body has changed".into());
        }
        body.clone_into(&mut self.body.lock().unwrap());
        let exchange = Arc::new(Exchange::default());
        let stock =
            self.runtime.block_on(self.stock.list_paginated(None, PaginatedListOptions::default()));
        let read =
            |store| self.runtime.block_on(list_page(store, PageRequest::default(), &exchange));
        let (scan, xml) = (read(&self.scan), read(&self.xml));
        for (name, page) in [("scan", &scan), ("xml", &xml)] {
            if let (Ok(stock), Ok(page)) = (&stock, page) {
                agree(body, stock, page).map_err(|what| format!("{name}: {what}"))?;
            }
        }
        if stock.is_err() && xml.is_ok() {
            return Err("the stock path read what the stock parser refused".into());
        }
        match (stock, scan) {
            (Ok(_), Ok(_)) => Ok(Outcome::Agreed),
            (Err(_), Err(_)) => Ok(Outcome::BothFailed),
            (Err(_), Ok(_)) => Ok(Outcome::OnlyScanner),
            (Ok(_), Err(error)) => {
                let text = format!("{error:?} {error}");
                let distrusted =
                    ["NotAListing", "Incomplete", "begins or ends with a slash", "<Error"];
                if distrusted.iter().any(|d| text.contains(d)) {
                    Ok(Outcome::Distrusted)
                } else {
                    Err(format!("only the stock parser read it: {text}"))
                }
            }
        }
    }
}

pub(crate) fn agree(
    body: &[u8],
    stock: &object_store::list::PaginatedListResult,
    page: &Page,
) -> Result<(), String> {
    let objects = &stock.result.objects;
    if objects.len() != page.len() {
        return Err(format!("{} keys, {} of them read", objects.len(), page.len()));
    }
    let token = stock.page_token.as_deref().filter(|token| !token.is_empty());
    if token != page.next_token.as_deref() {
        return Err(format!("token {token:?}, read as {:?}", page.next_token.as_deref()));
    }
    if token.is_some() && !page.truncated {
        return Err("a token, but not truncated".into());
    }
    let encoded = memchr::memmem::find(body, b"EncodingType>").is_some();
    for (i, (object, entry)) in objects.iter().zip(&page.entries).enumerate() {
        // The stock parser leaves encoded keys as they are; decoded, they may be no paths, and no text.
        if !encoded {
            let key = std::str::from_utf8(page.key(i)).map_err(|e| e.to_string())?;
            // Paths have no slash at either end.
            let path = Path::parse(key).map_err(|e| e.to_string())?;
            if path != object.location {
                return Err(format!("key {:?} read as {key:?}", object.location));
            }
        }
        let tag = Some(page.e_tag(i))
            .filter(|t| !t.is_empty())
            .map(|t| String::from_utf8_lossy(t).into_owned());
        let stock_tag = object.e_tag.clone().filter(|tag| !tag.is_empty());
        if object.size != entry.size
            || object.last_modified.timestamp_micros() != entry.last_modified
            || stock_tag != tag
        {
            return Err(format!("{object:?} read as {entry:?} {tag:?}"));
        }
    }
    Ok(())
}
