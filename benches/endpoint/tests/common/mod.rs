//! A client for the endpoint and the brute-force list of an array's keys.
#![allow(dead_code)] // each test binary uses its part

use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::list::{PaginatedListOptions, PaginatedListResult, PaginatedListStore};
use object_store::{ClientOptions, RetryConfig};
use refreeze_endpoint::{Array, ArrayConfig, Endpoint};

pub(crate) fn client(endpoint: &Endpoint) -> AmazonS3 {
    let retry = RetryConfig { max_retries: 0, ..RetryConfig::default() };
    AmazonS3Builder::new()
        .with_endpoint(endpoint.url())
        .with_bucket_name("bucket")
        .with_region("us-east-1")
        .with_access_key_id("test")
        .with_secret_access_key("test")
        .with_allow_http(true)
        .with_client_options(ClientOptions::new().with_allow_http(true))
        .with_retry(retry)
        .build()
        .unwrap()
}

pub(crate) fn keys_of(config: &ArrayConfig) -> Vec<String> {
    let array = Array::new(config).unwrap();
    let mut keys = Vec::new();
    for mut linear in 0..config.grid.iter().product::<u64>() {
        let mut coords = vec![0; config.grid.len()];
        for d in (0..coords.len()).rev() {
            coords[d] = linear % config.grid[d];
            linear /= config.grid[d];
        }
        if array.contains(&coords) {
            keys.push(String::from_utf8(array.key(&coords)).unwrap());
        }
    }
    keys
}

pub(crate) async fn one_page(
    store: &AmazonS3,
    prefix: &str,
    start_after: Option<&str>,
    token: Option<String>,
) -> object_store::Result<PaginatedListResult> {
    let options = PaginatedListOptions {
        offset: start_after.map(str::to_owned),
        page_token: token,
        ..PaginatedListOptions::default()
    };
    store.list_paginated(Some(prefix), options).await
}

/// Follows the tokens to the end.
pub(crate) async fn list_all(
    store: &AmazonS3,
    prefix: &str,
    start_after: Option<&str>,
    max_keys: Option<usize>,
) -> object_store::Result<Vec<String>> {
    let (mut keys, mut token) = (Vec::new(), None);
    loop {
        let options = PaginatedListOptions {
            offset: start_after.map(str::to_owned),
            max_keys,
            page_token: token,
            ..PaginatedListOptions::default()
        };
        let page = store.list_paginated(Some(prefix), options).await?;
        keys.extend(page.result.objects.into_iter().map(|o| o.location.to_string()));
        token = page.page_token;
        if token.is_none() {
            return Ok(keys);
        }
    }
}
