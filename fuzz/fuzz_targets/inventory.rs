//! Any lines as rows of an inventory, in columns of several types: sorting and listing them neither panics nor loses or
//! disorders a key. The first byte chooses types and forms; fields of a line are separated by tabs.

#![no_main]

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow_schema::{Field, Schema};
use futures::executor::block_on;
use libfuzzer_sys::fuzz_target;
use refreeze::source::inventory::{InventoryBuilder, InventoryColumns, InventoryPlace};
use refreeze::source::page::{PageRequest, PageSource};

const NAMES: [&str; 6] = ["key", "size", "time", "tag", "latest", "deleted"];

fn column(name: &str, texts: Vec<Option<&str>>, numbers: bool) -> (Field, ArrayRef) {
    let column: ArrayRef = if numbers {
        let numbers = texts.into_iter().map(|text| text?.parse::<i64>().ok());
        Arc::new(numbers.collect::<Int64Array>())
    } else {
        Arc::new(StringArray::from(texts))
    };
    (Field::new(name, column.data_type().clone(), true), column)
}

fn batch(lines: &[Vec<&str>], form: u8) -> RecordBatch {
    let (fields, columns): (Vec<_>, Vec<_>) = NAMES
        .iter()
        .enumerate()
        .map(|(at, name)| {
            let texts = lines.iter().map(|line| line.get(at).copied()).collect();
            column(name, texts, at > 0 && form & (1 << at) != 0)
        })
        .unzip();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

fuzz_target!(|bytes: &[u8]| {
    let Some((form, text)) = bytes.split_first() else { return };
    let text = String::from_utf8_lossy(text);
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split('\t').collect()).collect();
    let columns = InventoryColumns {
        key: "key".to_owned(),
        size: "size".to_owned(),
        last_modified: "time".to_owned(),
        e_tag: Some("tag".to_owned()),
        is_latest: vec!["latest".to_owned()],
        is_absent: vec!["deleted".to_owned()],
        encoded_keys: form & 1 != 0,
        quoted_tags: form & 64 != 0,
        ..InventoryColumns::default()
    };
    let place = |prefixes: &[&str]| InventoryPlace {
        prefixes: prefixes.iter().map(|&prefix| prefix.to_owned()).collect(),
        bucket: None,
        url: "s3://bucket/a".to_owned(),
    };
    let places = vec![place(&["a/", "s3://bucket/a/"]), place(&[""])];
    let mut builder = InventoryBuilder::new(std::env::temp_dir(), 512, places);
    for part in lines.chunks(7) {
        if builder.add(&batch(part, *form), &columns).is_err() {
            return;
        }
    }
    let Ok(inventories) = builder.finish() else { return };
    for inventory in inventories {
        let mut keys = BTreeSet::new();
        let mut last: Option<String> = None;
        loop {
            let request =
                PageRequest { start_after: last.as_deref(), max_keys: 3, ..PageRequest::default() };
            let page = block_on(inventory.page(request)).expect("a page");
            for at in 0..page.len() {
                let key = String::from_utf8(page.key(at).to_vec()).expect("a key is text");
                assert!(last.as_deref().is_none_or(|last| *last < *key), "{last:?} before {key:?}");
                assert!(inventory.find(&key).expect("a table").is_some(), "{key:?} is not found");
                keys.insert(key.clone());
                last = Some(key);
            }
            if !page.truncated {
                break;
            }
            assert!(page.len() > 0, "a page without keys is not the last");
        }
        assert!(!keys.contains(""));
    }
});
