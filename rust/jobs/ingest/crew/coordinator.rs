//! Hands out units, takes their results and commits them: nothing is listed here.
//!
//! A unit whose result was written against a state that another has replaced since is done again.
//! What is in flight counts as rest in every commit, so that any order resumes.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use icechunk::Repository;
use icechunk::format::MANIFESTS_FILE_PATH;

use super::super::committer::Committer;
use super::super::gatherer::Event;
use super::super::schedule::Schedule;
use super::super::worker::Staged;
use super::documents::{Unit, UnitResult, WorkPlan, put_chunks};
use super::results::{Results, are_there, delete_manifests};
use super::{UNITS_EACH, Workers};
use crate::commit::manifest_ids;
use crate::grid::chunk_box::ChunkBox;
use crate::plan::Part;
use crate::{Error, ErrorKind, Result};

/// Units that are handed out at a time, for each worker.
const IN_FLIGHT: u64 = 2;

/// Missing units that an error names.
const NAMED: usize = 10;

/// How often a unit is handed out again whose result was out of date when it came; then this
/// process does it when nobody else is at work.
const TIMES_STALE: u32 = 3;

/// What to say of results that lead nowhere.
const GONE: &str = "manifests that waited for their commit are gone, as after a garbage_collect \
                    of Icechunk's: their parts were done again";

/// Calls what may block.
pub(super) async fn blocking<T: Send + 'static>(
    call: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(call).await.map_err(|error| {
        Error::new(ErrorKind::Target, format!("a call of the workers' engine failed: {error}"))
    })?
}

/// What the coordinator of a run works with.
pub(in super::super) struct Coordinator<'c, 'a, 'b> {
    pub(in super::super) repository: &'c Repository,
    pub(in super::super) run_id: &'c str,
    pub(in super::super) committer: &'c mut Committer<'a, 'b>,
    pub(in super::super) most: u64,
    /// What was staged and waits for a full commit.
    pub(in super::super) waiting: Vec<Waiting>,
    /// Of each array, what the manifests hold that stand and may be replaced.
    pub(in super::super) standing: Vec<Vec<ChunkBox>>,
}

/// What was staged, the number of its unit, and the file with its chunks if they are not in it.
pub(in super::super) struct Waiting {
    staged: Staged,
    number: u64,
    chunks: Option<String>,
}

impl Coordinator<'_, '_, '_> {
    /// Takes a result: it waits until a commit is full. Gives back whether it is of any use.
    async fn take(
        &mut self,
        result: UnitResult,
        number: u64,
        schedule: &mut Schedule<'_>,
    ) -> Result<bool> {
        if !self.stands(&result).await? {
            self.forget(&result).await?;
            return Ok(false);
        }
        let UnitResult { unit, staged, chunks, rest, .. } = result;
        let held: u64 = self.waiting.iter().map(|one| one.staged.references()).sum();
        if held > 0 && held.saturating_add(staged.references()) > self.most {
            self.commit(schedule).await?;
        }
        for part in &staged.parts {
            let (array, chunks) = (part.addition.array, part.addition.references);
            self.committer.tell(Event::Found { array, chunks, stats: &part.listing });
        }
        self.waiting.push(Waiting { staged, number, chunks });
        if let Some(rest) = unit.rest(rest) {
            // Not before: a commit counts what is lent as rest, and this would count twice.
            self.committed_with(rest.parts(), schedule).await?;
        }
        Ok(true)
    }

    /// Commits what waits.
    async fn commit(&mut self, schedule: &mut Schedule<'_>) -> Result<()> {
        self.committed_with(Vec::new(), schedule).await
    }

    /// Commits what waits, but for what units have left.
    async fn committed_with(&mut self, left: Vec<Part>, schedule: &mut Schedule<'_>) -> Result<()> {
        let mut together = Staged::default();
        let results = Results::of(self.repository, self.run_id);
        for Waiting { mut staged, number, chunks } in std::mem::take(&mut self.waiting) {
            if let Some(name) = chunks {
                put_chunks(&mut staged, &results.beside(&name).await?)?;
            }
            schedule.returned(number);
            together.parts.extend(staged.parts);
            together.warnings.extend(staged.warnings);
        }
        schedule.put_back(left);
        together.warnings.sort();
        together.warnings.dedup();
        if together.parts.is_empty() {
            return Ok(());
        }
        self.committer.commit(together, schedule.mark()).await
    }

    /// Removes a result that leads nowhere, and what was written for it alone.
    async fn forget(&self, result: &UnitResult) -> Result<()> {
        let results = Results::of(self.repository, self.run_id);
        results.forget(&result.unit.digest()).await?;
        let standing = manifest_ids(self.repository, self.committer.tip()).await?;
        let parts = result.staged.parts.iter().filter_map(|part| part.manifests.as_ref());
        // What was left as it is belongs to others.
        let kept: HashSet<_> = parts.flat_map(|new| &new.replaced).chain(&standing).collect();
        let own = result.staged.manifests().filter(|file| !kept.contains(&file.id));
        delete_manifests(self.repository, own.map(|file| file.id.to_string()).collect()).await?;
        if let Some(name) = &result.chunks {
            results.remove_beside(name.clone()).await?;
        }
        Ok(())
    }

    /// Whether what a result replaces is still there.
    async fn stands(&self, result: &UnitResult) -> Result<bool> {
        let parts = result.staged.parts.iter().filter_map(|part| part.manifests.as_ref());
        let replaced: HashSet<_> = parts.flat_map(|new| &new.replaced).collect();
        let own: HashSet<_> = result.staged.manifests().map(|file| &file.id).collect();
        if replaced.iter().all(|id| own.contains(*id)) {
            return Ok(true);
        }
        // What waits may replace the same.
        let waiting = self.waiting.iter().flat_map(|one| &one.staged.parts);
        let taken: HashSet<_> = waiting
            .filter_map(|part| part.manifests.as_ref())
            .flat_map(|new| &new.replaced)
            .collect();
        let existing = manifest_ids(self.repository, self.committer.tip()).await?;
        Ok(replaced
            .iter()
            .all(|id| own.contains(*id) || (existing.contains(*id) && !taken.contains(*id))))
    }

    /// Commits the results that an earlier coordinator did not come to. Gives back the units that
    /// have to be done again.
    async fn harvest(&mut self, schedule: &mut Schedule<'_>) -> Result<Vec<u64>> {
        let texts = Results::of(self.repository, self.run_id).all().await?;
        let mut results: Vec<_> =
            texts.iter().filter_map(|text| UnitResult::parse(text).ok()).collect();
        // Of what a dense unit has left, again and again, each is part of the one before.
        results.sort_by_key(|result| {
            let chunks: u64 = result.unit.parts().iter().map(|part| part.region.chunks()).sum();
            (result.unit.batches.is_none(), result.unit.batches, Reverse(chunks))
        });
        let mut again = Vec::new();
        // What a result has left over may have a result of its own.
        let mut left = results.len() + 1;
        while results.len() < left {
            left = results.len();
            for result in std::mem::take(&mut results) {
                let Some(number) = schedule.claim(result.unit.batches, &result.unit.parts()) else {
                    results.push(result);
                    continue;
                };
                let results = Results::of(self.repository, self.run_id);
                let beside = result.chunks.as_deref().map(|name| results.key(name));
                let manifests = result.manifests().into_iter();
                let keys = manifests.map(|id| format!("{MANIFESTS_FILE_PATH}/{id}")).chain(beside);
                if !are_there(self.repository, keys.collect()).await? {
                    self.committer.warn(GONE.to_owned());
                    self.forget(&result).await?;
                    again.push(number);
                } else if !self.take(result, number, schedule).await? {
                    again.push(number);
                }
            }
        }
        self.commit(schedule).await?;
        Ok(again)
    }

    /// Whether a manifest holds chunks of both.
    fn straddles(&self, parts: &[Part], next: &[Part]) -> bool {
        let touches = |parts: &[Part], array: usize, held: &ChunkBox| {
            let mut own = parts.iter().filter(|part| part.array == array);
            own.any(|part| part.region.intersection(held).is_some())
        };
        self.standing.iter().enumerate().any(|(array, boxes)| {
            boxes.iter().any(|held| touches(parts, array, held) && touches(next, array, held))
        })
    }

    fn unit(&self, schedule: &mut Schedule<'_>, room: u64) -> Option<Unit> {
        let (number, mut batches, mut parts) = schedule.lend(room)?;
        // A manifest that stands is replaced by one worker.
        while let Some((_, end)) = &mut batches
            && self.straddles(&parts, &schedule.next_parts())
        {
            (*end, parts) = schedule.lend_more(number)?;
        }
        let parent = self.committer.tip().to_string();
        let parts = parts.iter().map(crate::commit::stored).collect();
        Some(Unit { number, batches, parent, parts })
    }
}

/// Commits the results that are in the target.
pub(in super::super) async fn harvest(
    mut coordinator: Coordinator<'_, '_, '_>,
    schedule: &mut Schedule<'_>,
) -> Result<()> {
    for number in coordinator.harvest(schedule).await? {
        schedule.take_back(number);
    }
    Ok(())
}

/// The document that workers of a batch queue get: the plan and all its units.
pub(in super::super) fn plan(
    coordinator: &Coordinator<'_, '_, '_>,
    schedule: &mut Schedule<'_>,
    plan: &WorkPlan,
    room: u64,
) -> serde_json::Value {
    let mut units = Vec::new();
    while let Some(unit) = coordinator.unit(schedule, room) {
        units.push(unit);
    }
    serde_json::json!({ "plan": plan, "units": units })
}

/// Commits what workers of a batch queue have left; fails when not all is there. What is left in
/// `schedule` has to be done again. `paths` are those of the arrays.
pub(in super::super) async fn collect(
    mut coordinator: Coordinator<'_, '_, '_>,
    schedule: &mut Schedule<'_>,
    paths: &[String],
) -> Result<()> {
    let again = coordinator.harvest(schedule).await?;
    let missing = schedule.missing();
    if missing.is_empty() {
        for number in again {
            schedule.take_back(number);
        }
        return Ok(());
    }
    let missing: Vec<_> = missing
        .into_iter()
        .map(|(array, region)| format!("{} {region}", paths.get(array).map_or("", String::as_str)))
        .collect();
    let named: Vec<_> = missing.iter().take(NAMED).map(String::as_str).collect();
    let more = missing.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    Err(Error::new(
        ErrorKind::Incomplete,
        format!("not all parts are there; these are missing: {}{more}", named.join(", ")),
    )
    .with_hint("what is there is kept: run refreeze work for the missing parts, then commit again"))
}

/// Has workers do what is scheduled.
pub(in super::super) async fn drive(
    mut coordinator: Coordinator<'_, '_, '_>,
    schedule: &mut Schedule<'_>,
    plan: &WorkPlan,
    workers: &Arc<dyn Workers>,
    least: u64,
) -> Result<()> {
    let text = serde_json::to_string(plan)
        .map_err(|error| Error::new(ErrorKind::Target, format!("cannot write a plan: {error}")))?;
    let engine = Arc::clone(workers);
    blocking(move || engine.start(&text)).await?;
    let mut running = BTreeSet::new();
    let (mut stale, mut left): (HashMap<String, u32>, _) = (HashMap::new(), Vec::new());
    loop {
        let engine = Arc::clone(workers);
        let count = blocking(move || engine.count()).await?.max(1);
        while (running.len() as u64) < count.saturating_mul(IN_FLIGHT) {
            let left = schedule.expected_left() / count.saturating_mul(UNITS_EACH / 2);
            let room = left.max(least).min(coordinator.most);
            let Some(unit) = coordinator.unit(schedule, room) else { break };
            running.insert(unit.number);
            let text = serde_json::to_string(&unit).unwrap_or_default();
            let engine = Arc::clone(workers);
            blocking(move || engine.submit(&text)).await?;
        }
        if running.is_empty() {
            coordinator.commit(schedule).await?;
            if schedule.is_empty() {
                for number in left {
                    schedule.take_back(number);
                }
                return Ok(());
            }
            continue;
        }
        let engine = Arc::clone(workers);
        for text in blocking(move || engine.arrived()).await? {
            let result = UnitResult::parse(&text)?;
            // What was found under a key of the same unit may have had another number.
            let parts = result.unit.parts();
            let Some(number) = schedule.lent_as(&parts) else { continue };
            let digest = result.unit.digest();
            if running.remove(&number) && !coordinator.take(result, number, schedule).await? {
                // Another has replaced what this one was to replace: on the new state, then.
                coordinator.commit(schedule).await?;
                let times = stale.entry(digest).or_default();
                *times += 1;
                if *times > TIMES_STALE {
                    left.push(number);
                } else {
                    schedule.take_back(number);
                }
            }
        }
    }
}
