//! What a worker does: one unit of a plan, listed and written, and its result published under a
//! key of the unit. Branches and commits are the coordinator's.

use icechunk::format::SnapshotId;

use super::super::prepare::{self, Survey};
use super::super::schedule::{self, Schedule};
use super::super::work::Work;
use super::super::worker::Worker;
use super::super::{JobSource, layouts};
use super::documents::{Unit, UnitResult, WorkPlan};
use super::results::{Results, delete_manifests};
use crate::commit::{snapshot_id, staging_branch};
use crate::error::TargetContext as _;
use crate::list::limit::ConcurrencyLimit;
use crate::plan::{Batches, LimitOptions, PlanLimits};
use crate::target::{Target, TargetLocation};
use crate::{Error, ErrorKind, Result};

/// Lists the chunks of a unit, writes their manifests and publishes the result, which is returned
/// as JSON; where a result is there already, that one. Both documents are JSON.
///
/// # Errors
///
/// [`ErrorKind::Mismatch`] for documents of another version; [`ErrorKind::TargetNotFound`] where the
/// repository is not within this machine's reach; otherwise as an ingest.
pub async fn carry_out(
    plan: &str,
    unit: &str,
    sources: &[JobSource],
    location: &TargetLocation,
    limits: LimitOptions,
) -> Result<String> {
    let (plan, unit) = (WorkPlan::parse(plan)?, Unit::parse(unit)?);
    let (target, _) = Target::open_to_read(location).await.map_err(|error| {
        if error.kind() != ErrorKind::TargetNotFound {
            return error;
        }
        Error::new(
            ErrorKind::Target,
            format!("a worker cannot reach the target {}", location.url()),
        )
        .with_hint("a folder must be shared by all machines; or use a bucket")
    })?;
    let repository = target.repository();
    let branches = repository.list_branches().await.doing(|| "read the branches".to_owned())?;
    if !branches.contains(&staging_branch(&plan.run_id)) {
        return Err(Error::new(
            ErrorKind::Conflict,
            format!(
                "the run {} is over: it was published or discarded (as {} shows it from here)",
                plan.run_id,
                location.url()
            ),
        )
        .with_hint(
            "see refreeze status; begin another with refreeze plan --output. If it is not over, \
             this machine has another folder of that name: workers must share the target",
        ));
    }
    let results = Results::of(repository, &plan.run_id);
    let digest = unit.digest();
    if let Some(there) = results.get(&digest).await? {
        return Ok(there);
    }
    let parent = snapshot_id(&unit.parent)?;
    let mut result = filled(&plan, unit, sources, &target, &parent, limits).await?;
    if let Some(chunks) = result.take_chunks()? {
        result.chunks = Some(results.put_beside(&digest, chunks).await?);
    }
    let text = serde_json::to_string(&result).map_err(|error| {
        Error::new(ErrorKind::Target, format!("cannot write a result: {error}"))
    })?;
    match results.create(&digest, &text).await? {
        Some(there) => {
            delete_manifests(repository, result.manifests()).await?;
            if let Some(name) = result.chunks {
                results.remove_beside(name).await?;
            }
            Ok(there)
        }
        None => Ok(text),
    }
}

async fn filled(
    plan: &WorkPlan,
    unit: Unit,
    sources: &[JobSource],
    target: &Target,
    parent: &SnapshotId,
    limits: LimitOptions,
) -> Result<UnitResult> {
    let arrays = plan.job_arrays()?;
    let containers = prepare::containers_of(target.stored_config().await?, sources)?;
    let limits = PlanLimits::from(LimitOptions {
        references_per_manifest: Some(plan.references_per_manifest),
        references_per_commit: Some(plan.references_per_commit),
        ..limits
    });
    let splits: Vec<_> = plan.arrays.iter().map(|array| array.split.clone()).collect();
    let work = Work {
        sources,
        containers: &containers,
        arrays: &arrays,
        splits: &splits,
        empty_chunks: plan.empty_chunks(),
        checksum: plan.checksum(),
        locations: plan.locations(),
        listed_at: None,
        replaces: plan.replaces,
        limits,
        in_flight: ConcurrencyLimit::within(limits.in_flight, limits.apart),
    };
    let (batches, layouts) = (Batches::default(), layouts(&arrays));
    let pieces: Vec<_> = arrays.iter().map(|array| array.pieces.as_slice()).collect();
    let all = schedule::Workload {
        batches: &batches,
        layouts: &layouts,
        pieces: &pieces,
        splits: &splits,
    };
    let expectations = Survey::dense(&arrays).expectations(&arrays);
    let parts = unit.parts().into_iter();
    let mut schedule = Schedule::new(all, limits, expectations, 0, parts);
    let mut worker = Worker::new(&work, target.repository(), parent);
    // One commit's worth: what a denser unit has left is for whoever comes next.
    let staged = worker.fill(parent, &mut schedule, &mut |_| {}).await?;
    Ok(UnitResult::new(unit, staged.unwrap_or_default(), schedule.rest()))
}
