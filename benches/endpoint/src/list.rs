//! Builds one page of `ListObjectsV2`: where it begins, where it ends, and its token. Misbehaviour
//! of contents is applied here; how the page travels is `server`'s business.

use crate::asked::{Dialect, ListRequest, Page};
use crate::bucket::Bucket;
use crate::entries::Writer;
use crate::faults::{Faults, StartAfter, Strike};
use crate::merge::Merge;
use crate::start::From;

/// Where the listing asked for begins, misbehaviour of `start-after` included.
/// `None` means that the answer is an empty page.
///
/// # Errors
/// `Err` when the token is not one of ours.
pub(crate) fn begin(
    bucket: &Bucket,
    request: &ListRequest,
    faults: &Faults,
) -> Result<Option<From>, ()> {
    if let Some(token) = &request.token {
        return From::parse(token).map(Some).ok_or(());
    }
    let Some(key) = request.start_after.clone().filter(|key| !key.is_empty()) else {
        return Ok(Some(From::Start));
    };
    Ok(match faults.start_after {
        StartAfter::Ignored => Some(From::Start),
        StartAfter::IgnoredUnlessExists if bucket.find(&key).is_none() => Some(From::Start),
        StartAfter::Honoured | StartAfter::IgnoredUnlessExists
            if request.dialect == Dialect::S3 =>
        {
            Some(From::After(key))
        }
        StartAfter::Empty => None,
        StartAfter::Honoured | StartAfter::IgnoredUnlessExists | StartAfter::Inclusive => {
            Some(From::Inclusive(key))
        }
    })
}

/// Appends the entries of one page to `out`.
pub(crate) fn page(
    bucket: &Bucket,
    request: &ListRequest,
    from: &From,
    faults: &Faults,
    strike: Strike,
    out: &mut Vec<u8>,
) -> Page {
    if strike.empty_truncated {
        return Page { truncated: true, next_token: Some(from.token()), ..Page::default() };
    }
    let max_keys = if strike.short_page {
        request.max_keys.min(faults.short_page_keys)
    } else if faults.ignore_max_keys {
        usize::MAX
    } else {
        request.max_keys
    };
    let mut writer = Writer {
        out,
        starts: Vec::with_capacity(max_keys.min(1024)),
        url_encoded: request.url_encoded,
        dialect: request.dialect,
        folders: Vec::new(),
        last: From::Start,
        date: <(String, String)>::default(),
    };
    let prefix: &[u8] = if faults.ignore_prefix { b"" } else { &request.prefix };
    let mut merge = Merge::new(bucket, faults, prefix, from);
    while writer.starts.len() < max_keys {
        if request.delimiter.is_empty() {
            if !merge.write_run(&mut writer, max_keys) {
                break;
            }
        } else if !merge.write_grouped(&mut writer, &request.delimiter, prefix.len()) {
            break;
        }
    }
    let exact_end = faults.truncated_at_exact_end && writer.starts.len() == max_keys;
    let more = max_keys > 0 && (merge.head().is_some() || exact_end);
    let mut page = Page {
        count: writer.starts.len(),
        truncated: more && !strike.short_page,
        next_token: None,
        folders: Vec::new(),
    };
    if page.truncated && !faults.omit_token {
        page.next_token = Some(match &request.token {
            Some(token) if faults.token_loop => token.clone(),
            _ => writer.last.token(),
        });
    }
    if strike.outside_key {
        writer.start();
        writer.entry(b"!outside/key", "2024-05-06T07:08:09.123Z", None, 1, true);
        page.count += 1;
    }
    writer.reorder(faults);
    page.folders = writer.folders;
    page
}
