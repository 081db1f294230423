//! The full object keys of one array: where its listing begins, and which key has which rank.
//!
//! Joins the array's place in the store with the key order of its grid. Asks nothing of a store.

use std::ops::Range;
use std::sync::Arc;

use crate::key_order::rank::KeyOrder;
use crate::zarr::key::ChunkKeyForm;

/// Zarr's own documents, which are neither chunks nor foreign keys below an array.
const METADATA_KEYS: [&[u8]; 5] = [b"zarr.json", b".zarray", b".zattrs", b".zgroup", b".zmetadata"];

/// One array's keys in a store.
#[derive(Debug, Clone)]
pub struct ArrayKeys {
    root: String,
    /// What every chunk key begins with.
    lead: String,
    order: Arc<KeyOrder>,
}

impl ArrayKeys {
    /// The keys of the array at `path` (empty: the store's root), without the final slash.
    pub fn new(path: &str, order: Arc<KeyOrder>) -> Self {
        let root = if path.is_empty() { String::new() } else { format!("{path}/") };
        let separator = char::from(order.encoding().separator.byte());
        let lead = match order.encoding().form {
            // The one key of a scalar; nothing sorts before it below this prefix.
            _ if order.grid_shape().is_empty() => order.encoding().encode(&[]),
            ChunkKeyForm::Default => format!("c{separator}"),
            ChunkKeyForm::V2 => String::new(),
        };
        Self { lead: format!("{root}{lead}"), root, order }
    }

    /// The order of the keys.
    pub fn order(&self) -> &Arc<KeyOrder> {
        &self.order
    }

    /// The prefix that is listed: the array's folder, so that foreign keys beside the chunks are
    /// noticed too. It ends in `/` or is empty, and for a scalar is its one key.
    pub fn prefix(&self) -> &str {
        if self.order.grid_shape().is_empty() { &self.lead } else { &self.root }
    }

    /// The string after which a listing from `rank` on starts: the key before it.
    ///
    /// Before rank 0 that is the prefix and `/`, which is less than every digit: metadata and
    /// other names that begin with a dot are passed over.
    pub fn before(&self, rank: u64) -> String {
        match rank.checked_sub(1).and_then(|before| self.order.key(before)) {
            Some(key) => format!("{}{key}", self.root),
            None if rank == 0 && self.order.grid_shape().is_empty() => self.root.clone(),
            None if rank == 0 => format!("{}/", self.lead),
            None => format!("{}\u{10ffff}", self.lead),
        }
    }

    /// What the keys of all chunks with this leading coordinate begin with, and no others; the array
    /// has two dimensions or more.
    pub fn below(&self, leading: u64) -> String {
        format!("{}{leading}{}", self.lead, char::from(self.order.encoding().separator.byte()))
    }

    /// The ranks of the keys of the grid that begin with `prefix`, which ends where a coordinate
    /// does.
    pub fn ranks_below(&self, prefix: &str) -> Range<u64> {
        let start = if prefix == self.prefix() { 0 } else { self.rank_after(prefix.as_bytes()) };
        let mut end = prefix.as_bytes().to_vec();
        end.push(0xff);
        start..self.rank_after(&end)
    }

    /// `key` without the array's path; `None` when it is not below the array.
    pub fn relative<'a>(&self, key: &'a [u8]) -> Option<&'a [u8]> {
        key.strip_prefix(self.root.as_bytes())
    }

    /// How many keys of the grid are not greater than the full key `key`.
    pub fn rank_after(&self, key: &[u8]) -> u64 {
        match self.relative(key) {
            Some(relative) => self.order.rank_after(relative),
            None if key < self.root.as_bytes() => 0,
            None => self.order.len(),
        }
    }

    /// Whether a key, relative to the array, is one of Zarr's own documents.
    pub fn is_metadata(relative: &[u8]) -> bool {
        METADATA_KEYS.contains(&relative)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zarr::key::ChunkKeyEncoding;

    fn keys(path: &str, name: &str, separator: &str, grid: &[u64]) -> ArrayKeys {
        let encoding = ChunkKeyEncoding::parse(name, separator).unwrap();
        ArrayKeys::new(path, Arc::new(KeyOrder::new(encoding, grid).unwrap()))
    }

    #[test]
    fn listings_begin_before_the_first_chunk_and_after_the_metadata() {
        for (name, separator) in [("default", "/"), ("default", "."), ("v2", "/"), ("v2", ".")] {
            let keys = keys("a/b", name, separator, &[12, 3]);
            assert_eq!(keys.prefix(), "a/b/");
            assert_eq!(keys.rank_after(keys.before(0).as_bytes()), 0);
            assert!(keys.before(0).as_str() > "a/b/.zattrs");
            assert!(keys.before(0) < keys.before(1));
            assert_eq!(keys.rank_after(keys.before(36).as_bytes()), 36);
        }
        assert_eq!(keys("", "v2", ".", &[2]).before(0), "/");
        assert_eq!(keys("a", "v2", ".", &[]).prefix(), "a/0");
        assert!(keys("a", "default", ".", &[]).before(0).as_str() < "a/c");
    }

    #[test]
    fn leading_coordinates_are_prefixes() {
        for (name, separator, prefix) in [("default", "/", "a/c/1/"), ("v2", ".", "a/1.")] {
            let keys = keys("a", name, separator, &[12, 3]);
            assert_eq!(keys.below(1), prefix);
            assert_eq!(keys.ranks_below(prefix), 3..6);
            assert_eq!(keys.ranks_below(&keys.below(10)), 6..9);
            assert_eq!(keys.ranks_below("a/"), 0..36);
        }
        assert_eq!(keys("", "v2", "/", &[4]).ranks_below(""), 0..4);
        assert_eq!(keys("a", "v2", "/", &[]).ranks_below("a/0"), 0..1);
    }

    #[test]
    fn keys_elsewhere_have_a_rank_too() {
        let keys = keys("b", "v2", "/", &[5]);
        assert_eq!((keys.rank_after(b"a/9"), keys.rank_after(b"c")), (0, 5));
        assert_eq!((keys.rank_after(b"b"), keys.rank_after(b"b/3")), (0, 4));
    }
}
