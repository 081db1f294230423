//! Two texts with a byte of 255 between them, as an array's metadata document then and now: they are compared without a
//! panic, each is like itself, and who comes first makes no difference where shapes must be equal.

#![no_main]

use libfuzzer_sys::fuzz_target;
use refreeze::zarr::compatibility::{Shapes, compare};
use refreeze::zarr::key::ChunkKeyEncoding;
use refreeze::zarr::metadata::{ArrayLayout, ArraySpec};

fn agree(then: &[u8], now: &[u8], shapes: Shapes) -> bool {
    compare(then, now, shapes, &mut Vec::new()).is_ok()
}

fuzz_target!(|bytes: &[u8]| {
    let mut parts = bytes.splitn(2, |byte| *byte == u8::MAX);
    let (then, now) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let one_way = agree(then, now, Shapes::Equal);
    assert_eq!(one_way, agree(now, then, Shapes::Equal), "it matters which comes first");
    assert!(!one_way || agree(then, now, Shapes::Grown), "what is equal has not grown");
    if let Ok(tree) = serde_json::from_slice::<serde_json::Map<_, _>>(then) {
        let again = serde_json::to_vec(&tree).unwrap();
        assert!(agree(then, &again, Shapes::Equal), "a document is not like itself");
    }
    let encoding = ChunkKeyEncoding::parse("default", "/").unwrap();
    let _ = ArraySpec {
        path: "/air".to_owned(),
        source_path: "air".to_owned(),
        document: then.to_vec(),
        layout: ArrayLayout::new(vec![1], vec![1], encoding).unwrap(),
        copied: false,
    }
    .dimension_names();
});
