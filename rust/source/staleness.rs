//! Whether a store notices that an object has changed since it was listed: asked of one object, both
//! ways, once a run.
//!
//! Icechunk reads with the listed time (If-Unmodified-Since) or tag (If-Match). A server that
//! ignores the condition silently gives other bytes; one that takes equal for later refuses every
//! read. What follows from that is decided elsewhere.

use chrono::{DateTime, Utc};
use object_store::GetOptions;

use super::bucket::BucketSource;
use crate::Result;

/// How a store tells that an object has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Staleness {
    /// By its time, to the second.
    ByTime,
    /// By its time, but it refuses reads that carry the object's own: those of the second after it
    /// pass.
    ByNextSecond,
    /// By its tag only.
    ByTag,
    /// Not at all.
    Ignored,
}

/// A tag that no object has.
const NO_TAG: &str = "\"refreeze-asks-whether-conditions-are-honoured\"";

/// Under which a read is wanted.
#[derive(Debug, Clone, Copy)]
pub(super) enum Condition<'a> {
    /// If-Unmodified-Since.
    UnmodifiedSince(DateTime<Utc>),
    /// If-Match, quotes included.
    Match(&'a str),
}

/// A server that reads can be asked of under conditions.
pub(super) trait Conditional {
    /// Whether a read of the first byte is refused for its condition, or because the object is gone.
    /// Whatever else is wrong with the object is an error when it is read back.
    async fn refuses(&self, key: &str, condition: Condition<'_>) -> Result<bool>;

    /// The time of an object now (µs since 1970), if it is there.
    async fn time_of(&self, key: &str) -> Result<Option<i64>>;
}

/// Asks of one object, whose listed time is `last_modified` (µs since 1970), and with `tag` whether
/// its tag is honoured instead of its time.
///
/// If-Unmodified-Since with the time of Last-Modified must pass (RFC 9110, 13.1.4); with the second
/// before it must not. Some gateways compare with the finer time of a file, or take equal for later.
pub(super) async fn staleness(
    source: &impl Conditional,
    key: &str,
    last_modified: i64,
    tag: bool,
) -> Result<Staleness> {
    let by_tag = Condition::Match(NO_TAG);
    if tag {
        let refused = source.refuses(key, by_tag).await?;
        return Ok(if refused { Staleness::ByTag } else { Staleness::Ignored });
    }
    let second = last_modified.div_euclid(1_000_000);
    let refuses = async |second: i64| {
        let time = DateTime::from_timestamp(second, 0).unwrap_or(DateTime::UNIX_EPOCH);
        source.refuses(key, Condition::UnmodifiedSince(time)).await
    };
    let fraction = last_modified % 1_000_000 != 0;
    // A fraction is rounded up anyway.
    let own = fraction || !refuses(second).await?;
    if !own {
        let unchanged = source.time_of(key).await? == Some(last_modified);
        return Ok(if unchanged { Staleness::ByNextSecond } else { Staleness::ByTime });
    }
    let earlier = second - 1;
    if refuses(earlier).await? {
        Ok(Staleness::ByTime)
    } else if source.refuses(key, by_tag).await? {
        Ok(Staleness::ByTag)
    } else {
        Ok(Staleness::Ignored)
    }
}

impl Conditional for BucketSource {
    async fn refuses(&self, key: &str, condition: Condition<'_>) -> Result<bool> {
        let mut options = GetOptions { range: Some((0..1).into()), ..GetOptions::default() };
        match condition {
            Condition::UnmodifiedSince(time) => options.if_unmodified_since = Some(time),
            Condition::Match(tag) => options.if_match = Some(tag.to_owned()),
        }
        let read = async { self.objects.get_opts(&self.path(key)?, options).await };
        match read.await {
            // What is gone is not read either.
            Err(
                object_store::Error::Precondition { .. } | object_store::Error::NotFound { .. },
            ) => Ok(true),
            Ok(_) => Ok(false),
            Err(error) => Err(self.error("read", key, &error)),
        }
    }

    async fn time_of(&self, key: &str) -> Result<Option<i64>> {
        Ok(self.head(key).await?.map(|now| now.last_modified))
    }
}
