//! Whether a stopped run may be resumed with the current options and source.
//!
//! A run keeps the shapes and batches that it began with. A source that has grown is resumed at
//! the stored shape; anything else that has changed would mix two sources in one array.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{TimeDelta, Utc};
use icechunk::Repository;

use super::finished::unpublished_runs;
use super::{IngestJob, JobArray, Mode, nodes};
use crate::commit::{
    PublishedRun, RecordedArray, RunOptions, StagedRun, is_overtaken, lost_runs, published_instead,
    remove,
};
use crate::plan::{Fingerprint, earlier_keys};
use crate::zarr::compatibility::{Shapes, compare};
use crate::zarr::metadata::{ArrayLayout, ArraySpec};
use crate::{Error, ErrorKind, Result};

/// A run that committed so recently may be somebody's present work.
const AT_WORK: TimeDelta = TimeDelta::minutes(10);

/// The arrays of a run, as it began with them, in its order.
pub(super) struct Resumed {
    pub(super) arrays: Vec<ArraySpec>,
    pub(super) warnings: Vec<String>,
}

/// What the record says of an array.
pub(super) fn recorded(array: &ArraySpec) -> RecordedArray {
    RecordedArray {
        path: array.path.clone(),
        source_path: array.source_path.clone(),
        shape: array.layout.shape().to_vec(),
        keys: array.layout.encoding().name().to_owned(),
        copied: array.copied,
    }
}

/// Looks for unpublished runs that this job may resume, or that stand in its way.
///
/// Removes those that are published, or lost; with `restart` all of them.
pub(super) async fn look(
    repository: &Repository,
    job: &IngestJob,
    fingerprint: &Fingerprint,
) -> Result<Left> {
    let runs = unpublished_runs(repository).await?;
    let mut related = related(runs, &job.branch, &job.specs(), fingerprint);
    if job.restart {
        for run in related.drain(..) {
            remove(repository, &run.identity.branch()).await?;
        }
    }
    let lost = discard_lost(repository, job, fingerprint).await?;
    let mut left = without_overtaken(repository, related, fingerprint, job).await?;
    left.warnings.splice(0..0, lost);
    Ok(left)
}

/// The unpublished runs that work on some of `arrays` for publication on `branch`, and those of the
/// same plan, which may have groups alone: first one of the same plan, then the one that got
/// furthest.
fn related(
    mut runs: Vec<StagedRun>,
    branch: &str,
    arrays: &[ArraySpec],
    fingerprint: &Fingerprint,
) -> Vec<StagedRun> {
    let paths: BTreeSet<_> = arrays.iter().map(|array| array.path.as_str()).collect();
    runs.retain(|run| {
        run.record.branch == branch
            && (fingerprint.is(&run.identity.fingerprint)
                || run.record.arrays.iter().any(|array| paths.contains(array.path.as_str())))
    });
    let rank = |run: &StagedRun| {
        (fingerprint.is(&run.identity.fingerprint), run.is_complete(), run.batches_done())
    };
    runs.sort_by_key(|run| std::cmp::Reverse(rank(run)));
    runs
}

/// The runs among unpublished ones that may be resumed, or stand in the way, and what is to be
/// said of the others.
#[derive(Default)]
pub(super) struct Left {
    pub(super) runs: Vec<StagedRun>,
    /// The run that has published the plan of one of the others, and of this job.
    pub(super) published: Option<PublishedRun>,
    pub(super) warnings: Vec<String>,
}

/// Sorts out runs that other processes have overtaken.
///
/// Those whose plan another run has published are removed. Of those that change arrays, so are
/// what this job is to do again, and others are in nobody's way, when they can be published no more.
async fn without_overtaken(
    repository: &Repository,
    runs: Vec<StagedRun>,
    fingerprint: &Fingerprint,
    job: &IngestJob,
) -> Result<Left> {
    let mut left = Left::default();
    for run in runs {
        let (id, branch) = (&run.identity.run_id, &run.record.branch);
        if let Some(rival) = published_instead(repository, &run.identity, &run.record).await? {
            remove(repository, &run.identity.branch()).await?;
            left.warnings.push(format!(
                "the ingest {id}, which was not published, was removed: the run {} has published \
                 the same on branch {branch}",
                rival.run_id
            ));
            if fingerprint.is(&run.identity.fingerprint) {
                left.published.get_or_insert(rival);
            }
        } else if !job.mode.keeps_arrays() || !is_overtaken(repository, &run).await? {
            left.runs.push(run);
        } else if run.record.options == job.run_options() {
            remove(repository, &run.identity.branch()).await?;
            left.warnings.push(format!(
                "the ingest {id}, which was not published, was done again: another run has changed \
                 its arrays on branch {branch} since it began"
            ));
        } else {
            left.warnings.push(format!(
                "the ingest {id} ({}) can no longer be published: another run has changed its \
                 arrays on branch {branch} since it began; --restart discards it",
                run.record.options.mode
            ));
        }
    }
    Ok(left)
}

/// Refuses to judge a run by its options that another process may be at work on: an append and an
/// update at the same time are no mistake of either.
///
/// Where a `lock` is held, nobody else is at work. Elsewhere the age of the last commit tells.
pub(super) fn check_not_at_work(run: &StagedRun, mode: Mode, lock: bool) -> Result<()> {
    let theirs = run.record.options.mode.as_str();
    let modes = [Mode::Append.name(), Mode::Update.name(), Mode::Sync.name()];
    let other = theirs != mode.name() && modes.contains(&theirs) && modes.contains(&mode.name());
    let Some(age) = run.tip().map(|tip| Utc::now() - tip.flushed_at) else { return Ok(()) };
    if lock || !other || age > AT_WORK {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Conflict,
        format!(
            "another process is at work on the same arrays: the run {} ({theirs}) committed {} \
             seconds ago",
            run.identity.run_id,
            age.num_seconds().max(0)
        ),
    )
    .with_hint(
        "run the same command again when that has finished; --restart discards it, if it was \
         stopped",
    ))
}

/// Discards the runs of the same plan that have lost it, and with `restart` those of the same
/// source; gives back what is to be said of it.
async fn discard_lost(
    repository: &Repository,
    job: &IngestJob,
    fingerprint: &Fingerprint,
) -> Result<Vec<String>> {
    let mut warnings = Vec::new();
    for run in lost_runs(repository).await? {
        let identity = &run.identity;
        if fingerprint.is(&identity.fingerprint)
            || (job.restart && identity.source == job.source_urls())
        {
            remove(repository, &run.identity.branch()).await?;
            warnings.push(format!(
                "the unfinished ingest {} was discarded: its first commit, which holds its plan, \
                 has expired",
                identity.run_id
            ));
        }
    }
    Ok(warnings)
}

/// Compares a run with what is asked for now.
pub(super) async fn check(
    repository: &Repository,
    run: &StagedRun,
    options: &RunOptions,
    arrays: &[ArraySpec],
) -> Result<Resumed> {
    let differs = |what: String| {
        Err(Error::new(
            ErrorKind::Mismatch,
            format!("the unfinished ingest {} cannot be resumed: {what}", run.identity.run_id),
        )
        .with_hint(
            "give the options and the source that it began with, or discard it with --restart",
        ))
    };
    if let Some(what) = other_options(&run.record.options, options) {
        return differs(what);
    }
    let mut now: BTreeMap<&str, &ArraySpec> =
        arrays.iter().map(|array| (array.path.as_str(), array)).collect();
    let mut resumed = Resumed { arrays: Vec::new(), warnings: Vec::new() };
    let tip = run.tip().map(|tip| tip.id.clone());
    let documents = nodes::documents(repository, tip.as_ref(), &run.record.arrays).await?;
    for (then, document) in run.record.arrays.iter().zip(documents) {
        let Some(array) = now.remove(then.path.as_str()) else {
            return differs(format!("array {} was part of it and is not selected now", then.path));
        };
        if let Some(what) = other_array(then, array) {
            return differs(what);
        }
        let mut changes = Vec::new();
        match compare(&document, &array.document, Shapes::Grown, &mut changes) {
            Ok(()) => {}
            Err(what) => return differs(format!("array {}: {what}", then.path)),
        }
        let warnings = changes.into_iter().map(|change| format!("array {}: {change}", then.path));
        resumed.warnings.extend(warnings);
        let layout = &array.layout;
        resumed.arrays.push(ArraySpec {
            document,
            layout: ArrayLayout::new(
                then.shape.clone(),
                layout.chunk_shape().to_vec(),
                layout.encoding(),
            )?,
            ..array.clone()
        });
    }
    match now.keys().next() {
        Some(path) => differs(format!("array {path} was not part of it")),
        None => Ok(resumed),
    }
}

/// Arrays as a run began with them: nodes are put in its order, and what has been added to the
/// source since is left out.
pub(super) fn reshaped(mut arrays: Vec<JobArray>, specs: Vec<ArraySpec>) -> Vec<JobArray> {
    let mut reshaped = Vec::with_capacity(specs.len());
    for spec in specs {
        if let Some(at) = arrays.iter().position(|array| array.spec.path == spec.path) {
            let mut array = arrays.swap_remove(at);
            array.reshape(spec);
            reshaped.push(array);
        }
    }
    reshaped
}

fn other_options(then: &RunOptions, now: &RunOptions) -> Option<String> {
    let RunOptions { source, mode, empty_chunks, locations, checksum, plan } = then;
    [
        ("the source", source, &now.source),
        ("--mode", mode, &now.mode),
        ("--empty-chunks", empty_chunks, &now.empty_chunks),
        ("--locations", locations, &now.locations),
        ("--checksum", checksum, &now.checksum),
        ("the region or dimension", plan, &now.plan),
    ]
    .into_iter()
    .find(|(_, then, now)| then != now)
    .map(|(what, then, now)| format!("{what} was {then} and is {now} now"))
}

fn other_array(then: &RecordedArray, array: &ArraySpec) -> Option<String> {
    let now = recorded(array);
    let path = &then.path;
    if then.copied != now.copied {
        let (was, is) =
            if then.copied { ("copied", "referenced") } else { ("referenced", "copied") };
        return Some(format!("array {path} was {was} and is to be {is} now (--loadable-variable)"));
    }
    if then.source_path != now.source_path {
        return Some(format!(
            "array {path} was at {} in the source and is at {} now",
            then.source_path, now.source_path
        ));
    }
    let keys = array.layout.encoding();
    // An earlier version wrote another text for the same keys.
    let same = then.keys == now.keys || then.keys == earlier_keys(keys);
    (!same).then(|| format!("array {path} has other chunk keys now"))
}
