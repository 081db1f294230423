//! Whether as many chunks were found as the caller expects: before anything is published, or, when
//! an earlier run has published the same ingest, by what that has published.

use icechunk::Repository;
use icechunk::format::snapshot::{NodeData, Snapshot};

use super::tally::Tally;
use super::{Finish, IngestJob, JobArray};
use crate::commit::{PublishedRun, missing_examples};
use crate::error::{TargetContext as _, target_error};
use crate::format::node_path;
use crate::zarr::metadata::ArraySpec;
use crate::{Error, ErrorKind, Result};

/// Arrays named in a message.
const EXAMPLES: usize = 3;

/// How much of one array there is.
struct Found<'a> {
    array: &'a JobArray,
    missing: u64,
    /// Coordinates of a chunk that is missing, where one is known.
    example: Option<&'a [u32]>,
}

/// Compares what was found with what was expected.
pub(super) fn check(job: &IngestJob, tally: &Tally<'_>) -> Result<()> {
    let known = job.arrays.iter().zip(&tally.reports).zip(&tally.missing);
    let found: Vec<_> = known
        .map(|((array, report), missing)| Found {
            array,
            missing: report.missing,
            example: missing.as_deref(),
        })
        .collect();
    let references = tally.reports.iter().map(|report| report.references).sum();
    compare(job.finish, &found, references).map_err(|error| {
        error.with_hint(
            "nothing was published: complete the source and ingest again with --restart, or \
             publish what is there by running the command without this expectation",
        )
    })
}

/// Compares what an earlier run of the same ingest has published with what is expected now.
pub(super) async fn check_published(
    repository: &Repository,
    run: &PublishedRun,
    job: &IngestJob,
) -> Result<()> {
    let finish = job.finish;
    if !finish.expect_complete && finish.expect_count.is_none() {
        return Ok(());
    }
    let id = &run.snapshot_id;
    let snapshot = repository.asset_manager().fetch_snapshot(id).await;
    let snapshot = snapshot.doing(|| format!("read snapshot {id}"))?;
    // Known as long as the commits have not expired; manifests count for themselves.
    let examples = missing_examples(repository, &job.branch, &run.run_id).await?;
    let (mut found, mut references) = (Vec::new(), 0);
    for (position, array) in job.arrays.iter().enumerate() {
        let chunks = chunks_of(&snapshot, &array.spec)?;
        if !array.spec.copied {
            references += chunks;
        }
        let missing = array.spec.layout.chunks().saturating_sub(chunks);
        found.push(Found { array, missing, example: examples.get(&position).map(Vec::as_slice) });
    }
    compare(finish, &found, references).map_err(|error| {
        error.with_hint(format!(
            "this ingest was published before, as snapshot {id}, and stays: complete the source \
             and ingest it again, or run the command without this expectation"
        ))
    })
}

/// Compares the figures of a job that has nothing but groups.
pub(super) fn check_nothing(job: &IngestJob) -> Result<()> {
    compare(job.finish, &[], 0)
}

fn compare(finish: Finish, found: &[Found<'_>], references: u64) -> Result<()> {
    let incomplete = |message: String| Err(Error::new(ErrorKind::Incomplete, message));
    let lacking: Vec<_> = found.iter().filter(|one| one.missing > 0).collect();
    if finish.expect_complete && !lacking.is_empty() {
        let missing: u64 = lacking.iter().map(|one| one.missing).sum();
        let examples: Vec<_> = lacking
            .iter()
            .take(EXAMPLES)
            .map(|Found { array, missing, example }| match example {
                Some(coords) => {
                    format!("{} of array {}", array.source_key(coords), array.spec.path)
                }
                None => format!("{missing} chunks of array {}", array.spec.path),
            })
            .collect();
        return incomplete(format!(
            "{missing} chunks are missing in {} of {} arrays, for example {}",
            lacking.len(),
            found.len(),
            examples.join(", ")
        ));
    }
    match finish.expect_count {
        Some(expected) if expected != references => {
            incomplete(format!("{references} references were found, not {expected}"))
        }
        _ => Ok(()),
    }
}

/// How many chunks of an array a snapshot has, by its manifests.
fn chunks_of(snapshot: &Snapshot, array: &ArraySpec) -> Result<u64> {
    let reading = || format!("read array {} in snapshot {}", array.path, snapshot.id());
    let node = snapshot.get_node(&node_path(&array.path)?);
    let node = node.map_err(|error| target_error(&reading(), &error.kind))?;
    let NodeData::Array { manifests, .. } = &node.node_data else { return Ok(0) };
    let mut chunks = 0;
    for manifest in manifests {
        let file = snapshot.manifest_info(&manifest.object_id);
        let file = file.map_err(|error| target_error(&reading(), &error.kind))?;
        chunks += file.map_or(0, |file| u64::from(file.num_chunk_refs));
    }
    Ok(chunks)
}
