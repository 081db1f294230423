//! Compact references handed to Icechunk, array by array.
//!
//! This is the session path: references go into a session's change set, and its commit builds
//! the manifests. Arrays must have been committed before; references into an array of the same
//! session cost a look at every split for each.

use icechunk::format::ChunkIndices;
use icechunk::format::Path;
use icechunk::format::manifest::{Checksum, SecondsSinceEpoch, VirtualChunkRef};
use icechunk::store::{SetVirtualRefsResult, Store};

use crate::batch::ReferenceBatch;
use crate::container::SourceContainer;
use crate::error::TargetContext as _;
use crate::metadata::ArrayNode;
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

/// Sets the references of `batch` in `store`, an uncommitted session.
///
/// # Errors
///
/// [`ErrorKind::UnsupportedArray`] for a location that Icechunk cannot hold,
/// [`ErrorKind::Target`] when the session refuses a reference.
pub async fn set_references(
    store: &Store,
    container: &SourceContainer,
    array: &ArrayNode,
    batch: ReferenceBatch,
) -> Result<()> {
    let locations = container.locations(array);
    let mut references = Vec::with_capacity(batch.len());
    for chunk in batch.into_sorted() {
        let coords = array.layout.coords(chunk.index);
        let reference = VirtualChunkRef {
            location: locations.location(&coords)?,
            offset: 0,
            length: chunk.size,
            checksum: Some(Checksum::LastModified(SecondsSinceEpoch(chunk.last_modified))),
        };
        references.push((ChunkIndices(coords), reference));
    }
    // Every location begins with the same prefix: one that the container does not take is found
    // by looking at the first.
    if let Some((_, reference)) = references.first() {
        store.session().read().await.validate_virtual_chunk_location(&reference.location).map_err(
            |error| {
                Error::new(
                    ErrorKind::UnsupportedArray,
                    format!(
                        "array {} has chunks that Icechunk cannot refer to: {}",
                        array.path, error.kind
                    ),
                )
            },
        )?;
    }
    let path = node_path(&array.path)?;
    let set = store
        .set_virtual_refs(&path, false, references)
        .await
        .doing(|| format!("set the references of array {}", array.path))?;
    match set {
        SetVirtualRefsResult::Done => Ok(()),
        SetVirtualRefsResult::FailedRefs(refused) => Err(Error::new(
            ErrorKind::Target,
            format!("the session refused {} references of array {}", refused.len(), array.path),
        )),
    }
}
