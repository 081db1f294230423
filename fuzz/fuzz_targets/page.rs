//! Any bytes as a page of S3: the scanner neither panics nor disagrees with the stock parser.
//! The seeds are bodies in the forms of real services, and hostile ones, which a test of the suite reads too.

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
