//! The part of XML that listings are written in: tags without attributes, texts with entities,
//! elements to be skipped. Whatever else XML allows is reported as unusual. Knows nothing of what
//! the elements mean.

use std::ops::Range;

use super::entity;
use super::places::offset;
use super::refusal::Refusal;

/// Elements within ignored elements may nest this deep.
const MAX_DEPTH: usize = 16;

pub(crate) type Step<T> = Result<T, Refusal>;

pub(crate) fn unusual<T>(what: &'static str) -> Step<T> {
    Err(Refusal::Unusual(what))
}

/// A text between two tags.
pub(crate) enum Text<'a> {
    /// As it stands in the body.
    Plain(&'a [u8]),
    /// Where the unescaped form stands in [`Lexer::side`].
    Escaped(Range<usize>),
}

/// A place in a document.
pub(crate) struct Lexer<'a> {
    pub body: &'a [u8],
    pub at: usize,
    /// Texts that had to be unescaped, one after another.
    pub side: Vec<u8>,
}

impl<'a> Lexer<'a> {
    /// At the first place of a body.
    pub(super) fn new(body: &'a [u8]) -> Self {
        Self { body, at: 0, side: Vec::new() }
    }

    /// Where a text will be found in the page's buffer: the body, and [`Self::side`] after it.
    pub(super) fn place(&self, text: &Text<'a>) -> Range<u32> {
        let range = match text {
            Text::Plain(text) => {
                let start = text.as_ptr() as usize - self.body.as_ptr() as usize;
                start..start + text.len()
            }
            Text::Escaped(range) => self.body.len() + range.start..self.body.len() + range.end,
        };
        offset(range.start)..offset(range.end)
    }

    /// What is still to be read.
    #[inline]
    pub(super) fn rest(&self) -> &'a [u8] {
        &self.body[self.at..]
    }

    /// Steps over `literal` if it comes next.
    #[inline]
    pub(super) fn eat<const N: usize>(&mut self, literal: &[u8; N]) -> bool {
        let eaten = self.rest().first_chunk() == Some(literal);
        if eaten {
            self.at += N;
        }
        eaten
    }

    /// Steps over `literal`, which must come next.
    pub(super) fn expect(&mut self, literal: &[u8], what: &'static str) -> Step<()> {
        if self.rest().starts_with(literal) {
            self.at += literal.len();
            Ok(())
        } else if literal.starts_with(self.rest()) {
            Err(Refusal::Incomplete)
        } else {
            unusual(what)
        }
    }

    /// Steps over white space.
    pub(super) fn skip_space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.body.get(self.at) {
            self.at += 1;
        }
    }

    /// Steps over the XML declaration, if there is one.
    pub(super) fn prolog(&mut self) -> Step<()> {
        self.skip_space();
        if self.eat(b"<?xml ") {
            let end = memchr::memmem::find(self.rest(), b"?>").ok_or(Refusal::Incomplete)?;
            if !usual_declaration(&self.rest()[..end]) {
                return unusual("XML declaration");
            }
            self.at += end + 2;
            self.skip_space();
        }
        Ok(())
    }

    /// Steps over an opening tag and gives what stands between its angle brackets.
    pub(super) fn tag(&mut self) -> Step<&'a [u8]> {
        let rest = &self.rest()[1..];
        let end = memchr::memchr(b'>', rest).ok_or(Refusal::Incomplete)?;
        self.at += end + 2;
        Ok(&rest[..end])
    }

    /// The text up to `close`, and steps over both. No element may stand in it.
    pub(super) fn leaf(&mut self, close: &[u8]) -> Step<Text<'a>> {
        let start = self.at;
        let end = memchr::memchr3(b'<', b'&', b'\r', self.rest()).ok_or(Refusal::Incomplete)?;
        self.at += end;
        if self.rest().starts_with(close) {
            self.at += close.len();
            return Ok(Text::Plain(&self.body[start..start + end]));
        }
        match self.body[self.at] {
            b'&' => {
                let rest = &self.body[start..];
                let end = memchr::memchr2(b'<', b'\r', rest).ok_or(Refusal::Incomplete)?;
                self.at = start + end;
                let from = self.side.len();
                if !entity::unescape(&rest[..end], &mut self.side) {
                    return unusual("an unknown entity");
                }
                self.expect(close, "an element or a line end within a text")?;
                Ok(Text::Escaped(from..self.side.len()))
            }
            b'\r' => unusual("a carriage return"),
            _ => {
                self.expect(close, "an element within a text")?;
                unusual("an element within a text")
            }
        }
    }

    /// Steps over white space and then one element that does not matter, unless it is one of the
    /// `known` ones in a form that was not recognised (attributes, self-closing).
    pub(super) fn ignored(&mut self, end: &[u8], known: &[&[u8]]) -> Step<()> {
        self.skip_space();
        match self.rest() {
            [] => Err(Refusal::Incomplete),
            // The end that the caller will recognise, now that the white space is gone.
            [b'<', b'/', ..] if self.rest().starts_with(end) => Ok(()),
            [b'<', b'/', ..] => self.expect(end, "the end of another element"),
            [b'<', ..] => {
                let from = self.at;
                let (name, empty) = self.name()?;
                if !known.contains(&name) {
                    self.skip_from(name, empty, 0)
                } else if empty {
                    unusual("a known element without contents")
                } else {
                    self.at = from;
                    Ok(())
                }
            }
            _ => unusual("text between elements"),
        }
    }

    /// Steps over an opening tag without attributes; gives its name, and whether the element ends
    /// with it.
    #[inline]
    fn name(&mut self) -> Step<(&'a [u8], bool)> {
        let inner = self.rest().get(1..).unwrap_or_default();
        let end = inner.iter().position(|&b| !NAME[usize::from(b)]);
        let end = end.ok_or(Refusal::Incomplete)?;
        let (name, after) = inner.split_at(end);
        let (empty, length) = match after {
            [b'>', ..] => (false, 1),
            [b'/', b'>', ..] => (true, 2),
            // As .NET writes it.
            [b' ', b'/', b'>', ..] => (true, 3),
            [b'/' | b' '] | [b' ', b'/'] => return Err(Refusal::Incomplete),
            _ => (false, 0),
        };
        if name.is_empty() || length == 0 {
            return unusual("a comment, CDATA, attribute or namespace prefix");
        }
        self.at += 1 + end + length;
        Ok((name, empty))
    }

    /// Steps over the rest of an element whose opening tag has just been read.
    fn skip_from(&mut self, name: &[u8], empty: bool, depth: usize) -> Step<()> {
        if empty {
            return Ok(());
        }
        if depth == MAX_DEPTH {
            return unusual("deeply nested elements");
        }
        loop {
            let end = memchr::memchr(b'<', self.rest()).ok_or(Refusal::Incomplete)?;
            self.at += end;
            if self.eat(b"</") {
                self.expect(name, "an end of another element")?;
                return self.expect(b">", "an end of another element");
            }
            let (name, empty) = self.name()?;
            self.skip_from(name, empty, depth + 1)?;
        }
    }
}

/// Whether this is `version="1.0"`, perhaps with UTF-8 as its encoding, perhaps standalone.
fn usual_declaration(text: &[u8]) -> bool {
    let mut text = text.trim_ascii().to_ascii_lowercase();
    for byte in &mut text {
        if *byte == b'\'' {
            *byte = b'"';
        }
    }
    let mut rest = text.as_slice();
    for standalone in [&b" standalone=\"yes\""[..], b" standalone=\"no\""] {
        rest = rest.strip_suffix(standalone).unwrap_or(rest);
    }
    rest = rest.strip_suffix(b" encoding=\"utf-8\"").unwrap_or(rest);
    rest == b"version=\"1.0\""
}

/// The bytes of names without a namespace.
const NAME: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0u8;
    while byte < 128 {
        table[byte as usize] = byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
        byte += 1;
    }
    table
};
