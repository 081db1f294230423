//! References chosen at random, over arrays and manifests, and read both ways: from the source, and
//! through Icechunk as a reader would.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use icechunk::Repository;
use icechunk::format::{ByteRange, ChunkIndices, SnapshotId};
use icechunk::session::{Session, get_chunk};
use rand::seq::SliceRandom as _;

use super::differences::{Difference, Kind, Side};
use crate::Result;
use crate::error::chain;
use crate::format::node_path;
use crate::format::session::authorised_session_at;
use crate::jobs::ingest::{JobArray, JobSource};
use crate::source::Expected;
use crate::target::container::SourceContainer;

/// Chunks read at a time, each both ways.
const CONCURRENT_READS: usize = 4;

/// The wait before something that could not be read, or read otherwise, is read again.
const BEFORE_ONCE_MORE: Duration = Duration::from_millis(100);

const MICROSECONDS: i64 = 1_000_000;

/// A reference that may be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Candidate {
    /// Position of its array.
    pub(super) array: usize,
    /// Chunk coordinates in the target.
    pub(super) coords: Vec<u32>,
    /// Bytes, as the reference says.
    pub(super) length: u64,
    /// Whole seconds, as the reference says.
    pub(super) seconds: Option<u32>,
}

/// Some of the references of one manifest, each with the same chance.
#[derive(Debug, Default)]
pub(super) struct Reservoir {
    room: usize,
    seen: u64,
    pub(super) kept: Vec<Candidate>,
}

impl Reservoir {
    /// Keeps `room` of them.
    pub(super) fn new(room: usize) -> Self {
        Self { room, ..Self::default() }
    }

    /// Takes note of another one.
    pub(super) fn offer(&mut self, candidate: impl FnOnce() -> Candidate) {
        if self.room == 0 {
            return;
        }
        self.seen += 1;
        if self.kept.len() < self.room {
            self.kept.push(candidate());
            return;
        }
        let at = rand::random_range(0..self.seen);
        if let Some(slot) = usize::try_from(at).ok().and_then(|at| self.kept.get_mut(at)) {
            *slot = candidate();
        }
    }
}

/// Chooses so many: one of each array in turn, and of each array one of each manifest in turn.
pub(super) fn choose(kept: Vec<Reservoir>, wanted: usize) -> Vec<Candidate> {
    let mut arrays: BTreeMap<usize, Vec<Vec<Candidate>>> = BTreeMap::new();
    for mut reservoir in kept {
        reservoir.kept.shuffle(&mut rand::rng());
        if let Some(first) = reservoir.kept.first() {
            arrays.entry(first.array).or_default().push(reservoir.kept);
        }
    }
    let mut queues: Vec<Vec<Candidate>> = Vec::new();
    for (_, mut manifests) in arrays {
        manifests.shuffle(&mut rand::rng());
        queues.push(in_turn(manifests));
    }
    let mut chosen = in_turn(queues);
    chosen.truncate(wanted);
    chosen
}

/// One element of each list, then the second of each, and so on.
fn in_turn<T>(lists: Vec<Vec<T>>) -> Vec<T> {
    let mut iterators: Vec<_> = lists.into_iter().map(Vec::into_iter).collect();
    let mut all = Vec::new();
    while !iterators.is_empty() {
        iterators.retain_mut(|iterator| match iterator.next() {
            Some(element) => {
                all.push(element);
                true
            }
            None => false,
        });
    }
    all
}

/// Reads references both ways.
pub(super) struct Sampler<'a> {
    session: Session,
    arrays: &'a [JobArray],
    sources: &'a [JobSource],
}

impl<'a> Sampler<'a> {
    /// Reads from `snapshot`; `containers` are those of the sources, by position.
    pub(super) async fn new(
        repository: &Repository,
        snapshot: &SnapshotId,
        arrays: &'a [JobArray],
        sources: &'a [JobSource],
        containers: &[SourceContainer],
    ) -> Result<Self> {
        let mut credentials = HashMap::new();
        for (source, container) in sources.iter().zip(containers) {
            let prefix = container.container().url_prefix().to_owned();
            credentials.insert(prefix, source.source.container_credentials().await?);
        }
        let session = authorised_session_at(repository, snapshot, credentials);
        Ok(Self { session, arrays, sources })
    }

    /// Reads all of them; gives back those that are not equal, with the positions of their arrays.
    pub(super) async fn read(&self, chosen: Vec<Candidate>) -> Result<Vec<(usize, Difference)>> {
        let outcomes: Vec<_> = futures::stream::iter(chosen)
            .map(|candidate| self.read_twice(candidate))
            .buffer_unordered(CONCURRENT_READS)
            .collect()
            .await;
        let outcomes = outcomes.into_iter().collect::<Result<Vec<_>>>()?;
        Ok(outcomes.into_iter().flatten().collect())
    }

    /// Reads one, and once more before it is said to differ: a server that was wrong for a moment is no
    /// difference between source and target.
    async fn read_twice(&self, candidate: Candidate) -> Result<Option<(usize, Difference)>> {
        match self.read_one(&candidate).await? {
            Some((_, difference)) if difference.kind != Kind::Stale => {
                tokio::time::sleep(BEFORE_ONCE_MORE).await;
                self.read_one(&candidate).await
            }
            told => Ok(told),
        }
    }

    async fn read_one(&self, candidate: &Candidate) -> Result<Option<(usize, Difference)>> {
        let Some(array) = self.arrays.get(candidate.array) else { return Ok(None) };
        let piece = array.piece_at(&candidate.coords);
        let Some(JobSource { source, .. }) = piece.and_then(|p| self.sources.get(p.source)) else {
            return Ok(None);
        };
        let key = array.source_key(&candidate.coords);
        // Some gateways make up ETags that look like digests. What the object's own says is enough
        // to tell: its bytes are compared with those that come through Icechunk.
        let expected = Expected { beside: Some(key.clone()), ..Expected::default() };
        let (direct, through) =
            tokio::join!(source.read(&key, &expected), self.through(array, candidate));
        let told = |kind, ours: Option<String>, theirs: Option<String>| {
            let location = || format!("{}{key}", source.url_prefix());
            let side =
                |error, length| Side { location: location(), length, error, ..Side::default() };
            let difference = Difference {
                array: array.spec.path.clone(),
                coordinates: candidate.coords.clone(),
                kind,
                source: Some(side(ours, None)),
                target: Some(side(theirs, Some(candidate.length))),
            };
            Ok(Some((candidate.array, difference)))
        };
        let (ours, theirs) = match (direct, through) {
            (Ok(Some(ours)), Ok(theirs)) if ours == theirs => return Ok(None),
            (Err(error), _) => (Some(error.message().to_owned()), None),
            (Ok(None), theirs) => (Some("it is not there any more".to_owned()), theirs.err()),
            (Ok(Some(_)), theirs) => (None, theirs.err()),
        };
        // Whatever is wrong with an object that has changed since, it is that it has.
        match source.head(&key).await {
            Ok(None) => return told(Kind::Stale, ours, theirs),
            Ok(Some(now)) => {
                let seconds = now.last_modified.div_euclid(MICROSECONDS)
                    + i64::from(now.last_modified.rem_euclid(MICROSECONDS) > 0);
                let later = candidate.seconds.is_some_and(|then| seconds > i64::from(then));
                if later || now.size != candidate.length {
                    return told(Kind::Stale, ours, theirs);
                }
            }
            Err(_) => {}
        }
        let kind = if ours.is_none() && theirs.is_none() { Kind::Bytes } else { Kind::Unreadable };
        told(kind, ours, theirs)
    }

    /// The bytes that a reader of the repository gets, or what that fails with.
    async fn through(
        &self,
        array: &JobArray,
        candidate: &Candidate,
    ) -> std::result::Result<bytes::Bytes, String> {
        let path = node_path(&array.spec.path).map_err(|error| error.message().to_owned())?;
        let coords = ChunkIndices(candidate.coords.clone());
        let reader = self.session.get_chunk_reader(&path, &coords, &ByteRange::ALL).await;
        match get_chunk(reader.map_err(|error| chain(&error.kind))?).await {
            Ok(Some(bytes)) => Ok(bytes),
            Ok(None) => Err("the reference is not there".to_owned()),
            Err(error) => Err(chain(&error.kind)),
        }
    }
}

/// References of each manifest that are kept, of so many manifests, to choose `wanted` from.
pub(super) fn room_of_each(wanted: u64, manifests: usize) -> usize {
    let each = wanted.saturating_mul(4).div_ceil(manifests.max(1) as u64);
    usize::try_from(each.clamp(wanted.min(1), wanted)).unwrap_or(usize::MAX)
}

/// Chooses among what was kept, shared by the threads that compare.
pub(super) type Kept = Arc<std::sync::Mutex<Vec<Reservoir>>>;

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(array: usize, at: u32) -> Candidate {
        Candidate { array, coords: vec![at], length: 1, seconds: None }
    }

    #[test]
    fn every_array_and_every_manifest_has_its_turn() {
        let mut kept = Vec::new();
        for (array, manifests) in [(0, 1), (1, 3)] {
            for manifest in 0..manifests {
                let mut reservoir = Reservoir::new(2);
                (0..10).for_each(|at| reservoir.offer(|| candidate(array, manifest * 10 + at)));
                assert_eq!(reservoir.kept.len(), 2);
                kept.push(reservoir);
            }
        }
        let chosen = choose(kept, 5);
        assert_eq!(chosen.iter().filter(|one| one.array == 0).count(), 2);
        let manifests: Vec<_> =
            chosen.iter().filter(|one| one.array == 1).map(|one| one.coords[0] / 10).collect();
        assert_eq!(std::collections::BTreeSet::from_iter(&manifests).len(), 3);
    }

    #[test]
    fn few_are_kept_of_many_manifests_and_all_of_one() {
        assert_eq!(room_of_each(0, 10), 0);
        assert_eq!(room_of_each(10, 1), 10);
        assert_eq!(room_of_each(10, 1_000_000), 1);
    }
}
