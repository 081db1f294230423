//! Elements that do not matter, and that are mostly the same bytes in one entry as in the last.
//!
//! Two thirds of what Azure writes about a blob are such. They are recognised by comparing bytes,
//! which says no less than reading them: whole elements of the same parent have been read there.

use std::ops::Range;

use super::lexer::{Lexer, Step};

/// An entry that differs in more elements than this takes the place of the one compared with.
const MOST_DIFFERENT: usize = 4;

/// The ignored elements of one parent in an entry, in their order.
#[derive(Default)]
pub(super) struct Repeats {
    seen: Vec<Range<usize>>,
    /// The element of `seen` that should come next.
    next: usize,
    different: usize,
}

impl Repeats {
    /// Another entry begins.
    pub(super) fn rewind(&mut self) {
        if self.different > MOST_DIFFERENT {
            self.seen.clear();
        }
        (self.next, self.different) = (0, 0);
    }

    /// As [`Lexer::ignored`], for as many elements as come one after another.
    pub(super) fn ignored(&mut self, xml: &mut Lexer<'_>, end: &[u8], known: &[&[u8]]) -> Step<()> {
        if let Some(length) = self.repeated(xml) {
            xml.at += length;
            return Ok(());
        }
        let from = xml.at;
        xml.ignored(end, known)?;
        if self.next == self.seen.len() {
            self.seen.push(from..xml.at);
        } else {
            self.different += 1;
        }
        self.next += 1;
        Ok(())
    }

    /// The length of the next elements, if they are those that were seen.
    fn repeated(&mut self, xml: &Lexer<'_>) -> Option<usize> {
        let seen = self.seen.get(self.next..)?;
        let first = seen.first()?;
        let joined = seen.windows(2).take_while(|pair| pair[0].end == pair[1].start).count();
        let last = seen.get(joined)?;
        let (here, there) = (xml.rest(), xml.body.get(first.start..last.end)?);
        if here.starts_with(there) {
            self.next += joined + 1;
            return Some(there.len());
        }
        let same = here.iter().zip(there).take_while(|(one, other)| one == other).count();
        let whole = seen.iter().take_while(|range| range.end - first.start <= same).count();
        let end = seen.get(whole.checked_sub(1)?)?.end;
        self.next += whole;
        Some(end - first.start)
    }
}
