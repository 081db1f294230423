//! Keys known to be there, against which a server's "nothing follows" is held.
//!
//! The greatest key that any page has shown contradicts every claim that nothing follows a lesser
//! one; and asking for what follows a string just before a known key must give that key. When to
//! ask, and what a contradiction leads to, is decided in [`ranked`](crate::list::ranked).

use crate::source::page::Page;

/// A key that was listed, and a string less than it with no other key in between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Witness {
    before: String,
    /// Whether that string is a key, the one before.
    before_is_key: bool,
    pub(crate) key: Vec<u8>,
}

/// The witnesses of one listing: the greatest key, and a few in case that one is deleted.
#[derive(Debug, Clone, Default)]
pub(crate) struct Witnesses {
    greatest: Option<Witness>,
    others: Vec<Witness>,
    /// Whether any key was ever listed, even if it was not found again.
    any: bool,
}

/// Witnesses that are kept besides the greatest.
const OTHERS: usize = 4;

impl Witness {
    /// The last key of an ordered page that was asked for after `after`.
    fn last_of(page: &Page, after: Option<&str>) -> Option<Self> {
        let key = page.keys().next_back()?;
        let neighbour = page.keys().rev().find(|other| *other < key);
        let before = match (neighbour, after) {
            (Some(neighbour), _) => readable(neighbour),
            (None, Some(after)) => after.to_owned(),
            // The only key there is; any string before it will do.
            (None, None) => {
                let mut before = readable(key);
                before.pop();
                before
            }
        };
        Some(Self { before, before_is_key: neighbour.is_some(), key: key.to_vec() })
    }

    /// A string after which the key is the first; where that is possible, not a key itself.
    pub(crate) fn question(&self) -> String {
        // A hyphen sorts before both separators and all digits, and is plain in every URL.
        let absent = format!("{}-", self.before);
        if absent.as_bytes() < self.key.as_slice() { absent } else { self.before.clone() }
    }
}

impl Witnesses {
    /// Takes note of a page that was asked for after `after`.
    pub(crate) fn note(&mut self, page: &Page, after: Option<&str>) {
        let Some(key) = page.keys().next_back() else {
            return;
        };
        self.any = true;
        let greater = self.greatest().is_none_or(|greatest| key > greatest);
        if !greater && self.others.len() >= OTHERS {
            return;
        }
        let Some(witness) = Witness::last_of(page, after) else {
            return;
        };
        if self.others.len() < OTHERS && self.others.iter().all(|other| other.key != witness.key) {
            self.others.push(witness.clone());
        }
        if greater {
            self.greatest = Some(witness);
        }
    }

    /// Whether no page had a key.
    pub(crate) fn is_none(&self) -> bool {
        !self.any
    }

    /// The greatest key seen, unless it was not found again.
    pub(crate) fn greatest(&self) -> Option<&[u8]> {
        self.greatest.as_ref().map(|witness| witness.key.as_slice())
    }

    /// Whether a key greater than `key` was seen.
    pub(crate) fn contradict(&self, key: &str) -> bool {
        self.greatest().is_some_and(|greatest| greatest > key.as_bytes())
    }

    /// Whom to ask about.
    pub(crate) fn choose(&self) -> Option<&Witness> {
        self.greatest.as_ref()
    }

    /// A witness, and a key after which it is the first.
    pub(crate) fn neighbours(&self) -> Option<(&Witness, &str)> {
        let mut known = self.greatest.iter().chain(&self.others);
        known.find(|witness| witness.before_is_key).map(|found| (found, found.before.as_str()))
    }

    /// The least key known: something follows it, unless it is the only one.
    pub(crate) fn least(&self) -> Option<&[u8]> {
        self.others.iter().chain(&self.greatest).map(|witness| witness.key.as_slice()).min()
    }

    /// Forgets a key that is there no more.
    pub(crate) fn retract(&mut self, key: &[u8]) {
        self.others.retain(|other| other.key != key);
        if self.greatest() == Some(key) {
            self.greatest = self.others.iter().max_by(|a, b| a.key.cmp(&b.key)).cloned();
        }
    }
}

/// The readable beginning of a key: all of it, unless it is not UTF-8.
fn readable(key: &[u8]) -> String {
    match str::from_utf8(key) {
        Ok(text) => text.to_owned(),
        Err(error) => {
            String::from_utf8_lossy(key.get(..error.valid_up_to()).unwrap_or_default()).into_owned()
        }
    }
}

/// A string to start after so that no grid key beyond `key` is passed over, and `key` is.
///
/// `None` when a key that is not UTF-8 admits no such string.
pub(crate) fn start_string(key: &[u8]) -> Option<String> {
    if let Ok(text) = str::from_utf8(key) {
        return Some(text.to_owned());
    }
    // What is passed over goes on with a byte that is not ASCII: no chunk.
    let text = format!("{}\u{10ffff}", readable(key));
    (text.as_bytes() > key).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::page::PageBuilder;

    fn page(keys: &[&str]) -> Page {
        let mut builder = PageBuilder::default();
        for key in keys {
            builder.push(key.as_bytes(), 1, 0, b"");
        }
        builder.finish(false, None)
    }

    #[test]
    fn the_greatest_key_is_the_first_witness() {
        let mut witnesses = Witnesses::default();
        witnesses.note(&page(&["c/1", "c/2", "c/3"]), None);
        witnesses.note(&page(&["c/1", "c/8"]), Some("c/0"));
        witnesses.note(&page(&["c/5"]), Some("c/4"));
        witnesses.note(&page(&[]), Some("c/9"));
        let greatest = witnesses.choose().unwrap().clone();
        assert_eq!((greatest.question().as_str(), greatest.key.as_slice()), ("c/1-", &b"c/8"[..]));
        assert!(witnesses.contradict("c/7") && !witnesses.contradict("c/8"));
        assert_eq!(witnesses.neighbours().unwrap().1, "c/1");
        witnesses.retract(b"c/8");
        assert_eq!(witnesses.choose().unwrap().question(), "c/4-");
        assert_eq!(witnesses.neighbours().unwrap().1, "c/2");
    }

    #[test]
    fn a_question_is_always_less_than_its_key() {
        for (keys, after) in [
            (vec!["c/0"], None),
            (vec!["c/1"], Some("c/0")),
            (vec!["c/1+", "c/1,"], None),
            (vec!["c/1", "c/1+"], None),
            (vec!["a", "é"], None),
        ] {
            let witness = Witness::last_of(&page(&keys), after).unwrap();
            assert!(witness.question().as_bytes() < witness.key.as_slice(), "{keys:?}");
        }
    }

    #[test]
    fn keys_that_are_not_utf_8_are_passed() {
        assert_eq!(start_string(b"c/1\xc3").unwrap(), "c/1\u{10ffff}");
        assert_eq!(start_string(b"c/1\xff"), None);
    }
}
