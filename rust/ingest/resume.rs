//! Whether a run that was stopped may go on with the options and the source of now.
//!
//! A run keeps the shapes and batches that it began with. A source that has grown is resumed at
//! the stored shape; anything else that has changed would mix two sources in one array.

use std::collections::{BTreeMap, BTreeSet};

use icechunk::Repository;
use serde_json::{Map, Value};

use super::{IngestJob, nodes};
use crate::commit::{RecordedArray, RunOptions, StagedRun, lost_runs, remove};
use crate::metadata::{ArrayLayout, ArrayNode};
use crate::{Error, ErrorKind, Result};

/// Attributes that change what the stored numbers mean.
const MEANING: [&str; 7] =
    ["scale_factor", "add_offset", "_FillValue", "missing_value", "_Unsigned", "units", "calendar"];

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
        keys: format!("{:?}", array.layout.encoding()),
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
    fingerprint: &str,
) -> Vec<StagedRun> {
    let paths: BTreeSet<_> = arrays.iter().map(|array| array.path.as_str()).collect();
    runs.retain(|run| {
        run.record.branch == branch
            && (run.identity.fingerprint == fingerprint
                || run.record.arrays.iter().any(|array| paths.contains(array.path.as_str())))
    });
    let rank = |run: &StagedRun| {
        (run.identity.fingerprint == fingerprint, run.is_complete(), run.batches_done())
    };
    runs.sort_by_key(|run| std::cmp::Reverse(rank(run)));
    runs
}

/// Discards the runs of the same plan that have lost it, and with `restart` those of the same
/// source; gives back what is to be said of it.
pub(super) async fn discard_lost(
    repository: &Repository,
    job: &IngestJob,
    fingerprint: &str,
) -> Result<Vec<String>> {
    let mut warnings = Vec::new();
    for run in lost_runs(repository).await? {
        let identity = &run.identity;
        if identity.fingerprint == fingerprint || (job.restart && identity.source == job.source_url)
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
        match compare(&document, &array.document, &mut changes) {
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

fn other_options(then: &RunOptions, now: &RunOptions) -> Option<String> {
    let RunOptions { source, mode, empty_chunks, locations } = then;
    [
        ("the source", source, &now.source),
        ("--mode", mode, &now.mode),
        ("--empty-chunks", empty_chunks, &now.empty_chunks),
        ("--locations", locations, &now.locations),
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
    (then.keys != now.keys).then(|| format!("array {path} has other chunk keys now"))
}

/// Compares two metadata documents of one array; harmless differences are added to `changes`.
fn compare(then: &[u8], now: &[u8], changes: &mut Vec<String>) -> Result<(), String> {
    if then == now {
        return Ok(());
    }
    let parse = |document: &[u8]| {
        serde_json::from_slice::<Map<String, Value>>(document)
            .map_err(|error| format!("its metadata cannot be read ({error})"))
    };
    let (then, now) = (parse(then)?, parse(now)?);
    let fields: BTreeSet<&String> = then.keys().chain(now.keys()).collect();
    for field in fields {
        let (was, is) = (then.get(field), now.get(field));
        match field.as_str() {
            _ if was == is => {}
            "shape" => changes.push(grown(was, is)?),
            "attributes" => attributes(was, is, changes)?,
            _ if was.is_none_or(Value::is_null) && is.is_none_or(Value::is_null) => {}
            field => {
                return Err(format!("its {field} was {} and is {} now", shown(was), shown(is)));
            }
        }
    }
    Ok(())
}

fn grown(was: Option<&Value>, is: Option<&Value>) -> Result<String, String> {
    let lengths = |shape: Option<&Value>| {
        shape
            .and_then(Value::as_array)
            .map(|shape| shape.iter().filter_map(Value::as_u64).collect::<Vec<_>>())
            .unwrap_or_default()
    };
    let (then, now) = (lengths(was), lengths(is));
    if then.len() == now.len() && then.iter().zip(&now).all(|(then, now)| now >= then) {
        return Ok(format!(
            "it has grown from {then:?} to {now:?} since this ingest began, which goes on with the \
             former; append the rest afterwards"
        ));
    }
    Err(format!("its shape was {then:?} and is {now:?} now"))
}

fn attributes(
    was: Option<&Value>,
    is: Option<&Value>,
    changes: &mut Vec<String>,
) -> Result<(), String> {
    let value = |attributes: Option<&Value>, name: &str| attributes?.get(name).cloned();
    for name in MEANING {
        let (then, now) = (value(was, name), value(is, name));
        if then != now {
            return Err(format!(
                "its attribute {name} was {} and is {} now",
                shown(then.as_ref()),
                shown(now.as_ref())
            ));
        }
    }
    changes.push("its attributes have changed; those of the beginning are kept".to_owned());
    Ok(())
}

fn shown(value: Option<&Value>) -> String {
    value.map_or_else(|| "absent".to_owned(), Value::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compared(then: &str, now: &str) -> Result<Vec<String>, String> {
        let mut changes = Vec::new();
        compare(then.as_bytes(), now.as_bytes(), &mut changes).map(|()| changes)
    }

    #[test]
    fn growth_and_titles_are_harmless() {
        assert_eq!(compared(r#"{"a": 1}"#, r#"{ "a": 1, "b": null }"#).unwrap(), [""; 0]);
        let changes = compared(r#"{"shape": [3, 4]}"#, r#"{"shape": [5, 4]}"#).unwrap();
        assert!(changes[0].contains("from [3, 4] to [5, 4]"), "{changes:?}");
        let titles = [r#"{"attributes": {"title": "a"}}"#, r#"{"attributes": {"title": "b"}}"#];
        assert_eq!(compared(titles[0], titles[1]).unwrap().len(), 1);
    }

    #[test]
    fn what_changes_the_numbers_is_not() {
        for (then, now, said) in [
            (r#"{"shape": [3]}"#, r#"{"shape": [2]}"#, "shape was [3] and is [2]"),
            (r#"{"shape": [3]}"#, r#"{"shape": [3, 1]}"#, "shape was"),
            (r#"{"data_type": "int8"}"#, r#"{"data_type": "int16"}"#, "data_type was \"int8\""),
            (r#"{"fill_value": 0}"#, r#"{"fill_value": 1}"#, "fill_value was 0 and is 1"),
            (r#"{"attributes": {}}"#, r#"{"attributes": {"units": "K"}}"#, "units was absent"),
        ] {
            let error = compared(then, now).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }
}
