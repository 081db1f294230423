//! A store that only its own library can speak to, behind the narrowest interface: it lists itself,
//! page by page, and reads single objects.
//!
//! Nothing is proven of such a listing: its library is believed, as it is with a store in memory.
//! Which library that is, and how it is called, is not known here.

use std::fmt;
use std::sync::Arc;

use futures::future::BoxFuture;
use futures::stream::BoxStream;

use super::ObjectInfo;
use crate::{Error, ErrorKind, Result};

/// One object as another library has listed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignObject {
    /// Key relative to the source's root.
    pub key: String,
    /// Size, time and tag.
    pub info: ObjectInfo,
}

/// A store of another library. Keys and prefixes are relative to the source's root.
pub trait ForeignStore: Send + Sync {
    /// The objects whose keys begin with `prefix`, which is empty or ends in `/`: in pages, in any
    /// order, and no faster than they are taken. Dropping the stream gives the listing up.
    fn list(&self, prefix: &str) -> BoxStream<'static, Result<Vec<ForeignObject>>>;

    /// Size and time of one object; `None` when it is not there.
    fn head(&self, key: &str) -> BoxFuture<'static, Result<Option<ObjectInfo>>>;

    /// The bytes of one object; `None` when it is not there.
    fn read(&self, key: &str) -> BoxFuture<'static, Result<Option<Vec<u8>>>>;
}

/// A path in a store of another library.
#[derive(Clone)]
pub struct ForeignSource {
    store: Arc<dyn ForeignStore>,
    kind: String,
    warning: Option<String>,
}

impl fmt::Debug for ForeignSource {
    /// Nothing of the store, which may know credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForeignSource").field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl ForeignSource {
    /// `kind` names the store's class in messages; `warning` is what a listing warns of.
    #[must_use]
    pub fn new(store: Arc<dyn ForeignStore>, kind: String, warning: Option<String>) -> Self {
        Self { store, kind, warning }
    }

    pub(crate) fn warning(&self) -> Option<&str> {
        self.warning.as_deref()
    }

    pub(crate) fn list(&self, prefix: &str) -> BoxStream<'static, Result<Vec<ForeignObject>>> {
        self.store.list(prefix)
    }

    pub(super) fn head(&self, key: &str) -> BoxFuture<'static, Result<Option<ObjectInfo>>> {
        self.store.head(key)
    }

    pub(super) fn read(&self, key: &str) -> BoxFuture<'static, Result<Option<Vec<u8>>>> {
        self.store.read(key)
    }

    pub(crate) fn not_referenced(&self) -> Error {
        let message =
            format!("a {} can be listed, but Icechunk cannot refer to what is in it", self.kind);
        Error::new(ErrorKind::Target, message).with_hint(
            "give the store's URL and --source-option, or write it to a folder or a bucket first",
        )
    }
}
