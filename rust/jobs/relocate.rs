//! Follows a source that has moved: one virtual chunk container gets another prefix, or another
//! endpoint, after a sample of its references was read there.
//!
//! No manifest is written. Which references exist is read from the tips of branches and the tags.

use std::collections::BTreeSet;

use icechunk::Repository;
use icechunk::format::SnapshotId;
use icechunk::format::manifest::{Checksum, ChunkPayload, VirtualChunkRef};
use icechunk::format::snapshot::NodeData;
use percent_encoding::percent_decode_str;
use rand::RngExt as _;
use serde::Serialize;

use crate::error::{TargetContext as _, target_error};
use crate::format::files::without_cache;
use crate::format::manifest_chunks::manifest_chunks;
use crate::source::{ObjectInfo, Source};
use crate::target::moved::Move;
use crate::target::{Target, TargetLocation};
use crate::{Error, ErrorKind, Result};

/// What has moved, and where to.
#[derive(Debug)]
pub struct RelocateJob {
    /// Where the repository is.
    pub target: TargetLocation,
    /// The container's stored prefix.
    pub from: String,
    /// Where its objects are now.
    pub to: Source,
    /// References that are read there.
    pub sample: usize,
    /// Take a target that may not be safe for concurrent writers.
    pub unsafe_target: bool,
}

/// What was changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RelocateReport {
    /// The target, free of credentials.
    pub target: String,
    /// The container's name.
    pub container: String,
    /// Its prefix until now.
    pub from: String,
    /// Its prefix from now on.
    pub to: String,
    /// References that name the container, in the tips of branches and in tags.
    pub references: u64,
    /// How many of them were read at the new place.
    pub sampled: u64,
}

/// Moves a container.
///
/// # Errors
///
/// [`ErrorKind::Mismatch`] when there is no such container, references hold whole URLs, or an object
/// of the sample is absent, of another length or `ETag`, or younger than its reference says;
/// [`ErrorKind::TargetNotFound`], [`ErrorKind::Target`], [`ErrorKind::Conflict`] and
/// [`ErrorKind::Access`] as for every target; [`ErrorKind::Listing`] when the new place fails.
/// Nothing is changed then.
pub async fn relocate(job: RelocateJob) -> Result<RelocateReport> {
    let target = Target::open(&job.target, job.unsafe_target).await?;
    let config = target.stored_config().await?;
    let change = Move::new(config.as_ref(), &job.from, &job.to)?;
    let repository = target.repository();
    let mut found = Found::new(&change, job.sample);
    for snapshot in snapshots(repository).await? {
        found.read(repository, &snapshot).await?;
    }
    let (from, to) = change.prefixes();
    if found.absolute > 0 {
        let what = format!(
            "{} references hold whole URLs below {from}, which stay as they are when a container \
             moves",
            found.absolute
        );
        return Err(Error::new(ErrorKind::Mismatch, what).with_hint(overwrite(to, target.url())));
    }
    for (key, reference) in &found.sample {
        let there = job.to.head(key).await?;
        check(reference, there.as_ref(), &format!("{to}{key}"), &overwrite(to, target.url()))?;
        job.to.touch(key).await?;
    }
    change.save(repository, target.url()).await?;
    Ok(RelocateReport {
        target: target.url().to_owned(),
        container: change.name().to_owned(),
        from: from.to_owned(),
        to: to.to_owned(),
        references: found.references,
        sampled: found.sample.len() as u64,
    })
}

/// The command that works where a container cannot be moved.
fn overwrite(to: &str, target: &str) -> String {
    format!("ingest the new place: refreeze ingest {to} {target} --mode overwrite")
}

/// The tips of all branches, and all tags.
async fn snapshots(repository: &Repository) -> Result<Vec<SnapshotId>> {
    let reading = || "read the branches and tags".to_owned();
    let mut found = Vec::new();
    for branch in repository.list_branches().await.doing(reading)? {
        found.push(repository.lookup_branch(&branch).await.doing(reading)?);
    }
    for tag in repository.list_tags().await.doing(reading)? {
        found.push(repository.lookup_tag(&tag).await.doing(reading)?);
    }
    found.sort();
    found.dedup();
    Ok(found)
}

/// References of a container: how many, and a random sample of them.
struct Found {
    /// What locations that name the container begin with.
    relative: String,
    /// What whole URLs in it begin with.
    whole: String,
    most: usize,
    references: u64,
    absolute: u64,
    /// Keys in the container, decoded, and their references.
    sample: Vec<(String, VirtualChunkRef)>,
    seen: BTreeSet<String>,
}

impl Found {
    fn new(change: &Move, most: usize) -> Self {
        let whole = change.prefixes().0.trim_end_matches('/');
        Self {
            relative: format!("vcc://{}/", change.name()),
            whole: format!("{whole}/"),
            most,
            references: 0,
            absolute: 0,
            sample: Vec::new(),
            seen: BTreeSet::new(),
        }
    }

    /// Reads the manifests of a snapshot that no other snapshot had, one at a time.
    async fn read(&mut self, repository: &Repository, id: &SnapshotId) -> Result<()> {
        let reading = || format!("read snapshot {id}");
        let assets = without_cache(repository);
        let snapshot = assets.fetch_snapshot(id).await.doing(reading)?;
        for node in snapshot.iter() {
            let node = node.map_err(|error| target_error(&reading(), &error.kind))?;
            let NodeData::Array { manifests, .. } = &node.node_data else { continue };
            let path = node.path.to_string();
            for manifest in manifests {
                let id = &manifest.object_id;
                if !self.seen.insert(format!("{id} {}", node.id)) {
                    continue;
                }
                for chunk in manifest_chunks(&assets, &path, &node.id, id).await? {
                    let (_, payload) = chunk?;
                    if let ChunkPayload::Virtual(reference) = payload {
                        self.take(reference);
                    }
                }
            }
        }
        Ok(())
    }

    /// Counts a reference, and keeps it with the chance that all have (algorithm R).
    fn take(&mut self, reference: VirtualChunkRef) {
        let location = reference.location.url();
        let Some(key) = location.strip_prefix(&self.relative) else {
            self.absolute += u64::from(decoded(location).starts_with(&self.whole));
            return;
        };
        self.references += 1;
        let key = decoded(key);
        if self.sample.len() < self.most {
            self.sample.push((key, reference));
            return;
        }
        let place = rand::rng().random_range(0..self.references);
        if let Some(kept) = usize::try_from(place).ok().and_then(|at| self.sample.get_mut(at)) {
            *kept = (key, reference);
        }
    }
}

fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// Compares a reference with the object at its new place.
fn check(
    reference: &VirtualChunkRef,
    there: Option<&ObjectInfo>,
    url: &str,
    overwrite: &str,
) -> Result<()> {
    let differs = |what: String, hint: &str| {
        Err(Error::new(ErrorKind::Mismatch, format!("{url} {what}; nothing was changed"))
            .with_hint(hint))
    };
    let Some(there) = there else {
        return differs("is not there".to_owned(), "check --to, and that everything was moved");
    };
    let end = reference.offset + reference.length;
    if there.size < end || (reference.offset == 0 && there.size != end) {
        return differs(
            format!("has {} bytes, and its reference says {end}", there.size),
            overwrite,
        );
    }
    match &reference.checksum {
        Some(Checksum::ETag(tag)) => {
            let plain = |tag: &str| tag.trim_matches('"').to_owned();
            let now = there.e_tag.as_deref().map(plain);
            if now.as_deref() != Some(plain(&tag.0).as_str()) {
                return differs("has another ETag than its reference says".to_owned(), overwrite);
            }
        }
        Some(Checksum::LastModified(time)) => {
            // References carry whole seconds, rounded up.
            let now = there.last_modified.div_euclid(1_000_000)
                + i64::from(there.last_modified.rem_euclid(1_000_000) > 0);
            if now > i64::from(time.0) {
                return differs(
                    "is newer than its reference says, as in a copied bucket, so no reader would \
                     accept it"
                        .to_owned(),
                    overwrite,
                );
            }
        }
        None => {}
    }
    Ok(())
}
