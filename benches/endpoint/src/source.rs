//! One source of keys in byte order: the stored objects, or a computed array.

use std::collections::btree_map;
use std::iter::Peekable;

use crate::array::Array;
use crate::bucket::Stored;
use crate::cursor::Cursor;

/// One source of keys in order.
pub(crate) enum Source<'a> {
    Objects(Peekable<btree_map::Range<'a, Vec<u8>, Stored>>),
    Array { array: &'a Array, cursor: Option<Cursor<'a>>, modified: String, plain: bool },
}

impl Source<'_> {
    pub(crate) fn key(&mut self) -> Option<&[u8]> {
        match self {
            Self::Objects(range) => range.peek().map(|(key, _)| key.as_slice()),
            Self::Array { cursor, .. } => cursor.as_ref().map(Cursor::key),
        }
    }

    pub(crate) fn advance(&mut self) {
        match self {
            Self::Objects(range) => {
                range.next();
            }
            Self::Array { cursor, .. } => {
                if !cursor.as_mut().is_some_and(Cursor::advance) {
                    *cursor = None;
                }
            }
        }
    }
}
