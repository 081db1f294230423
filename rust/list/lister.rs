//! How the chunks of an array are found in a store: chosen once, by what the store can do.

use std::sync::Arc;

use crate::source::page::{PageCapabilities, PageSource, StartAfter};
use crate::source::{ForeignSource, LocalSource, Source, WebSource};

/// How chunks are found in a store.
#[derive(Clone)]
pub enum Lister {
    /// Page by page: independent pages in the order of ranks where the service lists from a given
    /// key on, chains of continuation tokens where it does not.
    Pages(Arc<dyn PageSource>),
    /// The server cannot list: every key that a chunk may have is asked for.
    Predicted(WebSource),
    /// Folders are read.
    Walk(LocalSource),
    /// Another library lists the store.
    Foreign(ForeignSource),
}

impl Lister {
    /// The one for a source.
    #[must_use]
    pub fn of(source: &Source) -> Self {
        if let Some(inventory) = source.inventory() {
            return Self::Pages(Arc::new(inventory.clone()));
        }
        match source {
            Source::Bucket(source) => Self::Pages(Arc::new(source.clone())),
            Source::Web(source) => Self::Predicted(source.clone()),
            Source::Local(source) => Self::Walk(source.clone()),
            Source::Foreign(source) => Self::Foreign(source.clone()),
        }
    }

    /// What the service's listings can do; `None` where nothing is asked for page by page.
    #[must_use]
    pub fn capabilities(&self) -> Option<PageCapabilities> {
        match self {
            Self::Pages(pages) => Some(pages.capabilities()),
            Self::Predicted(_) | Self::Walk(_) | Self::Foreign(_) => None,
        }
    }

    /// Whether pages can be asked for by the rank of their first key.
    #[must_use]
    pub fn is_ranked(&self) -> bool {
        matches!(self, Self::Pages(pages) if pages.capabilities().start_after != StartAfter::None)
    }

    /// Keys in one page, which is one request; `None` where nothing is asked for page by page.
    #[must_use]
    pub fn page_size(&self) -> Option<u32> {
        self.capabilities().map(|known| known.new_keys())
    }
}
