//! Integration tests of the core through its public interface: one binary, one module a subject.
//!
//! Sources are Zarr stores made by hand, so that nothing here depends on another library's idea of
//! them; results are read back with Icechunk's own API.

#![expect(
    clippy::unwrap_used,
    reason = "what fails here is a failed test; clippy knows tests by their attribute, not helpers"
)]

mod failure;
mod ingest;
mod store;
