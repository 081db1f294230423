//! Reads one reference per array through Icechunk, as a reader would, before publishing.

use std::collections::HashMap;

use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use icechunk::Repository;
use icechunk::format::{ByteRange, ChunkIndices, SnapshotId};
use icechunk::repository::VersionInfo;
use icechunk::session::{Session, get_chunk};

use super::JobArray;
use super::references::Work;
use super::tally::Tally;
use crate::error::{TargetContext as _, chain};
use crate::manifest::node_path;
use crate::{Error, ErrorKind, Result};

/// Only the first byte is fetched: the object, its time and the container are what is checked.
const CHECKED_BYTES: u64 = 1;

/// Arrays read at a time.
const CONCURRENT_READS: usize = 16;

/// Reads the first bytes of the tally's samples from a snapshot that is not published yet.
pub(super) async fn read_back(
    repository: &Repository,
    snapshot: &SnapshotId,
    work: &Work<'_>,
    tally: &Tally<'_>,
) -> Result<()> {
    let mut credentials = HashMap::new();
    for (source, container) in work.sources.iter().zip(work.containers) {
        let prefix = container.container().url_prefix().to_owned();
        credentials.insert(prefix, source.source.container_credentials().await?);
    }
    let authorised = repository
        .reopen(None, Some(credentials))
        .await
        .doing(|| "open the repository for reading back".to_owned())?;
    let session = authorised
        .readonly_session(&VersionInfo::SnapshotId(snapshot.clone()))
        .await
        .doing(|| format!("read snapshot {snapshot}"))?;
    let mut reads = Vec::new();
    for (array, sample) in work.arrays.iter().zip(&tally.samples) {
        if let Some(index) = sample {
            reads.push(read_one(&session, array, *index).boxed());
        }
    }
    futures::stream::iter(reads)
        .buffer_unordered(CONCURRENT_READS)
        .try_for_each(|()| std::future::ready(Ok(())))
        .await
}

async fn read_one(session: &Session, array: &JobArray, index: u64) -> Result<()> {
    let coords = array.node.layout.coords(index);
    let unreadable = |why: String| {
        Error::new(
            ErrorKind::Target,
            format!(
                "chunk {} of array {} cannot be read back through Icechunk: {why}",
                array.source_key(&coords),
                array.node.path
            ),
        )
        .with_hint(
            "nothing was published; if the source is being written to, wait until it is at rest \
             and ingest again with --restart",
        )
    };
    let range = ByteRange::Bounded(0..CHECKED_BYTES);
    let path = node_path(&array.node.path)?;
    let reader = session
        .get_chunk_reader(&path, &ChunkIndices(coords.clone()), &range)
        .await
        .map_err(|error| unreadable(chain(&error.kind)))?;
    match get_chunk(reader).await {
        Ok(Some(_)) => Ok(()),
        Ok(None) => Err(unreadable("the reference is not there".to_owned())),
        Err(error) => Err(unreadable(chain(&error.kind))),
    }
}
