//! One page, held against the request that it answers, and its keys turned into coordinates.
//!
//! A page that breaks a rule that every later step relies on is refused here. What follows from
//! that, and which ranks a good page answers for, is decided elsewhere.

use std::fmt;
use std::ops::Range;

use crate::key_order::rank_region::RankRegion;
use crate::list::array_keys::ArrayKeys;
use crate::list::paging::ScanPage;
use crate::list::paging::fetch::Fetcher;
use crate::source::page::Page;

/// Why an endpoint's listing by start-after cannot be trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Distrust {
    /// A key not greater than the string to start after.
    StartIgnored { after: String, key: String },
    /// Keys not in ascending byte order, or one twice.
    Unordered { before: String, key: String },
    /// A key that does not begin with the prefix asked for.
    OutsidePrefix { key: String },
    /// "Nothing after this", while there is this key.
    EmptyAnswer { after: String, key: String },
    /// A truncated page without keys that leads nowhere.
    DeadEnd { what: &'static str },
    /// The service says itself that it knows no start-after.
    Unsupported { message: String },
    /// Two pages claim the same chunks: an error of this program rather than of the service.
    Overlap { ranks: Range<u64> },
}

impl fmt::Display for Distrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StartIgnored { after, key } => {
                write!(f, "asked for keys after '{after}', the server sent '{key}'")
            }
            Self::Unordered { before, key } => {
                write!(f, "keys are not in byte order: '{key}' follows '{before}'")
            }
            Self::OutsidePrefix { key } => {
                write!(f, "the server sent '{key}', which is outside the prefix asked for")
            }
            Self::EmptyAnswer { after, key } => {
                write!(f, "the server sent nothing after '{after}', although '{key}' is there")
            }
            Self::DeadEnd { what } => write!(f, "a truncated page without keys {what}"),
            Self::Unsupported { message } => {
                write!(f, "the server does not list from a given key on ({message})")
            }
            Self::Overlap { ranks } => {
                write!(f, "two pages cover the chunks of ranks {ranks:?}")
            }
        }
    }
}

/// A page in good order, with its chunks and foreign keys picked out.
#[derive(Debug, Clone)]
pub(crate) struct Inspected {
    pub(crate) page: Page,
    /// Coordinates of the region's chunks, one after the other.
    pub(crate) coords: Vec<u32>,
    /// Their positions on the page.
    pub(crate) entries: Vec<u32>,
    /// The positions of keys that are neither chunks of the grid nor Zarr metadata.
    pub(crate) foreign: Vec<u32>,
    /// Ranks up to the middle key and up to the last one; 0 on an empty page.
    pub(crate) middle: u64,
    pub(crate) end: u64,
}

/// Text for a message; keys are UTF-8 nearly always.
pub(crate) fn shown(key: &[u8]) -> String {
    String::from_utf8_lossy(key).into_owned()
}

/// Checks that the keys are in ascending order and begin with `prefix`.
///
/// A key may come again as an object without bytes: some services list the marker `0/` of a
/// folder under the name of an object `0`.
pub(crate) fn check_order(page: &Page, prefix: &str) -> Result<(), Distrust> {
    let mut last: Option<&[u8]> = None;
    for (key, entry) in page.keys().zip(&page.entries) {
        if let Some(before) = last
            && (key < before || (key == before && entry.size > 0))
        {
            return Err(Distrust::Unordered { before: shown(before), key: shown(key) });
        }
        last = Some(key);
    }
    check_prefix(page.keys().next().into_iter().chain(last), prefix)
}

/// Checks that all of `keys` begin with `prefix`.
pub(crate) fn check_prefix<'a>(
    mut keys: impl Iterator<Item = &'a [u8]>,
    prefix: &str,
) -> Result<(), Distrust> {
    match keys.find(|key| !key.starts_with(prefix.as_bytes())) {
        Some(key) => Err(Distrust::OutsidePrefix { key: shown(key) }),
        None => Ok(()),
    }
}

/// Checks a page of `keys` that was asked for after `after`, and finds the chunks of `region`.
pub(crate) fn inspect(
    page: Page,
    keys: &ArrayKeys,
    region: &RankRegion,
    after: Option<&str>,
) -> Result<Inspected, Distrust> {
    check_order(&page, keys.prefix())?;
    if let (Some(after), Some(first)) = (after, page.keys().next())
        && first <= after.as_bytes()
    {
        return Err(Distrust::StartIgnored { after: after.to_owned(), key: shown(first) });
    }
    Ok(decode(page, keys, region))
}

/// Finds the chunks of `region` and the foreign keys on a page.
pub(crate) fn decode(page: Page, keys: &ArrayKeys, region: &RankRegion) -> Inspected {
    let order = keys.order();
    let grid = order.grid_shape();
    let mut coord = vec![0; grid.len()];
    let mut coords = Vec::with_capacity(page.len() * grid.len());
    let mut entries = Vec::with_capacity(page.len());
    let mut foreign = Vec::new();
    let mut last: &[u8] = &[];
    for (index, key) in (0_u32..).zip(page.keys()) {
        let relative = keys.relative(key).unwrap_or_default();
        // The second of two equal keys is a folder's marker, see `check_order`.
        let marker = index > 0 && key.last() == last.last() && key == last;
        if !marker && order.encoding().decode(relative, grid, &mut coord) {
            if region.contains(&coord) {
                coords.extend_from_slice(&coord);
                entries.push(index);
            }
        } else if !ArrayKeys::is_metadata(relative) {
            foreign.push(index);
        }
        last = key;
    }
    let rank_after = |index: Option<usize>| {
        index
            .filter(|index| *index < page.len())
            .map_or(0, |index| keys.rank_after(page.key(index)))
    };
    let middle = rank_after(page.len().checked_sub(1).map(|last| last / 2));
    let end = rank_after(page.len().checked_sub(1));
    Inspected { page, coords, entries, foreign, middle, end }
}

impl Inspected {
    /// Leaves out what lies at or beyond rank `end`, where another chain has taken over.
    pub(crate) fn trim(&mut self, keys: &ArrayKeys, end: u64) {
        if self.end <= end {
            return;
        }
        let last = keys.before(end);
        let cut = self.page.partition_point(|key| key <= last.as_bytes());
        let keep = |list: &[u32]| list.partition_point(|index| (*index as usize) < cut);
        let (entries, foreign) = (keep(&self.entries), keep(&self.foreign));
        self.entries.truncate(entries);
        self.coords.truncate(entries * keys.order().grid_shape().len());
        self.foreign.truncate(foreign);
    }

    /// What a consumer gets of it.
    pub(crate) fn into_scan_page(self, ranks: Range<u64>) -> ScanPage {
        ScanPage { page: self.page, ranks, coords: self.coords, entries: self.entries }
    }
}

impl Fetcher {
    /// Counts what is delivered of a page.
    pub(crate) fn count(&self, page: &Inspected) {
        let mut stats = self.stats();
        stats.chunks += page.entries.len() as u64;
        stats.foreign_keys += page.foreign.len() as u64;
        if stats.foreign_example.is_none()
            && let Some(index) = page.foreign.first()
        {
            stats.foreign_example = Some(shown(page.page.key(*index as usize)));
        }
    }
}
