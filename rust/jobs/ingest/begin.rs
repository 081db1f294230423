//! How a run begins: what stands in the target, and the first commit.

use std::sync::Arc;

use icechunk::Repository;
use icechunk::format::SnapshotId;
use icechunk::store::Store;
use tokio::sync::RwLock;

use super::tally::Tally;
use super::{IngestJob, IngestReport, Mode, complete, copied, layouts, nodes, outcome, resume};
use crate::commit::{
    Completed, Draft, PublishedRun, RunIdentity, RunOptions, RunRecord, Staging, find_published,
    is_below, new_run_id,
};
use crate::error::TargetContext as _;
use crate::plan::{Batches, Fingerprint};
use crate::target::Target;
use crate::target::container::SourceContainer;
use crate::zarr::metadata::GroupSpec;
use crate::{Error, ErrorKind, Result};

/// What an ingest without an unfinished run finds in the target.
pub(super) enum Existing {
    /// Nothing is to be done.
    Done(Box<IngestReport>),
    /// What is there of the nodes to be made.
    Found(nodes::Found),
}

/// Looks at what stands in the way, or should be there.
pub(super) async fn look(
    target: &Target,
    job: &IngestJob,
    tip: &SnapshotId,
    fingerprint: &Fingerprint,
    containers: &[SourceContainer],
) -> Result<Existing> {
    let repository = target.repository();
    if job.mode.keeps_arrays() {
        if job.base.as_ref().is_some_and(|base| base != tip) {
            return Err(Error::new(
                ErrorKind::Conflict,
                format!("branch {} has moved since it was read", job.branch),
            )
            .with_hint("run the same command again"));
        }
        let found = nodes::find(repository, tip, &[], &job.specs(), &[]).await?;
        let lacks = |path: &String| !found.arrays.contains(path) && !job.added.contains(path);
        if let Some(array) = job.arrays.iter().find(|array| lacks(&array.spec.path)) {
            return Err(Error::new(
                ErrorKind::TargetNotFound,
                format!("{} has no array {}", target.url(), array.spec.path),
            )
            .with_hint("ingest it first, or leave it out with --skip"));
        }
        return Ok(Existing::Found(found));
    }
    let groups: Vec<GroupSpec> =
        job.groups.iter().filter(|group| !removed(&job.replaced, &group.path)).cloned().collect();
    let mut found = nodes::find(repository, tip, &groups, &job.specs(), &job.replaced).await?;
    // What is removed is made anew, also where its document stays the same.
    let stays = |path: &String| !removed(&job.replaced, path) && !job.replaced.contains(path);
    found.arrays.retain(stays);
    found.documents.retain(|path, _| stays(path));
    if job.mode == Mode::Overwrite && found.arrays.is_empty() {
        return Ok(Existing::Found(found));
    }
    let complete = found.arrays.len() == job.arrays.len() && found.groups.len() == job.groups.len();
    if !complete && found.arrays.is_empty() {
        return Ok(Existing::Found(found));
    }
    match find_published(repository, &job.branch, fingerprint).await? {
        Some(run) if complete => {
            complete::check_published(repository, &run, job).await?;
            let report = outcome::already_published(&run, false, job, target.url(), containers);
            Ok(Existing::Done(Box::new(report)))
        }
        _ if found.arrays.is_empty() => {
            complete::check_nothing(job)?;
            let report =
                outcome::nothing_to_create(tip, job, target.url(), containers, found.warnings);
            Ok(Existing::Done(Box::new(report)))
        }
        _ => Err(nodes::already_there(&found.arrays, target.url())),
    }
}

/// The report for a job that another run has published meanwhile, if all of it is still there.
///
/// Appends and updates are none: what they are to do now has been planned on what is there now.
pub(super) async fn already_there(
    target: &Target,
    job: &IngestJob,
    tip: &SnapshotId,
    run: &PublishedRun,
    containers: &[SourceContainer],
    warnings: &[String],
) -> Result<Option<IngestReport>> {
    if job.mode.keeps_arrays() {
        return Ok(None);
    }
    let repository = target.repository();
    let found = nodes::find(repository, tip, &job.groups, &job.specs(), &[]).await?;
    if found.arrays.len() < job.arrays.len() || found.groups.len() < job.groups.len() {
        return Ok(None);
    }
    complete::check_published(repository, run, job).await?;
    let mut report = outcome::already_published(run, true, job, target.url(), containers);
    report.warnings.extend_from_slice(warnings);
    Ok(Some(report))
}

/// Whether a path lies below one that is removed.
fn removed(replaced: &[String], path: &str) -> bool {
    replaced.iter().any(|root| is_below(root, path))
}

/// What the first commit is made of.
pub(super) struct Prepared<'a> {
    pub(super) job: &'a IngestJob,
    pub(super) options: RunOptions,
    pub(super) fingerprint: Fingerprint,
    /// The snapshot to build on.
    pub(super) tip: SnapshotId,
    /// The same, if the branch exists.
    pub(super) base: Option<String>,
    pub(super) batches: Batches,
    /// Chunks along each dimension of an array's manifests, by position.
    pub(super) splits: &'a [Vec<u32>],
}

/// Commits metadata and copied chunks, and with them the resolved plan.
pub(super) async fn begin<'a>(
    repository: &'a Repository,
    prepared: Prepared<'_>,
    existing: &nodes::Found,
    tally: &mut Tally<'_>,
) -> Result<Staging<'a>> {
    let Prepared { job, options, fingerprint, tip, base, batches, splits } = prepared;
    let batches_total = batches.count(&layouts(&job.arrays));
    let mut record = RunRecord::new(
        job.branch.clone(),
        base.clone(),
        options,
        job.arrays.iter().map(|array| resume::recorded(&array.spec)).collect(),
        created(job, existing),
    );
    record.replaced.clone_from(&job.replaced);
    record.batches = batches;
    record.batches_total = batches_total;
    let fingerprint = fingerprint.as_str().to_owned();
    let identity = RunIdentity {
        run_id: new_run_id(),
        fingerprint,
        source: job.source_urls(),
        listing: job.listing.clone(),
    };
    let mut completed = Completed { all: batches_total == 0, ..Completed::default() };
    let message = job.message.clone();
    if job.mode.keeps_arrays() && !job.changes_nodes() {
        let mut draft = Draft::of(repository, &tip).await?;
        completed.arrays = copied::change(&mut draft, repository, job, splits, tally).await?;
        let publish = job.finish.publish;
        return Ok(Staging::draft(
            repository, draft, identity, record, message, completed, publish,
        ));
    }
    let on = if base.is_some() { job.branch.as_str() } else { "main" };
    let mut session =
        repository.writable_session(on).await.doing(|| format!("open a session on branch {on}"))?;
    if *session.snapshot_id() != tip {
        return Err(Error::new(ErrorKind::Conflict, format!("branch {on} has just moved"))
            .with_hint("run the same command again"));
    }
    nodes::remove(&mut session, &job.replaced, &job.groups).await?;
    let store = Store::from_session(Arc::new(RwLock::new(session))).await;
    nodes::create(&store, &job.groups, &job.specs(), existing).await?;
    completed.arrays = copied::copy(&store, job, tally).await?;
    Staging::begin(repository, &store, identity, record, message, completed).await
}

/// Paths of the groups that are created, parents before children.
fn created(job: &IngestJob, existing: &nodes::Found) -> Vec<String> {
    let paths = job.groups.iter().map(|group| &group.path);
    paths.filter(|path| !existing.groups.contains(*path)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_below_a_removed_node_is_removed() {
        let root = ["/".to_owned()];
        assert!(removed(&root, "/a") && removed(&root, "/a/b"));
        assert!(!removed(&root, "/"));
        let group = ["/a".to_owned()];
        assert!(removed(&group, "/a/b"));
        assert!(!removed(&group, "/a") && !removed(&group, "/ab") && !removed(&group, "/"));
    }
}
