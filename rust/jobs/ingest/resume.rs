//! Whether a run that was stopped may go on with the options and the source of now.
//!
//! A run keeps the shapes and batches that it began with. A source that has grown is resumed at
//! the stored shape; anything else that has changed would mix two sources in one array.

use std::collections::{BTreeMap, BTreeSet};

use icechunk::Repository;

use super::{IngestJob, JobArray, nodes};
use crate::commit::{RecordedArray, RunOptions, StagedRun, lost_runs, remove};
use crate::plan::{Fingerprint, earlier_keys};
use crate::zarr::compatibility::{Shapes, compare};
use crate::zarr::metadata::{ArrayLayout, ArrayNode};
use crate::{Error, ErrorKind, Result};

/// The arrays of a run, as it began with them, in its order.
pub(super) struct Resumed {
    pub(super) arrays: Vec<ArrayNode>,
    pub(super) warnings: Vec<String>,
}

/// What the record says of an array.
pub(super) fn recorded(array: &ArrayNode) -> RecordedArray {
    RecordedArray {
        path: array.path.clone(),
        source_path: array.source_path.clone(),
        shape: array.layout.shape().to_vec(),
        keys: array.layout.encoding().name().to_owned(),
        loaded: array.loaded,
    }
}

/// The unpublished runs that work on some of `arrays` for publication on `branch`, and those of the
/// same plan, which may have groups alone: first one of the same plan, then the one that got
/// furthest.
pub(super) fn related(
    mut runs: Vec<StagedRun>,
    branch: &str,
    arrays: &[ArrayNode],
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

/// Discards the runs of the same plan that have lost it, and with `restart` those of the same
/// source; gives back what is to be said of it.
pub(super) async fn discard_lost(
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
            remove(repository, &run.branch()).await?;
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
    arrays: &[ArrayNode],
) -> Result<Resumed> {
    let differs = |what: String| {
        Err(Error::new(
            ErrorKind::Mismatch,
            format!("the unfinished ingest {} cannot go on: {what}", run.identity.run_id),
        )
        .with_hint(
            "give the options and the source that it began with, or discard it with --restart",
        ))
    };
    if let Some(what) = other_options(&run.record.options, options) {
        return differs(what);
    }
    let mut now: BTreeMap<&str, &ArrayNode> =
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
        resumed.arrays.push(ArrayNode {
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
pub(super) fn reshaped(mut arrays: Vec<JobArray>, nodes: Vec<ArrayNode>) -> Vec<JobArray> {
    let mut reshaped = Vec::with_capacity(nodes.len());
    for node in nodes {
        if let Some(at) = arrays.iter().position(|array| array.node.path == node.path) {
            let mut array = arrays.swap_remove(at);
            array.reshape(node);
            reshaped.push(array);
        }
    }
    reshaped
}

fn other_options(then: &RunOptions, now: &RunOptions) -> Option<String> {
    let RunOptions { source, mode, empty_chunks, locations, plan } = then;
    [
        ("the source", source, &now.source),
        ("--mode", mode, &now.mode),
        ("--empty-chunks", empty_chunks, &now.empty_chunks),
        ("--locations", locations, &now.locations),
        ("the region or dimension", plan, &now.plan),
    ]
    .into_iter()
    .find(|(_, then, now)| then != now)
    .map(|(what, then, now)| format!("{what} was {then} and is {now} now"))
}

fn other_array(then: &RecordedArray, array: &ArrayNode) -> Option<String> {
    let now = recorded(array);
    let path = &then.path;
    if then.loaded != now.loaded {
        let (was, is) =
            if then.loaded { ("copied", "referenced") } else { ("referenced", "copied") };
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
