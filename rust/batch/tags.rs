//! The `ETag`s of a batch's objects, one after the other in two allocations. A reference holds the
//! place of its own where others hold a time.

/// `ETag`s by the order in which they were added.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tags {
    text: Vec<u8>,
    ends: Vec<usize>,
}

impl Tags {
    /// Adds one and gives its place; `None` when there are 2³² already.
    pub(super) fn push(&mut self, tag: &str) -> Option<u32> {
        let place = u32::try_from(self.ends.len()).ok()?;
        self.text.extend_from_slice(tag.as_bytes());
        self.ends.push(self.text.len());
        Some(place)
    }

    /// The one at a place; empty where there is none.
    pub(crate) fn get(&self, place: u32) -> &str {
        let place = place as usize;
        let start = place.checked_sub(1).and_then(|before| self.ends.get(before)).copied();
        let end = self.ends.get(place).copied().unwrap_or_default();
        let text = self.text.get(start.unwrap_or_default()..end).unwrap_or_default();
        str::from_utf8(text).unwrap_or_default()
    }

    /// Bytes of memory that they take, by capacity.
    pub(super) fn held_bytes(&self) -> usize {
        self.text.capacity() + self.ends.capacity() * size_of::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tag_has_its_place() {
        let mut tags = Tags::default();
        let places: Vec<_> = ["\"a\"", "", "0x8D"].iter().map(|tag| tags.push(tag)).collect();
        assert_eq!(places, [Some(0), Some(1), Some(2)]);
        assert_eq!((tags.get(0), tags.get(1), tags.get(2), tags.get(3)), ("\"a\"", "", "0x8D", ""));
    }

    #[test]
    fn what_tags_take_is_counted() {
        let mut tags = Tags::default();
        assert_eq!(tags.held_bytes(), 0);
        for _ in 0..1_000 {
            tags.push("0123456789").unwrap();
        }
        assert!((18_000..=36_000).contains(&tags.held_bytes()), "{}", tags.held_bytes());
    }
}
