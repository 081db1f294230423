//! Any bytes as a LIST body: the scanner neither panics nor disagrees with the stock parser.
//! `cargo +nightly fuzz run page`; seeds are bodies of real services.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/rust/xml/common.rs"]
mod common;

static DIFFERENTIAL: LazyLock<common::Differential> = LazyLock::new(common::Differential::new);

fuzz_target!(|body: &[u8]| {
    if let Err(what) = DIFFERENTIAL.check(body) {
        panic!("{what}");
    }
});
