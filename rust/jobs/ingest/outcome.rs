//! What is reported of an ingest that has come to an end, whichever way it did.

use icechunk::format::SnapshotId;

use super::report::{ArrayReport, IngestReport};
use super::tally::Tally;
use super::{IngestJob, Published};
use crate::commit::{PublishedRun, Staging};
use crate::target::container::SourceContainer;

/// The report of an ingest that has come to its end.
pub(super) fn report(
    job: &IngestJob,
    target: &str,
    containers: &[SourceContainer],
    staging: &Staging<'_>,
    tally: Tally<'_>,
    published: &Published,
) -> IngestReport {
    let (manifests_written, manifest_bytes) = staging.manifests();
    let mut tally = tally.finish(&job.arrays);
    let base = staging.record().base.clone();
    if *published == Published::Nothing {
        tally.warn("the target already equals the source; nothing was written".to_owned());
    }
    let nothing = *published == Published::Nothing;
    IngestReport {
        // A run that has changed nothing has left nothing behind.
        run_id: if nothing { String::new() } else { staging.run_id().to_owned() },
        already_published: nothing,
        snapshot_id: base.clone().filter(|_| nothing).unwrap_or(staging.tip().to_string()),
        published: *published == Published::Now,
        previous_snapshot_id: base,
        resumed_batches: staging.resumed_batches(),
        commits: if nothing { 0 } else { staging.commits() },
        manifests_written,
        manifest_bytes,
        list_requests: tally.list_requests,
        keys_listed: tally.keys_listed,
        references_written: tally.references_written(),
        added: tally.changes.added,
        changed: tally.changes.changed,
        removed: tally.changes.removed,
        bytes_referenced: tally.bytes_referenced,
        arrays: tally.reports,
        warnings: tally.warnings,
        ..blank_report(job, target, containers)
    }
}

/// The report of an ingest that another run has published at the same time.
pub(super) fn published_instead(
    run: &PublishedRun,
    job: &IngestJob,
    target: &str,
    containers: &[SourceContainer],
    tally: Tally<'_>,
) -> IngestReport {
    let tally = tally.finish(&job.arrays);
    let mut report = already_published(run, true, job, target, containers);
    report.warnings.extend(tally.warnings);
    IngestReport { list_requests: tally.list_requests, keys_listed: tally.keys_listed, ..report }
}

/// The report of an ingest that an earlier run has published; whether it was `another` than this
/// command's own is known only when that has left one.
pub(super) fn already_published(
    run: &PublishedRun,
    another: bool,
    job: &IngestJob,
    target: &str,
    containers: &[SourceContainer],
) -> IngestReport {
    let by = if another { format!(", by another run ({})", run.run_id) } else { String::new() };
    IngestReport {
        run_id: run.run_id.clone(),
        snapshot_id: run.snapshot_id.to_string(),
        published: true,
        already_published: true,
        arrays: job.arrays.iter().map(ArrayReport::unread).collect(),
        warnings: vec![format!(
            "this ingest was published before{by}, as snapshot {}; nothing was written",
            run.snapshot_id
        )],
        ..blank_report(job, target, containers)
    }
}

/// The report of groups without arrays that are all in the target.
pub(super) fn nothing_to_create(
    tip: &SnapshotId,
    job: &IngestJob,
    target: &str,
    containers: &[SourceContainer],
    mut warnings: Vec<String>,
) -> IngestReport {
    warnings.push(format!(
        "{} has no arrays to ingest, and its groups are in the target; nothing was written",
        job.source_urls()
    ));
    IngestReport {
        snapshot_id: tip.to_string(),
        published: true,
        already_published: true,
        warnings,
        ..blank_report(job, target, containers)
    }
}

/// What a report says of the job itself.
fn blank_report(job: &IngestJob, target: &str, containers: &[SourceContainer]) -> IngestReport {
    let prefixes = containers.iter().map(|container| container.container().url_prefix());
    let mut containers: Vec<String> = prefixes.map(str::to_owned).collect();
    containers.dedup();
    containers.retain(|_| job.has_references());
    IngestReport {
        source: job.source_urls(),
        target: target.to_owned(),
        branch: job.branch.clone(),
        container: containers.first().cloned().unwrap_or_default(),
        containers,
        ..IngestReport::default()
    }
}
