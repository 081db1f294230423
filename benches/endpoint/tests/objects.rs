//! Single objects: ranges, conditions, uploads, bulk deletes, and the same for Google's headers.

#![allow(
    clippy::unwrap_used,
    reason = "what fails here is a failed test; clippy knows tests by their attribute, not helpers"
)]

mod common;

use common::client;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::{
    Attribute, Attributes, Error, GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutMode,
    PutOptions, UpdateVersion, WriteMultipart, path::Path,
};
use refreeze_endpoint::{ArrayConfig, Body, Config, Endpoint, ZarrConfig};

fn array(steps: u64) -> ArrayConfig {
    let zarr = ZarrConfig {
        chunk_shape: vec![10, 4],
        data_type: "float32".into(),
        shape: Some(vec![10 * steps - 5, 8]),
        dimension_names: Some(vec!["y".into(), "x".into()]),
        v2: false,
    };
    ArrayConfig {
        prefix: "g/a".into(),
        grid: vec![steps, 2],
        body: Body::Pattern,
        zarr: Some(zarr),
        ..ArrayConfig::default()
    }
}

fn endpoint() -> Endpoint {
    let config = Config { arrays: vec![array(3)], groups: vec!["g".into()], ..Config::default() };
    Endpoint::start(config, 0, 2).unwrap()
}

#[tokio::test]
async fn reads_ranges_and_conditions() {
    let endpoint = endpoint();
    let store = client(&endpoint);
    let path = Path::from("g/a/c/2/1");
    let meta = store.head(&path).await.unwrap();
    assert_eq!(meta.size, 160);
    let whole = store.get(&path).await.unwrap().bytes().await.unwrap();
    assert_eq!(store.get_range(&path, 5..21).await.unwrap(), whole.slice(5..21));
    let suffix = GetOptions { range: Some(GetRange::Suffix(7)), ..GetOptions::default() };
    let got = store.get_opts(&path, suffix).await.unwrap().bytes().await.unwrap();
    assert_eq!(got, whole.slice(153..));
    assert!(store.get_range(&path, 500..501).await.is_err());
    let wrong = GetOptions { if_match: Some("\"x\"".into()), ..GetOptions::default() };
    assert!(matches!(store.get_opts(&path, wrong).await, Err(Error::Precondition { .. })));
    let right = GetOptions { if_match: meta.e_tag.clone(), ..GetOptions::default() };
    assert!(store.get_opts(&path, right).await.is_ok());
    let since = meta.last_modified - chrono_seconds(10);
    let older = GetOptions { if_unmodified_since: Some(since), ..GetOptions::default() };
    assert!(matches!(store.get_opts(&path, older).await, Err(Error::Precondition { .. })));
    assert!(matches!(store.get(&Path::from("g/a/c/3/0")).await, Err(Error::NotFound { .. })));
    let document = store.get(&Path::from("g/a/zarr.json")).await.unwrap().bytes().await.unwrap();
    let document: serde_json::Value = serde_json::from_slice(&document).unwrap();
    assert_eq!(document["shape"], serde_json::json!([25, 8]));
    assert!(store.head(&Path::from("g/zarr.json")).await.is_ok());
}

fn chrono_seconds(n: u64) -> std::time::Duration {
    std::time::Duration::from_secs(n)
}

#[tokio::test]
async fn writes_under_conditions() {
    let endpoint = endpoint();
    let store = client(&endpoint);
    let path = Path::from("repo/ref");
    let create = || PutOptions { mode: PutMode::Create, ..PutOptions::default() };
    let attempts =
        stream::iter(0..8).map(|i| store.put_opts(&path, format!("{i}").into(), create()));
    let outcomes: Vec<_> = attempts.buffer_unordered(8).collect().await;
    let won: Vec<_> = outcomes.into_iter().filter_map(Result::ok).collect();
    assert_eq!(won.len(), 1);
    let version = UpdateVersion { e_tag: won[0].e_tag.clone(), version: None };
    let update = PutOptions { mode: PutMode::Update(version.clone()), ..PutOptions::default() };
    store.put_opts(&path, "next".into(), update.clone()).await.unwrap();
    let stale = store.put_opts(&path, "late".into(), update).await;
    assert!(matches!(stale, Err(Error::Precondition { .. })));
    // Some clients send the ETag without its quotes.
    let meta = store.head(&path).await.unwrap();
    let bare = meta.e_tag.map(|tag| tag.trim_matches('"').to_owned());
    let version = UpdateVersion { e_tag: bare, version: None };
    let update = PutOptions { mode: PutMode::Update(version.clone()), ..PutOptions::default() };
    store.put_opts(&path, "bare".into(), update.clone()).await.unwrap();
    // A server that does not look at conditions loses an update.
    endpoint.set(|s| s.faults.ignore_write_conditions = true);
    store.put_opts(&path, "late".into(), update).await.unwrap();
    endpoint.set(|s| s.faults.object_slow_down = 1.0);
    let busy = store.get(&path).await.unwrap_err().to_string();
    assert!(busy.contains("SlowDown"), "{busy}");
}

#[tokio::test]
async fn metadata_is_kept() {
    let endpoint = endpoint();
    let store = client(&endpoint);
    let (path, copy) = (Path::from("m/a"), Path::from("m/b"));
    let name = Attribute::Metadata("writer".into());
    let options = PutOptions {
        attributes: Attributes::from_iter([(name.clone(), "me")]),
        ..PutOptions::default()
    };
    store.put_opts(&path, "x".into(), options).await.unwrap();
    store.copy(&path, &copy).await.unwrap();
    for path in [path, copy] {
        let got = store.get(&path).await.unwrap();
        assert_eq!(got.attributes.get(&name).unwrap(), &"me".into());
    }
}

#[tokio::test]
async fn uploads_copies_and_bulk_deletes() {
    let endpoint = endpoint();
    let store = client(&endpoint);
    let path = Path::from("up/load & more");
    let mut writer = WriteMultipart::new(store.put_multipart(&path).await.unwrap());
    let body: Vec<u8> = (0..11_000_000u32).map(|i| i.to_le_bytes()[1]).collect();
    writer.write(&body);
    writer.finish().await.unwrap();
    assert_eq!(store.get(&path).await.unwrap().bytes().await.unwrap(), body);
    let copy = Path::from("up/copy");
    store.copy(&path, &copy).await.unwrap();
    assert_eq!(store.head(&copy).await.unwrap().size, 11_000_000);
    let both = stream::iter([Ok(path), Ok(copy)]).boxed();
    store.delete_stream(both).try_collect::<Vec<_>>().await.unwrap();
    assert_eq!(store.list(Some(&Path::from("up"))).count().await, 0);
}

#[tokio::test]
async fn an_array_grows_and_reads_are_counted() {
    let endpoint = endpoint();
    let store = client(&endpoint);
    let chunk = Path::from("g/a/c/3/0");
    assert!(matches!(store.get(&chunk).await, Err(Error::NotFound { .. })));
    endpoint.serve(array(4)).unwrap();
    endpoint.reset();
    let body = store.get(&chunk).await.unwrap().bytes().await.unwrap();
    let head = endpoint.stats().get_bytes - body.len() as u64;
    assert!((1..1_000).contains(&head), "{head}");
    let document = store.get(&Path::from("g/a/zarr.json")).await.unwrap().bytes().await.unwrap();
    assert!(String::from_utf8_lossy(&document).contains("[35,8]"));
    assert_eq!(store.list(Some(&Path::from("g/a/c"))).count().await, 8);
    let broken = ArrayConfig { last_modified: "yesterday".into(), ..array(5) };
    assert!(endpoint.serve(broken).is_err());
    assert_eq!(store.list(Some(&Path::from("g/a/c"))).count().await, 8);
}
