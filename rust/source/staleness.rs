//! Whether a store notices that an object has changed since it was listed: asked of one object, both
//! ways, once a run.
//!
//! Icechunk reads with the listed time (If-Unmodified-Since) or tag (If-Match). A server that
//! ignores the condition gives other bytes in silence; one that takes equal for later refuses every
//! read. What follows from that is decided elsewhere.

use chrono::DateTime;
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

impl BucketSource {
    /// Asks of one object, whose listed time is `last_modified` (µs since 1970), and with `tag`
    /// whether its tag is honoured instead of its time.
    ///
    /// If-Unmodified-Since with the time of Last-Modified must pass (RFC 9110, 13.1.4); with the
    /// second before it must not. Some gateways compare with the finer time of a file, or take
    /// equal for later.
    pub(super) async fn staleness(
        &self,
        key: &str,
        last_modified: i64,
        tag: bool,
    ) -> Result<Staleness> {
        let by_tag = GetOptions { if_match: Some(NO_TAG.to_owned()), ..GetOptions::default() };
        if tag {
            return Ok(if self.refuses(key, by_tag).await? {
                Staleness::ByTag
            } else {
                Staleness::Ignored
            });
        }
        let at = |second: i64| GetOptions {
            if_unmodified_since: DateTime::from_timestamp(second, 0),
            ..GetOptions::default()
        };
        let second = last_modified.div_euclid(1_000_000);
        let fraction = last_modified % 1_000_000 != 0;
        // A fraction is rounded up anyway.
        let own = fraction || !self.refuses(key, at(second)).await?;
        if !own {
            let now = self.head(key).await?;
            let unchanged = now.is_some_and(|now| now.last_modified == last_modified);
            return Ok(if unchanged { Staleness::ByNextSecond } else { Staleness::ByTime });
        }
        let earlier = second - 1;
        if self.refuses(key, at(earlier)).await? {
            Ok(Staleness::ByTime)
        } else if self.refuses(key, by_tag).await? {
            Ok(Staleness::ByTag)
        } else {
            Ok(Staleness::Ignored)
        }
    }

    /// Whether a read of the first byte is refused for its condition. Whatever else is wrong with
    /// the object is an error when it is read back.
    async fn refuses(&self, key: &str, condition: GetOptions) -> Result<bool> {
        let options = GetOptions { range: Some((0..1).into()), ..condition };
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
}
