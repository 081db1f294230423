//! Integration tests of the core through its public interface: one binary, one module a subject.
//!
//! Sources are Zarr stores made by hand, so that nothing here depends on another library's idea of
//! them; results are read back with Icechunk's own API.

#![allow(
    clippy::cast_precision_loss,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "what fails here is a failed test; clippy knows tests by their attribute, not helpers"
)]

/// Manifests and commits of our own, beside those of a session.
mod direct;
mod failure;
/// A request that goes wrong, any of them.
mod faults;
mod foreign_store;
mod ingest;
/// The client of listings in plain HTTP, beside the other one.
mod plain;
/// How full an array is, by a few requests.
mod probe;
/// Which requests are made, what is believed, and that nothing is missing.
mod scan;
mod session_path;
/// A commit in several steps.
mod steps;
mod store;
/// Listings as bytes: the scanner, the connector, and `object_store`'s parser beside them.
mod xml;
