//! Where a listing begins, and the continuation token that says so.

use crate::xml::unhex;

/// Where a listing begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum From {
    Start,
    /// Exclusive.
    After(Vec<u8>),
    Inclusive(Vec<u8>),
    /// After every key that begins with this common prefix.
    PastPrefix(Vec<u8>),
}

impl From {
    /// The continuation token that stands for it.
    pub(crate) fn token(&self) -> String {
        let (kind, key): (char, &[u8]) = match self {
            Self::Start => ('s', b""),
            Self::After(key) => ('k', key),
            Self::Inclusive(key) => ('i', key),
            Self::PastPrefix(prefix) => ('p', prefix),
        };
        let mut token = String::with_capacity(1 + key.len() * 2);
        token.push(kind);
        for byte in key {
            token.push(char::from(b"0123456789abcdef"[usize::from(byte >> 4)]));
            token.push(char::from(b"0123456789abcdef"[usize::from(byte & 15)]));
        }
        token
    }

    /// What a token stands for; none for one that is not ours.
    pub(crate) fn parse(token: &str) -> Option<Self> {
        let (kind, hex) = token.split_at_checked(1)?;
        let key = unhex(hex)?;
        match kind {
            "s" => Some(Self::Start),
            "k" => Some(Self::After(key)),
            "i" => Some(Self::Inclusive(key)),
            "p" => Some(Self::PastPrefix(key)),
            _ => None,
        }
    }
}
