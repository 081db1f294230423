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
//! source ── metadata ── key, rank ── region ── plan ── list ── batch ── manifest ── commit ── ingest
//!  (IO)       pure        pure         pure     pure    (IO)    pure      (IO)        (IO)
//! ```
//!
//! - [`source`]: where the Zarr store is; lists pages of keys and reads single objects.
//! - [`metadata`]: what the core needs to know of a group or an array.
//! - [`key`]: chunk coordinates to object keys and back, exactly.
//! - [`rank`]: a key's place among all possible keys of its array, and back, by arithmetic.
//! - [`region`]: slices of elements to a box of the chunk grid; [`runs`]: that box in rank order.
//! - [`piece`]: a box of an array in the target, and where its chunks are in a source.
//! - [`agreement`]: whether two metadata documents of one array mean the same; [`origin`]: where the
//!   chunks of an array that is in a repository came from.
//! - [`survey`]: how full arrays are, by a few requests; [`estimate`]: what listing and referencing
//!   a region takes.
//! - [`plan`]: how manifests are split and how many references go into one commit.
//! - [`list`]: an array's chunks as a stream of Arrow record batches; on S3 by independent pages
//!   that start after computed keys.
//! - [`batch`]: the references of a part of an array in compact form.
//! - [`container`]: how a reference names its object (virtual chunk container and location).
//! - [`manifest`]: compact references made into manifests of the repository.
//! - [`target`]: opening or creating the repository, and adding to its stored configuration.
//! - [`commit`]: the staging branch, its commits, their replay on another base, and publication.
//! - [`shown`]: what of a text may be shown, for every error and log record.
//! - [`ingest`]: the main job, all of the above in order.
//!
//! The crate knows nothing of Python. Reading Zarr metadata (codecs, data types, version 2) is
//! left to zarr-python in the Python package; the core receives version 3 documents.

pub mod agreement;
pub mod batch;
pub mod commit;
pub mod container;
mod decimal;
pub mod error;
pub mod estimate;
mod files;
mod flat;
pub mod ingest;
pub mod key;
pub mod list;
pub mod manifest;
pub mod metadata;
pub mod origin;
pub mod piece;
pub mod plan;
pub mod progress;
pub mod rank;
pub mod region;
pub mod runs;
mod session;
pub mod shown;
pub mod source;
pub mod survey;
pub mod target;
#[cfg(test)]
mod testing;

pub use error::{Error, ErrorKind, Result};
