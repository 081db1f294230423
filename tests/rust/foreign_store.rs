//! A store of another library, of which a test says what it holds.

use std::sync::Arc;

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt as _, StreamExt as _};
use refreeze::Result;
use refreeze::source::{ForeignObject, ForeignSource, ForeignStore, ObjectInfo, Source};

/// Objects, listed a hundred at a time, the last page first.
struct Listed(Vec<ForeignObject>);

impl ForeignStore for Listed {
    fn list(&self, prefix: &str) -> BoxStream<'static, Result<Vec<ForeignObject>>> {
        let below = self.0.iter().filter(|object| object.key.starts_with(prefix));
        let below: Vec<_> = below.cloned().collect();
        let pages: Vec<_> = below.chunks(100).rev().map(|page| Ok(page.to_vec())).collect();
        futures::stream::iter(pages).boxed()
    }

    fn head(&self, key: &str) -> BoxFuture<'static, Result<Option<ObjectInfo>>> {
        let found = self.0.iter().find(|object| object.key == key);
        let info = found.map(|object| object.info.clone());
        async move { Ok(info) }.boxed()
    }

    fn read(&self, key: &str) -> BoxFuture<'static, Result<Option<Vec<u8>>>> {
        let found = self.0.iter().any(|object| object.key == key);
        async move { Ok(found.then(|| vec![1])) }.boxed()
    }
}

/// A source with objects of one byte under these keys.
pub(crate) fn listed(keys: &[impl AsRef<str>]) -> Source {
    let info = ObjectInfo { size: 1, last_modified: 0, e_tag: None };
    let object = |key: &str| ForeignObject { key: key.to_owned(), info: info.clone() };
    let objects = keys.iter().map(|key| object(key.as_ref())).collect();
    Source::Foreign(ForeignSource::new(Arc::new(Listed(objects)), "Listed".to_owned(), None))
}
