//! Lists what lies directly below a path, for those who look for metadata: by pages as chunks are,
//! each judged and asked for again, so that an error never passes for an empty folder.
//!
//! What lies in a folder means nothing here.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use futures::{StreamExt as _, TryStreamExt as _};

use super::limit::ConcurrencyLimit;
use super::paging::fetch::{Fetcher, page_error};
use super::paging::standstill::Standstill;
use super::stats::SharedStats;
use crate::source::page::{PAGE_SIZE, Page, PageError, PageErrorKind, PageRequest, PageSource};
use crate::{Error, ErrorKind, Result};

/// Listings of a folder that lack an object which is there, before that is an error.
const MOST_CONTRADICTIONS: u32 = 4;

/// A folder to be listed.
#[derive(Debug, Clone, Default)]
pub struct FolderRequest {
    /// Its path below the source's root, without slashes at its ends.
    pub path: String,
    /// Names of objects that are known to be in it, which a listing must hold.
    pub known: Vec<String>,
}

/// What lies directly below a path, by name and in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Folder {
    /// Folders that hold objects, at any depth.
    pub folders: BTreeSet<String>,
    /// Objects.
    pub objects: BTreeSet<String>,
}

/// Lists several folders at a time.
///
/// # Errors
///
/// [`ErrorKind::Access`], [`ErrorKind::Listing`] and [`ErrorKind::SourceNotFound`] (no such bucket);
/// all name the folder.
pub async fn list_folders(
    source: Arc<dyn PageSource>,
    folders: Vec<FolderRequest>,
    limit: &Arc<ConcurrencyLimit>,
) -> Result<Vec<Folder>> {
    let fetcher = Fetcher {
        limit: Arc::clone(limit),
        retry: source.retries(),
        source,
        stats: SharedStats::default(),
    };
    futures::stream::iter(folders)
        .map(|folder| one(&fetcher, folder))
        .buffered(limit.begin())
        .try_collect()
        .await
}

async fn one(fetcher: &Fetcher, request: FolderRequest) -> Result<Folder> {
    let key = fetcher.source.key(&request.path);
    // What is newer than an inventory is not in it.
    let is_service = fetcher.source.capabilities().sends_requests;
    let prefix = if key.is_empty() { key } else { format!("{key}/") };
    let mut failures = 0;
    loop {
        let error = match all_pages(fetcher, &prefix).await? {
            Ok(folder) => {
                let Some(lacking) =
                    request.known.iter().find(|name| is_service && !folder.objects.contains(*name))
                else {
                    return Ok(folder);
                };
                let what = format!("the listing lacks '{lacking}', which is there");
                PageError::new(PageErrorKind::Transient, what)
            }
            Err(error) => error,
        };
        failures += 1;
        let wait = fetcher.retry.wait(error.kind, failures);
        let Some(wait) = wait.filter(|_| failures < MOST_CONTRADICTIONS) else {
            return Err(page_error(&prefix, &error));
        };
        tokio::time::sleep(wait).await;
    }
}

/// Reads all pages below `prefix`; the inner error is of pages that do not go together.
async fn all_pages(fetcher: &Fetcher, prefix: &str) -> Result<Result<Folder, PageError>> {
    let mut folder = Folder::default();
    let mut tokens = HashSet::new();
    let mut token: Option<String> = None;
    let mut standstill = Standstill::default();
    loop {
        let request = PageRequest {
            prefix,
            start_after: None,
            token: token.as_deref(),
            max_keys: PAGE_SIZE,
            grouped: true,
        };
        let page = fetcher.page(request).await.map_err(|error| page_error(prefix, &error))?;
        if let Err(error) = take(&mut folder, &page, prefix) {
            return Ok(Err(error));
        }
        let asks_again = standstill.asks_again(&page, token.as_deref());
        match page.next_token {
            None if page.truncated => {
                return Err(untrusted(prefix, "a truncated page has no continuation token"));
            }
            None => return Ok(Ok(folder)),
            Some(_) if asks_again => {}
            Some(next) if tokens.insert(next.clone()) => token = Some(next),
            Some(_) => {
                return Err(untrusted(prefix, "the continuation tokens go round in a circle"));
            }
        }
    }
}

/// Adds what a page holds.
fn take(folder: &mut Folder, page: &Page, prefix: &str) -> Result<(), PageError> {
    for key in page.keys().chain(page.folders()) {
        let Some(rest) = key.strip_prefix(prefix.as_bytes()) else {
            let key = String::from_utf8_lossy(key);
            let what = format!("'{key}' does not begin with what was asked for");
            return Err(PageError::new(PageErrorKind::Transient, what));
        };
        let rest = String::from_utf8_lossy(rest);
        // A service that does not put keys together has given all that are below the folder.
        match rest.split_once('/') {
            // `//` in a key; no Zarr node can be there.
            Some(("", _)) => {}
            Some((name, _)) => {
                folder.folders.insert(name.to_owned());
            }
            // The marker of the folder itself.
            None if rest.is_empty() => {}
            None => {
                folder.objects.insert(rest.into_owned());
            }
        }
    }
    Ok(())
}

fn untrusted(prefix: &str, what: &str) -> Error {
    Error::new(ErrorKind::Listing, format!("the listing of '{prefix}' cannot be trusted: {what}"))
        .with_hint("check the endpoint: this server does not list as S3 does")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::page::PageBuilder;

    #[test]
    fn a_page_is_taken_apart_by_names() {
        let mut builder = PageBuilder::default();
        for key in ["g/", "g/zarr.json", "g/b/c/0", "g//x", "g/ü"] {
            assert!(builder.push(key.as_bytes(), 1, 0, b""));
        }
        assert!(builder.push_folder(b"g/a/") && builder.push_folder(b"g/b/"));
        let page = builder.finish(false, None);
        let mut folder = Folder::default();
        take(&mut folder, &page, "g/").unwrap();
        assert_eq!(folder.folders.iter().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(folder.objects.iter().collect::<Vec<_>>(), ["zarr.json", "ü"]);
        assert!(take(&mut folder, &page, "h/").is_err());
    }
}
