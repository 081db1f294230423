//! What the core needs to know of Zarr: keys, documents, and whether two documents agree.
//!
//! Codecs and data types are zarr-python's business; documents come as version 3.

pub mod compatibility;
pub mod key;
pub mod metadata;
