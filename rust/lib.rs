//! Icechunk repositories over native Zarr, without copying a chunk.
//!
//! Scientific data in object storage is mostly *native Zarr*: one object for every chunk, up to
//! hundreds of millions of them. This crate lists those objects and writes an Icechunk repository
//! whose chunks are *virtual references* to them, so that the data gains transactions, versions
//! and fast opening while every byte stays where it is.
//!
//! Data flows one way through the modules:
//!
//! ```text
//! source ── zarr ── grid, key order ── plan ── list ── batch ── manifest ── commit ── jobs
//!  (IO)     pure        pure           pure    (IO)    pure      (IO)        (IO)
//! ```
//!
//! From the bottom up; no module uses one that comes later in this list:
//!
//! - [`shown`]: what of a text may be shown, for every error and log record.
//! - [`zarr`]: chunk coordinates to object keys and back, exactly; what a node's document says, and
//!   whether two documents of one array mean the same.
//! - [`grid`]: slices of elements to a box of the chunk grid; a box of an array in the target, and
//!   where its chunks are in a source.
//! - [`key_order`]: a key's place among all possible keys of its array, and back, by arithmetic;
//!   a box of the grid as runs of such ranks.
//! - [`source`]: where the Zarr store is; lists pages of keys and reads single objects.
//! - [`list`]: an array's chunks as a stream of Arrow record batches; on S3 by independent pages
//!   that start after computed keys.
//! - [`density`]: how full arrays are, by a few requests; [`estimate`]: what listing and
//!   referencing a region takes.
//! - [`plan`]: how manifests are split and how many references go into one commit.
//! - [`batch`]: the references of a part of an array in compact form.
//! - [`mod@format`]: Icechunk's own files and sessions.
//! - [`target`]: opening or creating the repository, adding to its stored configuration, how a
//!   reference names its object, and where the chunks of an array that is there came from.
//! - [`manifest`]: compact references made into manifests of the repository.
//! - [`commit`]: the staging branch, its commits, their replay on another base, and publication.
//! - [`jobs`]: ingest, publish and status, all of the above in order.
//!
//! The crate knows nothing of Python. Reading Zarr metadata (codecs, data types, version 2) is
//! left to zarr-python in the Python package; the core receives version 3 documents.

pub mod batch;
pub mod commit;
pub mod density;
pub mod error;
pub mod estimate;
pub mod format;
pub mod grid;
pub mod jobs;
pub mod key_order;
pub mod list;
pub mod manifest;
pub mod plan;
pub mod progress;
pub mod shown;
pub mod source;
pub mod target;
#[cfg(test)]
mod testing;
pub mod zarr;

pub use error::{Error, ErrorKind, Result};
