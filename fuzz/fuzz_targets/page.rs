//! Any bytes as a LIST body: the scanner neither panics nor disagrees with the stock parser.
//! `cargo +nightly fuzz run page fuzz/corpus/page fuzz/seeds/page` from the root; the seeds are bodies in the
//! forms of real services, and hostile ones, which a test of the suite reads too.

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
