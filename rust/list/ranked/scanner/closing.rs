//! What must be seen before "nothing follows" is believed.
//!
//! When all chains have ended, a known key is asked for from a string just before it that is no
//! key, and where a claim rests on it, also from the key before it. A server that says "nothing"
//! to every start-after, or to such as are no keys, fails here; so does one that called a page
//! complete although more followed. When no page of the region had a key, or only one key was ever
//! seen, the beginning of the array is looked at too. What follows from a failure is decided
//! elsewhere.

use super::{Basis, Chain, Distrust, Inspected, Job, Purpose, Scanner, follow, shown};
use crate::list::ranked::scanner::Ask;

/// Questions that are asked when known keys are not found again: they may have been deleted.
const MOST_QUESTIONS: u32 = 5;

/// What this server was seen to do right.
#[derive(Debug, Default)]
pub(super) struct Evidence {
    /// Whether the beginning of the array, a page without a start-after, had all its keys; unknown
    /// until it is asked for.
    seen_all: Option<bool>,
    /// A string that is no key was answered with the key that follows, for the claims of now.
    pub(super) absent_works: bool,
    /// A key was answered with a later one, at any time.
    pub(super) present_works: bool,
    /// The question being asked: from where, and which key is expected (any, when it is empty).
    question: Chain,
    asked_after: String,
    asked_key: Vec<u8>,
    failed_questions: u32,
}

impl Scanner {
    /// All chains have ended: what is still needed to believe it.
    pub(super) fn closing_job(&mut self) -> Result<Option<Job>, Distrust> {
        let nothing_seen = self.witnesses.is_none();
        let proven =
            self.segments.iter().filter_map(|segment| self.chains.get(&segment.id)).all(|chain| {
                let claim = &chain.claim;
                claim.proven
                    || (nothing_seen
                        && (self.evidence.seen_all == Some(true) || claim.basis == Basis::Opening))
            });
        if proven {
            let rest: Vec<u64> = self.segments.iter().map(|segment| segment.id).collect();
            for id in rest {
                if let Some(segment) = self.segments.remove(id) {
                    self.answered(segment.position..segment.end, 0)?;
                }
            }
            return Ok(None);
        }
        let token = match &self.evidence.question.ask {
            Ask::Follow(token) => Some(token.clone()),
            _ => None,
        };
        let lone = self.evidence.absent_works && self.witnesses.neighbours().is_none();
        if nothing_seen || lone && self.evidence.seen_all.is_none() {
            let purpose = Purpose::Opening;
            return Ok(Some(Job { purpose, after: None, after_is_key: false, token, max_keys: 3 }));
        }
        // The key that is to follow, where it is known, and the string before it.
        let question = match (self.evidence.absent_works, self.witnesses.neighbours()) {
            (false, _) => {
                self.witnesses.choose().map(|witness| (witness.key.clone(), witness.question()))
            }
            (true, Some((witness, before))) => Some((witness.key.clone(), before.to_owned())),
            (true, None) => self
                .witnesses
                .least()
                .and_then(|key| Some((Vec::new(), str::from_utf8(key).ok()?.to_owned()))),
        };
        match question {
            Some((key, after)) if self.evidence.failed_questions < MOST_QUESTIONS => {
                self.evidence.asked_key = key;
                self.evidence.asked_after.clone_from(&after);
                let purpose = Purpose::Witness;
                Ok(Some(Job {
                    purpose,
                    after: Some(after),
                    after_is_key: false,
                    token,
                    max_keys: 3,
                }))
            }
            _ => Err(Distrust::EmptyAnswer {
                key: shown(self.witnesses.greatest().unwrap_or(&self.evidence.asked_key)),
                after: std::mem::take(&mut self.evidence.asked_after),
            }),
        }
    }

    /// The answer to a question that is asked to be sure of the others.
    pub(super) fn closing_page(
        &mut self,
        job: &Job,
        inspected: &Inspected,
    ) -> Result<(), Distrust> {
        if inspected.page.is_empty() && inspected.page.truncated {
            let token = follow(&mut self.evidence.question, job, inspected)?;
            self.evidence.question.ask = Ask::Follow(token);
            return Ok(());
        }
        self.evidence.question = Chain::default();
        if job.purpose == Purpose::Opening {
            // A complete page that lacks a key which is known is none.
            let seen_all = !inspected.page.truncated
                && self.witnesses.greatest().is_none_or(|greatest| {
                    inspected.page.keys().next_back().is_some_and(|last| last >= greatest)
                });
            self.evidence.seen_all = Some(seen_all);
            if seen_all && self.evidence.absent_works && !inspected.page.is_empty() {
                self.prove(true);
            }
            return Ok(());
        }
        let first = inspected.page.keys().next();
        if !first.is_some_and(|first| {
            self.evidence.asked_key.is_empty() || first == self.evidence.asked_key
        }) {
            self.evidence.failed_questions += 1;
            self.witnesses.retract(&self.evidence.asked_key);
            return Ok(());
        }
        self.evidence.present_works |= self.evidence.absent_works;
        self.evidence.absent_works = true;
        let start_trusted = self.evidence.present_works || self.evidence.seen_all == Some(true);
        for chain in self.chains.values() {
            let claim = &chain.claim;
            if claim.disputed.as_ref() == Some(&self.evidence.asked_key) {
                // The key is there, and was kept back twice.
                let (after, key) = (claim.key.clone(), shown(&self.evidence.asked_key));
                return Err(Distrust::EmptyAnswer { after, key });
            }
        }
        self.prove(start_trusted);
        Ok(())
    }

    /// Believes the claims that a known key was found for; with `start_trusted`, those too that rest
    /// on "nothing follows this string".
    fn prove(&mut self, start_trusted: bool) {
        for chain in self.chains.values_mut() {
            chain.claim.proven |= start_trusted || chain.claim.basis != Basis::Start;
        }
    }
}
