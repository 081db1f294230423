//! Lists parts, in bounded memory, until there is enough to write.
//!
//! A listing that would fill more than a commit is given up and goes back to the schedule. Before the
//! last requests for some parts are answered, those for the next are sent, so that the service is
//! never waited for with nothing in flight.

use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::task::Poll;

use arrow_array::RecordBatch;
use futures::StreamExt as _;
use futures::stream::{BoxStream, Fuse};

use super::JobSource;
use super::schedule::Schedule;
use super::work::{ListedPage, Work, in_order, is_paged, listing};
use crate::batch::{ChecksumBy, ChunkRules, ReferenceBatch};
use crate::grid::piece::Piece;
use crate::list::{ChunkColumns, ListStats, PAGE_SIZE};
use crate::manifest::Unwritten;
use crate::plan::Part;
use crate::source::Staleness;
use crate::{Error, ErrorKind, Result};

/// Parts listed at a time, when they are small. Each keeps pages of its own that wait, so that
/// large ones, which have requests enough, are listed two at a time.
const CONCURRENT_LISTINGS: usize = 64;

/// The same where listings are no requests: of a file system, each has threads of its own.
const CONCURRENT_WALKS: usize = 8;

/// Parts of so many pages together keep every request busy.
const BUSY_PAGES: u64 = 64;

/// The next parts are begun when as many pages are missing as come in so many round trips: in one of
/// them their first request is answered, which all others wait for unless their array is seen to be
/// full, and in one what is in flight.
const ROUNDS_AHEAD: u64 = 2;

/// What is begun ahead, at most: a step of a million references is about as many pages as may be in
/// flight far away.
const STEPS_AHEAD: usize = 3;

/// Pages that have come and are not taken yet, because references wait to be written, take memory: when
/// something is begun, as many may be missing as that leaves room for, and always so many.
const FEW_MISSING: u64 = 200;

/// As many references take the memory of one page that waits (70 KB).
const REFERENCES_OF_A_PAGE: u64 = 2_400;

/// Pages of what is ahead that wait, at most.
const MOST_HELD: usize = 300;

/// Nothing is begun before parts of so few pages have come: that would save one round trip, at most.
const FEW_PAGES: u64 = 2;

/// What is to be told as it happens; the rest comes with what is staged.
#[derive(Debug, Clone, Copy)]
pub(in crate::jobs) enum Event<'a> {
    /// Chunks of an array were found, at this cost.
    Found { array: usize, chunks: u64, stats: &'a ListStats },
    /// The listing of a part that had found so many chunks was given up.
    GivenUp { array: usize, chunks: u64 },
    /// Manifests are being written.
    Writing,
}

/// A part whose listing is running or complete.
pub(in crate::jobs) struct Listed<'a> {
    pub(in crate::jobs) part: Part,
    pub(in crate::jobs) piece: &'a Piece,
    pub(in crate::jobs) batch: ReferenceBatch,
    pub(in crate::jobs) stats: ListStats,
}

/// Parts listed together: those that are complete, and those that were given up with the number of
/// chunks that they held until then.
#[derive(Default)]
struct Outcome<'a> {
    complete: Vec<Listed<'a>>,
    given_up: Vec<(Part, u64)>,
}

/// Parts that belong in one commit, listed completely.
#[derive(Default)]
pub(in crate::jobs) struct Gathered<'a> {
    pub(in crate::jobs) parts: Vec<Listed<'a>>,
    /// Whether nothing more belongs in that commit.
    pub(in crate::jobs) fills_commit: bool,
}

impl Gathered<'_> {
    /// References found.
    pub(super) fn references(&self) -> u64 {
        self.parts.iter().map(|listed| listed.batch.len()).sum()
    }
}

/// How much room there is for what is listed next.
#[derive(Clone, Copy)]
struct Room {
    /// References of the commit that were handed on.
    begun: u64,
    /// Those that wait.
    references: u64,
    /// The most of a commit.
    most: u64,
}

impl Room {
    fn in_commit(self) -> u64 {
        self.most.saturating_sub(self.begun).saturating_sub(self.references)
    }

    /// A fifth stays free: manifests in the making and pages take memory at the same time.
    fn in_memory(self) -> u64 {
        let room = self.most.saturating_sub(self.references);
        room - room / 5
    }
}

/// The pages of parts, as they come.
struct Pages<'a> {
    parts: Vec<Part>,
    /// Chunks that they are likely to hold.
    expected: u64,
    /// Listings that run at a time.
    at_once: usize,
    /// Pages that came while others were wanted.
    held: VecDeque<ListedPage>,
    others: Fuse<BoxStream<'a, ListedPage>>,
}

impl Pages<'_> {
    /// The next page; while it is waited for, and while there are such as were held, pages of what is
    /// `ahead` are held, up to so many: requests go on.
    async fn next(&mut self, ahead: &mut VecDeque<Self>, most: usize) -> Option<ListedPage> {
        poll_fn(|context| {
            let held = self.held.pop_front();
            let next = self.others.poll_next_unpin(context);
            if held.is_some() || next.is_pending() {
                let holds = ahead.iter().map(|later| later.held.len()).sum();
                let mut room = most.saturating_sub(holds);
                for later in ahead.iter_mut() {
                    while room > 0
                        && let Poll::Ready(Some(page)) = later.others.poll_next_unpin(context)
                    {
                        later.held.push_back(page);
                        room -= 1;
                    }
                }
            }
            match (held, next) {
                (Some(page), Poll::Ready(Some(later))) => {
                    self.held.push_back(later);
                    Poll::Ready(Some(page))
                }
                (Some(page), _) => Poll::Ready(Some(page)),
                (None, next) => next,
            }
        })
        .await
    }

    /// Pages that have not come, of chunks of which `found` have been taken.
    fn missing(&self, found: u64) -> u64 {
        let page_size = u64::from(PAGE_SIZE);
        (self.expected.saturating_sub(found) / page_size).saturating_sub(self.held.len() as u64)
    }
}

/// Lists parts.
pub(in crate::jobs) struct Gatherer<'a> {
    work: &'a Work<'a>,
    /// What shares the memory with what is listed.
    unwritten: Unwritten,
    /// What is likely to be listed next, one after the other, the first requests sent.
    ahead: VecDeque<Pages<'a>>,
    /// Of each array, by position: whether it was seen to be full.
    seen_full: Vec<bool>,
    /// Of each source; known when its first chunk is: it is asked about the times it lists.
    rules: HashMap<usize, ChunkRules>,
    warnings: Vec<String>,
}

impl<'a> Gatherer<'a> {
    /// One whose references share the memory with those that are `unwritten`.
    pub(in crate::jobs) fn new(work: &'a Work<'a>, unwritten: Unwritten) -> Self {
        let (rules, warnings) = (HashMap::new(), Vec::new());
        Self { work, unwritten, ahead: VecDeque::new(), seen_full: Vec::new(), rules, warnings }
    }

    /// Lists parts until there are as many as the schedule gives out at once, or until a commit that
    /// already holds `begun` references is full; none when nothing was left for it.
    ///
    /// With `more` to be gathered afterwards, requests for that are sent before all is answered.
    pub(in crate::jobs) async fn gather(
        &mut self,
        schedule: &mut Schedule<'_>,
        begun: u64,
        more: bool,
        tell: &mut (dyn FnMut(Event<'_>) + Send),
    ) -> Result<Gathered<'a>> {
        let mut ready: Vec<Listed<'a>> = Vec::new();
        let mut references = 0;
        let mut fills_commit = false;
        while references < schedule.at_once() {
            let held = begun + references;
            let parts = schedule.take(held);
            self.seen_full = schedule.seen_full();
            if parts.is_empty() {
                break;
            }
            let next = more.then(|| schedule.after(&parts, held)).into_iter().flatten();
            let expected = schedule.expected_of(&parts);
            let room = Room { begun, references, most: self.work.limits.references_per_commit };
            let Outcome { complete, given_up } =
                self.list(&parts, room, expected, next, tell).await?;
            for listed in complete {
                references += listed.batch.len();
                schedule.learn(&listed.part, listed.batch.len());
                ready.push(listed);
            }
            if !given_up.is_empty() {
                let alone = begun + references == 0;
                schedule.give_up(given_up, alone);
                if begun > 0 || !ready.is_empty() {
                    fills_commit = true;
                    break;
                }
            }
        }
        fills_commit |= !schedule.has_more_for(begun + references);
        Ok(Gathered { parts: ready, fills_commit })
    }

    /// So many references of what was gathered wait for their turn to be written.
    pub(super) fn hands_over(&self, references: u64) {
        self.unwritten.handed_over(references);
    }

    /// What a user should know of what was listed since the last time.
    pub(in crate::jobs) fn take_warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.warnings)
    }

    /// Lists parts, several at a time, until all are complete or there is no room for their chunks;
    /// `expected` tells how many are likely, and `next` which parts are listed after these, one after
    /// the other, and whether that is known.
    async fn list(
        &mut self,
        parts: &[Part],
        room: Room,
        expected: u64,
        next: impl Iterator<Item = (Vec<Part>, bool)>,
        tell: &mut (dyn FnMut(Event<'_>) + Send),
    ) -> Result<Outcome<'a>> {
        let mut open: Vec<_> = parts.iter().map(|part| self.begin(part)).collect();
        let begun = self.ahead.pop_front().filter(|begun| begun.parts == parts);
        let mut next = next.peekable();
        // What was begun stays as long as it is what comes, known or not.
        let mut comes = |begun: &Pages<'_>| next.next_if(|(parts, _)| *parts == begun.parts);
        let still_ahead = self.ahead.iter().take_while(|begun| comes(begun).is_some()).count();
        self.ahead.truncate(still_ahead);
        let mut pages = begun.unwrap_or_else(|| self.pages(parts.to_vec(), expected));
        let mut outcome = Outcome::default();
        let mut found = 0;
        let page_size = u64::from(PAGE_SIZE);
        let rounds = if parts.iter().all(|part| self.is_full(part)) { 1 } else { ROUNDS_AHEAD };
        let mut looks_ahead = expected > FEW_PAGES * page_size;
        loop {
            self.unwritten.room_for(found, room.in_memory(), room.begun > 0).await;
            let allowed = self.work.in_flight.allowed();
            let page = pages.next(&mut self.ahead, allowed.div_ceil(2).min(MOST_HELD)).await;
            let Some((number, records, stats)) = page else { break };
            let records = records?;
            let Some(slot) = open.get_mut(number) else { continue };
            let Some(current) = slot.as_mut() else { continue };
            current.stats.add(&stats);
            let (array, piece) = (current.part.array, current.piece);
            let mut chunks = 0;
            if let Some(records) = &records {
                let rules = self.rules_of(piece, records).await?;
                chunks = current.batch.extend(records, &piece.array, &piece.shift, rules)?;
            }
            found += chunks;
            tell(Event::Found { array, chunks, stats: &stats });
            if records.is_none()
                && let Some(listed) = slot.take()
            {
                outcome.complete.push(listed);
            }
            if found > room.in_commit() {
                break;
            }
            let all_run = parts.len() - outcome.complete.len() <= pages.at_once;
            while looks_ahead
                && all_run
                && self.ahead.len() < STEPS_AHEAD
                && pages.missing(found)
                    + self.ahead.iter().map(|later| later.missing(0)).sum::<u64>()
                    <= (rounds * (allowed as u64)).min(self.most_missing(room, found))
            {
                let known = next.next().filter(|(_, is_known)| *is_known);
                match known.and_then(|(parts, _)| self.ahead(parts)) {
                    Some(later) => self.ahead.push_back(later),
                    None => looks_ahead = false,
                }
            }
        }
        for Listed { part, batch, .. } in open.into_iter().flatten() {
            tell(Event::GivenUp { array: part.array, chunks: batch.len() });
            outcome.given_up.push((part, batch.len()));
        }
        Ok(outcome)
    }

    /// Pages that may be missing when more is begun.
    fn most_missing(&self, room: Room, found: u64) -> u64 {
        let taken = found.saturating_add(self.unwritten.references());
        FEW_MISSING + room.in_memory().saturating_sub(taken) / REFERENCES_OF_A_PAGE
    }

    /// The pages of parts that hold `expected` chunks; nothing is sent before they are polled.
    fn pages(&self, parts: Vec<Part>, expected: u64) -> Pages<'a> {
        let listings: Vec<_> = in_order(self.work, &parts)
            .into_iter()
            .filter_map(|(number, shared)| {
                let part = parts.get(number)?;
                listing(number, self.work, part, shared, self.is_full(part))
            })
            .collect();
        let each = expected / u64::from(PAGE_SIZE) / (parts.len().max(1) as u64);
        let busy = usize::try_from(BUSY_PAGES / each.max(1)).unwrap_or(CONCURRENT_LISTINGS);
        let walked = parts.iter().any(|part| !is_paged(self.work, part));
        let most = if walked { CONCURRENT_WALKS } else { CONCURRENT_LISTINGS };
        let at_once = busy.clamp(2, most);
        let others = futures::stream::iter(listings).flatten_unordered(at_once).boxed().fuse();
        Pages { parts, expected, at_once, held: VecDeque::new(), others }
    }

    /// The pages of parts that are listed after others, where requests can be sent ahead.
    fn ahead(&self, parts: Vec<Part>) -> Option<Pages<'a>> {
        if parts.is_empty() || parts.iter().any(|part| !is_paged(self.work, part)) {
            return None;
        }
        let chunks = parts.iter().map(|part| part.region.chunks());
        let expected = chunks.fold(0, u64::saturating_add);
        Some(self.pages(parts, expected))
    }

    fn is_full(&self, part: &Part) -> bool {
        self.seen_full.get(part.array).copied().unwrap_or_default()
    }

    fn begin(&self, part: &Part) -> Option<Listed<'a>> {
        let array = self.work.arrays.get(part.array)?;
        let split = self.work.splits.get(part.array)?;
        let (piece, _) = self.work.piece(part)?;
        let batch = ReferenceBatch::new(&array.spec.layout, part.region.clone(), split);
        Some(Listed { part: part.clone(), piece, batch, stats: ListStats::default() })
    }

    /// How a source's chunks become references, judged by the first of them.
    async fn rules_of(&mut self, piece: &Piece, records: &RecordBatch) -> Result<ChunkRules> {
        if let Some(rules) = self.rules.get(&piece.source) {
            return Ok(*rules);
        }
        let array = &piece.array;
        let columns = ChunkColumns::of(records)?;
        // Of an object without bytes none can be read.
        let row = columns.sizes.iter().position(|size| *size > 0).unwrap_or_default();
        let ndim = array.layout.ndim();
        let coords = columns.coords.get(row * ndim..(row + 1) * ndim).unwrap_or_default();
        let source = self.work.sources.get(piece.source);
        let key = array.source_key(coords);
        let staleness = match (columns.last_modified.get(row), source) {
            (Some(time), Some(JobSource { source, .. })) if columns.sizes.get(row) != Some(&0) => {
                match self.work.checksum {
                    ChecksumBy::LastModified => source.staleness(&key, *time, false).await?,
                    ChecksumBy::ETag => source.staleness(&key, *time, true).await?,
                    ChecksumBy::None => Staleness::ByTime,
                }
            }
            _ => Staleness::ByTime,
        };
        let next_second = staleness == Staleness::ByNextSecond;
        let unnoticed = match (self.work.checksum, staleness) {
            (ChecksumBy::LastModified, Staleness::ByTag) => {
                Some("it honours If-Match: use --checksum etag --restart")
            }
            (_, Staleness::Ignored) => Some(
                "if the source never changes, use --checksum none --restart; else copy it elsewhere",
            ),
            _ => None,
        };
        if let (Some(what), Some(JobSource { source, .. })) = (unnoticed, source) {
            let condition = match self.work.checksum {
                ChecksumBy::ETag => "If-Match",
                _ => "If-Unmodified-Since",
            };
            let place = format!("{}{key}", source.url_prefix());
            return Err(Error::new(
                ErrorKind::Listing,
                format!(
                    "the source's server ignores {condition} ({place}): readers would \
                     silently get other bytes when an object changes"
                ),
            )
            .with_hint(what));
        }
        if next_second {
            self.warnings.push(
                "the source's server refuses reads with an object's own time \
                 (If-Unmodified-Since): references carry the next whole second"
                    .to_owned(),
            );
        }
        let (empty_chunks, checksum) = (self.work.empty_chunks, self.work.checksum);
        let rules = ChunkRules { empty_chunks, checksum, next_second };
        self.rules.insert(piece.source, rules);
        Ok(rules)
    }
}
