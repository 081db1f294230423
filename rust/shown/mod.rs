//! What of a text may be shown: every message, hint and log record goes through [`text`].
//!
//! Secrets are taken out, control characters become escapes, and what is too long is cut in its
//! middle. Which values are secret is known by [`secrets`]; what a server said is judged by
//! `answer`. Who shows a text, and where, is not known here.

pub(crate) mod answer;
pub mod secrets;

use std::borrow::Cow;
use std::fmt::Write as _;

/// A word (a key, a name, a separator) that is longer is cut in its middle.
const LONGEST_WORD: usize = 320;

/// A message that is longer is cut in its middle.
const LONGEST_TEXT: usize = 1_200;

/// A text as it may be shown, on one line: without secrets, control characters as escapes, and not
/// longer than a reader can use.
///
/// Doing so twice changes nothing.
#[must_use]
pub fn text(text: &str) -> String {
    // Secrets first: of one that was cut or escaped, a half would remain.
    let redacted = secrets::redact(text);
    let escaped = escaped(&redacted);
    let words: Vec<_> = escaped.split(' ').map(|word| cut(word, LONGEST_WORD)).collect();
    cut(&words.join(" "), LONGEST_TEXT).into_owned()
}

/// Control characters, line separators and what reverses the direction of writing as escapes.
fn escaped(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unprintable) {
        return text.into();
    }
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        // Writing to a string cannot fail.
        let _ = match character {
            '\n' => write!(escaped, "\\n"),
            '\r' => write!(escaped, "\\r"),
            '\t' => write!(escaped, "\\t"),
            other if !is_unprintable(other) => write!(escaped, "{other}"),
            other if u32::from(other) < 0x100 => write!(escaped, "\\x{:02x}", u32::from(other)),
            other => write!(escaped, "\\u{:04x}", u32::from(other)),
        };
    }
    escaped.into()
}

fn is_unprintable(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}'
        )
}

/// A text without its middle when it has more than `longest` characters.
fn cut(text: &str, longest: usize) -> Cow<'_, str> {
    if text.len() <= longest {
        return text.into();
    }
    let characters = text.chars().count();
    if characters <= longest {
        return text.into();
    }
    // The beginning says more than the end; what is put between has room in the rest.
    let (head, tail) = (longest * 3 / 5, longest / 4);
    let at = |index: usize| text.char_indices().nth(index).map_or(text.len(), |(at, _)| at);
    let left_out = characters - head - tail;
    format!("{}…({left_out} characters)…{}", &text[..at(head)], &text[at(characters - tail)..])
        .into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn control_characters_are_escapes() {
        assert_eq!(text("a\nb\u{1b}[31m\u{202e}c\u{85}"), "a\\nb\\x1b[31m\\u202ec\\x85");
        assert_eq!(text("π in one line"), "π in one line");
    }

    #[test]
    fn long_words_and_long_texts_are_cut_in_the_middle() {
        let key = format!("a{}z", "x".repeat(1 << 20));
        let shown = text(&format!("cannot read {key}: it is gone"));
        assert!(shown.len() < LONGEST_WORD + 100, "{}", shown.len());
        assert!(shown.starts_with("cannot read axxx"));
        assert!(shown.ends_with("xxz: it is gone"));
        assert!(shown.contains("characters)…"));
        let shown = text(&format!("begin {} end", "ab ".repeat(1 << 19)));
        assert!(shown.chars().count() <= LONGEST_TEXT);
        assert!(shown.starts_with("begin") && shown.ends_with("end"));
    }

    proptest! {
        /// What was shown once may be shown again, as when an error of the core becomes one of
        /// Python: nothing is cut or escaped a second time.
        #[test]
        fn showing_twice_changes_nothing(
            word in "\\PC{0,500}|[\\x00-\\x20a-z]{0,40}", times in 1_usize..400,
        ) {
            let once = text(&word.repeat(times));
            prop_assert_eq!(text(&once), once);
        }
    }
}
