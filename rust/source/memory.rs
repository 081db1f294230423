//! A store in another library's memory, as that library listed it.
//!
//! Such a store cannot be handed over; what can is its list of objects. Nothing can be read.

use std::sync::Arc;

use super::ObjectInfo;

/// One object of a store in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryObject {
    /// Key relative to the source's root.
    pub key: String,
    /// Size, time and tag.
    pub info: ObjectInfo,
}

/// The objects of a store in memory.
#[derive(Debug, Clone, Default)]
pub struct MemorySource {
    objects: Arc<[MemoryObject]>,
}

impl MemorySource {
    /// A source of these objects; when a key comes twice, the first counts.
    #[must_use]
    pub fn new(mut objects: Vec<MemoryObject>) -> Self {
        objects.sort_by(|one, other| one.key.cmp(&other.key));
        objects.dedup_by(|later, earlier| later.key == earlier.key);
        Self { objects: objects.into() }
    }

    pub(super) fn head(&self, key: &str) -> Option<ObjectInfo> {
        let at = self.objects.binary_search_by(|object| object.key.as_str().cmp(key)).ok()?;
        self.objects.get(at).map(|object| object.info.clone())
    }

    /// The objects whose keys begin with `prefix`, in byte order.
    pub(crate) fn below<'a>(
        &'a self,
        prefix: &'a str,
    ) -> impl Iterator<Item = (&'a str, &'a ObjectInfo)> {
        let start = self.objects.partition_point(|object| object.key.as_str() < prefix);
        self.objects.iter().skip(start).map_while(move |object| {
            object.key.starts_with(prefix).then_some((object.key.as_str(), &object.info))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_below_a_prefix_come_in_order() {
        let object = |key: &str, size| MemoryObject {
            key: key.to_owned(),
            info: ObjectInfo { size, last_modified: 0, e_tag: None },
        };
        let source = MemorySource::new(vec![
            object("b/1", 1),
            object("a/2", 2),
            object("a/1", 3),
            object("a0", 4),
            object("a/2", 5),
        ]);
        let keys: Vec<_> = source.below("a/").map(|(key, info)| (key, info.size)).collect();
        assert_eq!(keys, [("a/1", 3), ("a/2", 2)]);
        assert_eq!(source.head("b/1").map(|info| info.size), Some(1));
        assert_eq!(source.head("b"), None);
    }
}
