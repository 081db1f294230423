//! Which request comes next, what an answer means, and when the listing is proven complete.
//!
//! A state machine without IO: it is asked for requests and told the answers, in any order. A page
//! answers for the ranks from its start to its last key. That nothing follows is only ever a
//! claim: it counts when no page has shown a later key, when a page that was truncated was
//! confirmed by its continuation token, and when this server was seen to honour start-after
//! (see [`closing`]).

mod closing;

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use super::segments::{Segments, State};
use crate::key_order::rank_region::RankRegion;
use crate::list::array_keys::ArrayKeys;
use crate::list::paging::MOST_EMPTY_PAGES;
use crate::list::paging::cover::Cover;
use crate::list::paging::inspect::{Distrust, Inspected, shown};
use crate::list::paging::standstill::Standstill;
use crate::list::paging::witness::{Witnesses, start_string};
use closing::Evidence;

/// The least that the first page asks for, so that it tells whether the server lists in order.
const FIRST_PAGE: u32 = 64;
/// How often a server may not know of keys that it knows of later: they may have been created.
const MOST_REFUTED: u32 = 2;

/// Pages that wait for their turn and requests in flight, of the concurrency: when no more is asked
/// for beyond the last page that waits, and when no more at all but the next in turn.
const MOST_AHEAD: (usize, usize) = (3, 5);

/// What a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// The next page of a segment.
    Segment(u64),
    /// Any keys of the array, when no page has shown one.
    Opening,
    /// Whether a known key is found from a string before it.
    Witness,
}

/// One request to be sent.
#[derive(Debug, Clone)]
pub(super) struct Job {
    purpose: Purpose,
    pub(super) after: Option<String>,
    /// Whether that is a key, the last one of a page.
    pub(super) after_is_key: bool,
    pub(super) token: Option<String>,
    pub(super) max_keys: u32,
}

/// What the next request of a chain is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
enum Ask {
    /// What follows the last key.
    #[default]
    Next,
    /// The same, by the token of a truncated page without keys.
    Follow(String),
    /// Whether the token of the last page too says that nothing follows.
    Confirm(String),
    /// The same once more, because a later key was seen.
    Again,
}

/// What a claim rests on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Basis {
    /// An empty page after some string: on start-after.
    #[default]
    Start,
    /// An empty page, confirmed by the token of the page before.
    Token,
    /// A page with keys that was not marked as truncated.
    Flag,
    /// An empty page without a start-after: the beginning of the listing.
    Opening,
}

/// "No key follows this one."
#[derive(Debug, Clone, Default)]
struct Claim {
    key: String,
    basis: Basis,
    proven: bool,
    /// A greater key that was seen before, and was not found again.
    disputed: Option<Vec<u8>>,
}

/// What is remembered of one segment's pages.
#[derive(Debug, Clone, Default)]
struct Chain {
    last: Option<String>,
    /// Whether that is the last key itself, not only a string beside it.
    last_is_key: bool,
    token: Option<String>,
    ask: Ask,
    empty_pages: u32,
    standstill: Standstill,
    /// Whether the last page held more foreign keys than chunks: the next one is asked for whole,
    /// since pages of so many keys as chunks are wanted would be as many as there are such keys.
    crowded: bool,
    claim: Claim,
}

/// The state of one listing.
#[derive(Debug)]
pub(super) struct Scanner {
    keys: ArrayKeys,
    page_size: u32,
    segments: Segments,
    chains: HashMap<u64, Chain>,
    pub(super) cover: Cover,
    pub(super) witnesses: Witnesses,
    region: Arc<RankRegion>,
    /// Whether the region was cut, as soon as that seemed to be worth it.
    spread: bool,
    /// Whether an answer has come.
    is_tried: bool,
    in_flight: usize,
    /// The chunks are wanted in the order of their keys.
    ordered: bool,
    most_in_flight: usize,
    /// Keys that a full page of this service holds are learned, those beyond the start.
    learns: Option<u64>,
    /// How often "not truncated" was untrue: when too often, only an empty page ends a chain.
    flags_refuted: u32,
    refuted: u32,
    evidence: Evidence,
    pub(super) warnings: Vec<String>,
}

impl Scanner {
    /// A listing of `region` with up to `most_segments` chains.
    pub(super) fn new(
        keys: ArrayKeys,
        region: Arc<RankRegion>,
        page_size: u32,
        most_segments: usize,
        ordered: bool,
    ) -> Self {
        let segments = Segments::new(Arc::clone(&region), page_size, most_segments);
        Self {
            keys,
            page_size: page_size.max(1),
            segments,
            chains: HashMap::new(),
            cover: Cover::default(),
            witnesses: Witnesses::default(),
            region,
            spread: false,
            is_tried: false,
            in_flight: 0,
            ordered,
            most_in_flight: most_segments.max(1),
            learns: None,
            flags_refuted: 0,
            refuted: 0,
            evidence: Evidence::default(),
            warnings: Vec::new(),
        }
    }

    /// The same for a service whose pages may hold less than they are asked for; one key of each is
    /// the start, where it `includes` that.
    pub(super) fn learning(mut self, includes: bool) -> Self {
        self.learns = Some(u64::from(includes));
        self
    }

    /// From now on so many requests may be in flight, if their number is found while they are sent.
    pub(super) fn allow(&mut self, most: usize) {
        self.most_in_flight = most.max(1);
        self.segments.allow(most);
    }

    /// Cuts the region before anything is known of it.
    pub(super) fn spread(&mut self) {
        self.spread = true;
        self.segments.spread();
    }

    /// Whether every rank of the region is answered for.
    pub(super) fn is_complete(&self) -> bool {
        self.cover.covers(&self.region.bounds())
    }

    /// The next request to send now; with `None`, an answer must come first, or all is done.
    ///
    /// `waiting` is how many pages wait for their turn, and the first rank of the last of them.
    pub(super) fn next_job(&mut self, waiting: (usize, u64)) -> Result<Option<Job>, Distrust> {
        let mut ready =
            if self.ordered { self.next_in_order(waiting) } else { self.segments.ready() };
        if ready.is_none() && self.spread && !self.ordered && self.segments.steal() {
            ready = self.segments.ready();
        }
        if let Some(id) = ready {
            let job = self.segment_job(id);
            self.segments.set_state(id, State::InFlight);
            self.in_flight += 1;
            return Ok(job);
        }
        if self.in_flight > 0 {
            return Ok(None);
        }
        let job = self.closing_job()?;
        self.in_flight += usize::from(job.is_some());
        Ok(job)
    }

    /// The first part of the region that waits to be listed, unless too many pages would then wait
    /// for their turn: that of the next in turn never does.
    fn next_in_order(&mut self, (held, last): (usize, u64)) -> Option<u64> {
        let (position, id, follows) = self.segments.first_ready()?;
        let (beyond, at_all) = MOST_AHEAD;
        let most = if position < last { at_all } else { beyond };
        if follows && 2 * (held + self.in_flight) >= most * self.most_in_flight {
            return None;
        }
        if self.spread && self.chains.get(&id).is_none_or(|chain| chain.ask == Ask::Next) {
            self.segments.leave_a_page(id);
        }
        Some(id)
    }

    fn segment_job(&mut self, id: u64) -> Option<Job> {
        let (start, wanted) = self.segments.wanted(id)?;
        let first = !self.is_tried;
        let chain = self.chains.entry(id).or_default();
        let after = match (&chain.last, start) {
            // The beginning of the listing: nothing to pass over, nothing to trust.
            (None, 0) => None,
            (None, _) => Some(self.keys.before(start)),
            // Strangers before the first chunk.
            (Some(last), 0) => Some(last.clone()),
            (Some(last), _) => Some(last.clone().max(self.keys.before(start))),
        };
        let (after, token) = match &chain.ask {
            Ask::Next => (after, None),
            Ask::Follow(token) | Ask::Confirm(token) => (after, Some(token.clone())),
            Ask::Again if chain.claim.basis == Basis::Opening => (None, None),
            Ask::Again => (Some(chain.claim.key.clone()), None),
        };
        let max_keys = if chain.crowded {
            self.page_size
        } else if first {
            wanted.max(FIRST_PAGE).min(self.page_size)
        } else {
            wanted
        };
        let after_is_key = chain.last_is_key && after == chain.last && token.is_none();
        Some(Job { purpose: Purpose::Segment(id), after, after_is_key, token, max_keys })
    }

    /// Takes the page that `job` was answered with; gives back what is to be delivered of it, and
    /// the ranks that it alone answers for.
    pub(super) fn answer(
        &mut self,
        job: &Job,
        inspected: Inspected,
    ) -> Result<Option<(Range<u64>, Inspected)>, Distrust> {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.witnesses.note(&inspected.page, job.after.as_deref());
        if let Some(start) = self.learns
            && job.max_keys >= self.page_size
            && inspected.page.truncated
        {
            let found = u64::from(inspected.page.found_start == Some(true));
            let keys = inspected.page.len() as u64 + found;
            self.segments.note_length(keys.saturating_sub(start));
        }
        let taken = match job.purpose {
            Purpose::Segment(id) if inspected.page.is_empty() => {
                self.empty_page(id, job, &inspected)?;
                None
            }
            Purpose::Segment(id) => {
                let last = self.chains.get(&id).and_then(|chain| chain.last.as_ref());
                self.evidence.present_works |=
                    last.is_some() && last == job.after.as_ref() && job.token.is_none();
                Some(self.page(id, inspected)?)
            }
            Purpose::Opening | Purpose::Witness => {
                self.closing_page(job, &inspected)?;
                None
            }
        };
        self.reopen();
        Ok(taken)
    }

    /// A page with keys: it answers for the ranks up to its last key.
    fn page(
        &mut self,
        id: u64,
        mut inspected: Inspected,
    ) -> Result<(Range<u64>, Inspected), Distrust> {
        if self.ordered {
            let untouched = |id| !self.chains.contains_key(&id);
            self.segments.take_over(id, inspected.end, untouched);
        }
        let Some(segment) = self.segments.get(id) else {
            return Err(Distrust::Overlap { ranks: 0..inspected.end });
        };
        let (start, end) = (segment.position, segment.end);
        let chain = self.chains.entry(id).or_default();
        let key = inspected.page.keys().next_back().unwrap_or_default();
        match std::mem::take(&mut chain.ask) {
            Ask::Confirm(_) => {
                self.refuted += 1;
                if self.refuted > MOST_REFUTED {
                    let after = chain.last.clone().unwrap_or_default();
                    return Err(Distrust::EmptyAnswer { after, key: shown(key) });
                }
            }
            Ask::Again if chain.claim.basis == Basis::Flag => {
                self.flags_refuted += 1;
                if self.flags_refuted == MOST_REFUTED {
                    self.warnings.push(format!(
                        "the server called pages below '{}' complete although more keys follow; \
                         they were listed until an empty page",
                        self.keys.prefix()
                    ));
                }
            }
            _ => {}
        }
        let truncated = inspected.page.truncated || self.flags_refuted >= MOST_REFUTED;
        chain.claim = Claim { key: shown(key), basis: Basis::Flag, ..Claim::default() };
        chain.empty_pages = 0;
        chain.standstill = Standstill::default();
        chain.crowded = inspected.foreign.len() > inspected.entries.len();
        chain.token = inspected.page.next_token.clone().filter(|_| inspected.page.truncated);
        match (start_string(key), &chain.token) {
            (Some(last), _) => {
                chain.last_is_key = last.as_bytes() == key;
                chain.last = Some(last);
            }
            (None, Some(token)) => chain.ask = Ask::Follow(token.clone()),
            (None, None) if !truncated => {}
            (None, None) => {
                return Err(Distrust::DeadEnd { what: "after a key that is not text" });
            }
        }
        inspected.trim(&self.keys, end);
        // Ranks between the last one of the region and the segment's end are nobody's.
        let covered = match self.region.next(inspected.end.max(start)) {
            Some(next) if next < end => inspected.end.clamp(start, end),
            _ => end,
        };
        self.answered(start..covered, inspected.entries.len() as u64)?;
        self.segments.advance(id, &inspected);
        self.segments.set_state(id, if truncated { State::Ready } else { State::Ended });
        if self.segments.get(id).is_none() {
            self.chains.remove(&id);
        }
        if self.ordered {
            self.segments.hand_on_pace(start);
        }
        self.is_tried = true;
        if !self.spread {
            self.spread = true;
            if truncated && !self.ordered {
                self.segments.spread();
            }
        }
        Ok((start..covered, inspected))
    }

    /// A page without keys: more is to come, or so the server says, nothing.
    fn empty_page(&mut self, id: u64, job: &Job, inspected: &Inspected) -> Result<(), Distrust> {
        self.segments.count_empty();
        let chain = self.chains.entry(id).or_default();
        let mut state = State::Ready;
        if inspected.page.truncated {
            let token = follow(chain, job, inspected)?;
            chain.ask = match chain.ask {
                Ask::Confirm(_) => Ask::Confirm(token),
                _ => Ask::Follow(token),
            };
        } else {
            let follows_its_page = chain.last.is_some() && chain.last == job.after;
            match (std::mem::take(&mut chain.ask), chain.token.take()) {
                // The page before said that there is more.
                (Ask::Next, Some(token)) if follows_its_page => chain.ask = Ask::Confirm(token),
                (ask, _) => {
                    chain.claim = Claim {
                        key: job.after.clone().unwrap_or_default(),
                        basis: match ask {
                            Ask::Confirm(_) => Basis::Token,
                            _ if job.after.is_none() => Basis::Opening,
                            _ => Basis::Start,
                        },
                        proven: false,
                        disputed: self
                            .witnesses
                            .greatest()
                            .filter(|_| ask == Ask::Again)
                            .map(<[u8]>::to_vec),
                    };
                    state = State::Ended;
                    (self.spread, self.is_tried) = (true, true);
                }
            }
        }
        self.segments.set_state(id, state);
        Ok(())
    }

    /// Lists once more from claims that a later key contradicts.
    fn reopen(&mut self) {
        let ended = self.segments.iter().filter(|segment| segment.state == State::Ended);
        let ended: Vec<u64> = ended.map(|segment| segment.id).collect();
        for id in ended {
            if let Some(chain) = self.chains.get_mut(&id)
                && self.witnesses.contradict(&chain.claim.key)
                && chain.claim.disputed.as_deref() != self.witnesses.greatest()
            {
                chain.ask = Ask::Again;
                chain.claim.proven = false;
                self.evidence.absent_works = false;
                self.segments.set_state(id, State::Ready);
            }
        }
    }

    fn answered(&mut self, ranks: Range<u64>, chunks: u64) -> Result<(), Distrust> {
        if self.cover.add(&ranks, chunks) { Ok(()) } else { Err(Distrust::Overlap { ranks }) }
    }
}

/// The token to follow from a truncated page without keys.
fn follow(chain: &mut Chain, job: &Job, inspected: &Inspected) -> Result<String, Distrust> {
    chain.empty_pages += 1;
    let asks_again = chain.standstill.asks_again(&inspected.page, job.token.as_deref());
    match &inspected.page.next_token {
        None => Err(Distrust::DeadEnd { what: "has no continuation token" }),
        Some(token) if job.token.as_ref() == Some(token) && !asks_again => {
            Err(Distrust::DeadEnd { what: "leads back to itself" })
        }
        Some(_) if chain.empty_pages > MOST_EMPTY_PAGES => {
            Err(Distrust::DeadEnd { what: "leads to ever more of them" })
        }
        Some(token) => Ok(token.clone()),
    }
}
