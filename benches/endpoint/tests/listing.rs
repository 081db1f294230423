//! LIST through `object_store`'s S3 client against a brute-force list of keys: order, prefixes,
//! exclusive starts, page sizes, tokens, delimiters, and a grid of 10^15 chunks.

#![allow(
    clippy::unwrap_used,
    reason = "what fails here is a failed test; clippy knows tests by their attribute, not helpers"
)]

mod common;

use common::{client, keys_of, list_all, one_page};
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::{ObjectStore, ObjectStoreExt, path::Path};
use proptest::prelude::*;
use refreeze_endpoint::{
    ArrayConfig, Config, Encoding, Endpoint, ObjectConfig, Pattern, Separator,
};

fn object(key: &str) -> ObjectConfig {
    ObjectConfig { key: key.into(), text: Some(key.into()), ..ObjectConfig::default() }
}

/// Two arrays, one of them with strays among its chunks, and neighbours on both sides.
fn mixed(grid: &[u64], v2: bool, dot: bool, pattern: Pattern) -> Config {
    let array = ArrayConfig {
        prefix: "s/a".into(),
        grid: grid.to_vec(),
        encoding: if v2 { Encoding::V2 } else { Encoding::Default },
        separator: if dot { Separator::Dot } else { Separator::Slash },
        pattern,
        size_spread: 50,
        ..ArrayConfig::default()
    };
    let other = ArrayConfig { prefix: "s/ab".into(), grid: vec![13, 2], ..ArrayConfig::default() };
    let strays = [
        "s/a/zarr.json",
        "s/a/c/1/README",
        "s/a/0/x",
        "s/a/1.5.x",
        "s/zarr.json",
        "s/a/0",
        "a b&<c>",
        "t",
    ];
    Config {
        arrays: vec![array, other],
        objects: strays.into_iter().map(object).collect(),
        ..Config::default()
    }
}

/// Every key that such a configuration must list.
fn expected(config: &Config) -> Vec<String> {
    let mut keys: Vec<String> = config.objects.iter().map(|o| o.key.clone()).collect();
    for array in &config.arrays {
        keys.extend(keys_of(array));
    }
    keys.sort();
    keys.dedup();
    keys
}

fn patterns() -> impl Strategy<Value = Pattern> {
    prop_oneof![
        Just(Pattern::Dense),
        Just(Pattern::FirstHalf),
        (1u64..20).prop_map(|step| Pattern::Every { step }),
        (0.0f64..1.0).prop_map(|probability| Pattern::Random { probability, seed: 3 }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]
    #[test]
    fn pages_agree_with_the_sorted_list(
        grid in prop::collection::vec(1u64..25, 0..3),
        flags: (bool, bool),
        pattern in patterns(),
        prefix in prop::sample::select(vec!["", "s", "s/a", "s/a/", "s/a/c/1", "s/ab/c/", "nothing", "s/a/1"]),
        start in "(|s|s/a|s/a/|s/a/c/|s/a/c\\.|s/ab/c/)[0-9./~]{0,5}",
        max_keys in 1usize..40,
        page_size in 1usize..60,
    ) {
        let mut config = mixed(&grid, flags.0, flags.1, pattern);
        config.page_size = page_size;
        let keys = expected(&config);
        let endpoint = Endpoint::start(config, 0, 1).unwrap();
        let store = client(&endpoint);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let listed = runtime.block_on(list_all(&store, prefix, Some(&start), Some(max_keys))).unwrap();
        let wanted: Vec<String> =
            keys.into_iter().filter(|k| k.starts_with(prefix) && *k > start).collect();
        let size = max_keys.min(page_size);
        prop_assert_eq!(endpoint.stats().list, (wanted.len().div_ceil(size)).max(1) as u64);
        prop_assert_eq!(listed, wanted);
    }

    #[test]
    fn delimited_pages_agree(
        grid in prop::collection::vec(1u64..12, 0..3),
        flags: (bool, bool),
        prefix in prop::sample::select(vec!["", "s", "s/", "s/a/", "s/a/c/", "s/ab/"]),
        max_keys in 1usize..9,
    ) {
        let config = mixed(&grid, flags.0, flags.1, Pattern::Dense);
        let keys = expected(&config);
        let endpoint = Endpoint::start(config, 0, 1).unwrap();
        let store = client(&endpoint);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (mut objects, mut prefixes, mut token) = (Vec::new(), Vec::new(), None);
        loop {
            let options = PaginatedListOptions {
                delimiter: Some("/".into()), max_keys: Some(max_keys), page_token: token,
                ..PaginatedListOptions::default()
            };
            let page = runtime.block_on(store.list_paginated(Some(prefix), options)).unwrap();
            objects.extend(page.result.objects.into_iter().map(|o| o.location.to_string()));
            prefixes.extend(page.result.common_prefixes.into_iter().map(|p| format!("{p}/")));
            token = page.page_token;
            if token.is_none() { break; }
        }
        let (mut wanted_objects, mut wanted_prefixes) = (Vec::new(), Vec::new());
        for key in keys.iter().filter(|k| k.starts_with(prefix)) {
            match key[prefix.len()..].find('/') {
                Some(at) => wanted_prefixes.push(key[..=prefix.len() + at].to_owned()),
                None => wanted_objects.push(key.clone()),
            }
        }
        wanted_prefixes.dedup();
        prop_assert_eq!(objects, wanted_objects);
        prop_assert_eq!(prefixes, wanted_prefixes);
    }
}

#[tokio::test]
async fn sizes_dates_and_etags_are_those_of_the_array() {
    let config = mixed(&[30, 2], false, false, Pattern::Dense);
    let array = refreeze_endpoint::Array::new(&config.arrays[0]).unwrap();
    let endpoint = Endpoint::start(config, 0, 1).unwrap();
    let store = client(&endpoint);
    let page = one_page(&store, "s/a/c/", None, None).await.unwrap();
    assert_eq!(page.result.objects.len(), 61);
    for meta in page.result.objects {
        let Some(coords) = array.coords(meta.location.as_ref().as_bytes()) else {
            continue;
        };
        assert_eq!(meta.size, array.size_of(&coords));
        assert_eq!(meta.e_tag, array.etag_of(&coords));
        assert_eq!(meta.last_modified.to_rfc3339(), "2024-05-06T07:08:09.123+00:00");
        let got = store.get(&meta.location).await.unwrap();
        assert_eq!(got.meta.e_tag, meta.e_tag);
        assert_eq!(got.bytes().await.unwrap().len() as u64, meta.size);
    }
}

#[tokio::test]
async fn a_quadrillion_chunks_cost_nothing() {
    let array =
        ArrayConfig { prefix: "big".into(), grid: vec![100_000; 3], ..ArrayConfig::default() };
    let config = Config { arrays: vec![array], ..Config::default() };
    let endpoint = Endpoint::start(config, 0, 1).unwrap();
    let store = client(&endpoint);
    let page = one_page(&store, "big/c/", Some("big/c/99999/99999/9998"), None).await.unwrap();
    let listed: Vec<String> = page.result.objects.iter().map(|o| o.location.to_string()).collect();
    let tail = ["99980", "99981", "99982"].map(|k| format!("big/c/99999/99999/{k}"));
    assert_eq!(listed[..3], tail);
    assert_eq!(listed.last().unwrap(), "big/c/99999/99999/99999");
    assert!(page.page_token.is_none());
}

#[tokio::test]
async fn more_arrays_than_are_looked_at_together_are_listed_in_order() {
    let arrays = (0..200).map(|number| ArrayConfig {
        prefix: format!("s/g{}/a{}", number % 7, number),
        grid: vec![3, 2],
        // Some have nothing to be listed.
        pattern: if number % 5 == 0 {
            Pattern::Random { probability: 0.0, seed: 1 }
        } else {
            Pattern::Dense
        },
        size_spread: 50,
        ..ArrayConfig::default()
    });
    let config = Config {
        arrays: arrays.collect(),
        objects: ["s/g3/zarr.json", "s/zarr.json", "z"].into_iter().map(object).collect(),
        ..Config::default()
    };
    let keys = expected(&config);
    let endpoint = Endpoint::start(config, 0, 1).unwrap();
    let store = client(&endpoint);
    for (prefix, start) in [("", ""), ("s/g3/", ""), ("s/g", "s/g2/a107/c/1/0"), ("s/g6/a9", "")] {
        let wanted: Vec<_> =
            keys.iter().filter(|key| key.starts_with(prefix) && key.as_str() > start).collect();
        let listed = list_all(&store, prefix, Some(start), Some(50)).await.unwrap();
        assert_eq!(listed.iter().collect::<Vec<_>>(), wanted, "{prefix} {start}");
    }
    let found = store.list_with_delimiter(Some(&Path::from("s"))).await.unwrap();
    let groups: Vec<_> = (0..7).map(|group| Path::from(format!("s/g{group}"))).collect();
    assert_eq!(found.common_prefixes, groups);
    store.get(&Path::from("s/g3/a3/c/2/1")).await.unwrap();
    store.get(&Path::from("s/g3/a3/c/3/1")).await.unwrap_err();
}

#[tokio::test]
async fn deleted_chunks_leave_listings_and_written_ones_replace_them() {
    let array = ArrayConfig { prefix: "a".into(), grid: vec![12], ..ArrayConfig::default() };
    let config = Config { arrays: vec![array], ..Config::default() };
    let endpoint = Endpoint::start(config, 0, 1).unwrap();
    let store = client(&endpoint);
    for i in [0, 10, 9] {
        store.delete(&Path::from(format!("a/c/{i}"))).await.unwrap();
    }
    store.put(&Path::from("a/c/9"), "hello".into()).await.unwrap();
    let listed = list_all(&store, "a/", None, Some(4)).await.unwrap();
    let order = [1, 11, 2, 3, 4, 5, 6, 7, 8, 9].map(|i| format!("a/c/{i}"));
    assert_eq!(listed, order);
    let prefix = Path::from("a");
    assert_eq!(store.list_with_delimiter(Some(&prefix)).await.unwrap().common_prefixes.len(), 1);
}
