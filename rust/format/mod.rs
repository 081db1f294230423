//! Icechunk's own files and sessions: what is written and read below manifests and commits.
//!
//! What the files hold is decided by [`manifest`](crate::manifest) and [`commit`](crate::commit).

pub(crate) mod extents;
pub(crate) mod files;
pub(crate) mod flat;
pub(crate) mod manifest_chunks;
pub(crate) mod node;
pub(crate) mod session;

use icechunk::format::Path;

use crate::{Error, ErrorKind, Result};

/// The Icechunk path of a node.
///
/// # Errors
///
/// [`ErrorKind::UnsupportedArray`] when Icechunk cannot hold the path.
pub fn node_path(path: &str) -> Result<Path> {
    Path::try_from(path).map_err(|error| {
        Error::new(
            ErrorKind::UnsupportedArray,
            format!("Icechunk cannot hold a node at {path}: {error}"),
        )
    })
}
