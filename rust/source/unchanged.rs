//! The bytes of an object as it was when it was referenced, or an error that says that it is not
//! that any more.
//!
//! What a service says of the object comes with its bytes, and is compared: no precondition of a
//! request is trusted. What becomes of the bytes is not known here.

use bytes::Bytes;
use object_store::{GetOptions, GetRange};

use super::object::Readable as _;
use super::{BucketSource, Expected, LocalSource, ObjectInfo, Source};
use crate::{Error, ErrorKind, Result};

/// An object, or a part of it, and what it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Referenced {
    /// Relative to the source.
    pub key: String,
    /// First byte.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
    /// No later than this (seconds since 1970, rounded up).
    pub last_modified: Option<u32>,
    /// With this tag.
    pub e_tag: Option<String>,
}

impl Referenced {
    /// Why an object is not what was referenced; `None` when it is.
    #[must_use]
    pub fn difference(&self, now: Option<&ObjectInfo>) -> Option<String> {
        let Some(now) = now else { return Some("is gone".to_owned()) };
        let end = self.offset + self.length;
        // A reference to all of it has no offset; one of a part may stop anywhere.
        if now.size < end {
            return Some(format!("has {} bytes now, {end} were referenced", now.size));
        }
        let seconds = -(-now.last_modified).div_euclid(1_000_000);
        if self.last_modified.is_some_and(|time| seconds > i64::from(time)) {
            return Some("was written again since it was referenced".to_owned());
        }
        let plain = |tag: &str| tag.trim_matches('"').to_owned();
        let tag = self.e_tag.as_deref().map(plain);
        if tag.is_some() && tag != now.e_tag.as_deref().map(plain) {
            return Some("has another ETag than was referenced".to_owned());
        }
        None
    }
}

impl Source {
    /// The bytes of a reference; the inner error says what is not as it was.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Access`] or [`ErrorKind::Listing`] when the object cannot be read.
    pub async fn read_unchanged(&self, wanted: &Referenced) -> Result<Result<Bytes, String>> {
        match self {
            Self::Bucket(source) => source.read_unchanged(wanted).await,
            Self::Local(source) => source.read_unchanged(wanted).await,
            Self::Web(_) | Self::Foreign(_) => self.read_between(wanted).await,
        }
    }

    /// The bytes of a reference to a whole object, which is looked at before and after.
    async fn read_between(&self, wanted: &Referenced) -> Result<Result<Bytes, String>> {
        let before = self.head(&wanted.key).await?;
        if let Some(what) = wanted.difference(before.as_ref()) {
            return Ok(Err(what));
        }
        let Some(bytes) = self.read(&wanted.key, &Expected::default()).await? else {
            return Ok(Err("is gone".to_owned()));
        };
        let after = self.head(&wanted.key).await?;
        if let Some(what) = wanted.difference(after.as_ref()) {
            return Ok(Err(what));
        }
        let part = usize::try_from(wanted.offset).ok().zip(usize::try_from(wanted.length).ok());
        let part = part.and_then(|(start, length)| Some(start..start.checked_add(length)?));
        let part = part.filter(|part| part.end <= bytes.len());
        let info = after.unwrap_or(ObjectInfo { size: 0, last_modified: 0, e_tag: None });
        Ok(match part {
            Some(part) => whole(wanted, &info, bytes.slice(part)),
            None => Err(format!("gave {} bytes", bytes.len())),
        })
    }
}

impl BucketSource {
    async fn read_unchanged(&self, wanted: &Referenced) -> Result<Result<Bytes, String>> {
        self.look_for_credentials().await.map_err(|error| self.unreadable(&wanted.key, &error))?;
        let end = wanted.offset + wanted.length;
        let range = GetRange::Bounded(wanted.offset..end);
        let read = async {
            let options = GetOptions { range: Some(range), ..GetOptions::default() };
            let found = self.objects.get_opts(&self.path(&wanted.key)?, options).await?;
            let info = ObjectInfo {
                size: found.meta.size,
                last_modified: found.meta.last_modified.timestamp_micros(),
                e_tag: found.meta.e_tag.clone(),
            };
            Ok((info, found.bytes().await?))
        };
        match read.await {
            Ok((info, bytes)) => Ok(whole(wanted, &info, bytes)),
            Err(object_store::Error::NotFound { .. }) => Ok(Err("is gone".to_owned())),
            Err(error) => Err(self.error("read", &wanted.key, &error)),
        }
    }
}

impl LocalSource {
    async fn read_unchanged(&self, wanted: &Referenced) -> Result<Result<Bytes, String>> {
        let path = self.path(&wanted.key);
        let wanted = wanted.clone();
        let read = tokio::task::spawn_blocking(move || {
            use std::io::{Read as _, Seek as _, SeekFrom};
            let unreadable = |error: &std::io::Error| super::unreadable(&path, error);
            let before = Self::info(&path)?;
            let Some(info) = before.as_ref().filter(|info| wanted.difference(Some(info)).is_none())
            else {
                return Ok(Err(wanted.difference(before.as_ref()).unwrap_or_default()));
            };
            let mut file = std::fs::File::open(&path).map_err(|error| unreadable(&error))?;
            file.seek(SeekFrom::Start(wanted.offset)).map_err(|error| unreadable(&error))?;
            let mut bytes = Vec::new();
            file.take(wanted.length).read_to_end(&mut bytes).map_err(|error| unreadable(&error))?;
            // Whoever wrote meanwhile has left another time.
            if Self::info(&path)?.as_ref() != Some(info) {
                return Ok(Err("was written again since it was referenced".to_owned()));
            }
            Ok(whole(&wanted, info, bytes.into()))
        });
        let failed = |error: tokio::task::JoinError| {
            Error::new(ErrorKind::Listing, format!("a read did not end: {error}"))
        };
        read.await.map_err(failed)?
    }
}

/// The bytes, if they are all of the reference and the object is what it was.
fn whole(wanted: &Referenced, info: &ObjectInfo, bytes: Bytes) -> Result<Bytes, String> {
    if let Some(what) = wanted.difference(Some(info)) {
        return Err(what);
    }
    if bytes.len() as u64 != wanted.length {
        return Err(format!("gave {} bytes, {} were referenced", bytes.len(), wanted.length));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_changed_is_said() {
        let wanted = Referenced {
            key: "a".to_owned(),
            offset: 0,
            length: 5,
            last_modified: Some(10),
            e_tag: Some("\"x\"".to_owned()),
        };
        let info = |size, last_modified, tag: &str| ObjectInfo {
            size,
            last_modified,
            e_tag: Some(tag.to_owned()),
        };
        assert_eq!(wanted.difference(Some(&info(5, 9_500_000, "x"))), None);
        for (now, said) in [
            (info(4, 10, "x"), "has 4 bytes"),
            (info(5, 10_000_001, "x"), "written again"),
            (info(5, 10, "y"), "another ETag"),
        ] {
            assert!(wanted.difference(Some(&now)).unwrap().contains(said), "{said}");
        }
        assert_eq!(wanted.difference(None).as_deref(), Some("is gone"));
    }

    #[tokio::test]
    async fn a_file_is_read_where_it_is_what_it_was() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a"), b"0123456789").unwrap();
        let source = Source::Local(LocalSource::new(folder.path()).unwrap());
        let part = Referenced {
            key: "a".to_owned(),
            offset: 2,
            length: 3,
            last_modified: None,
            e_tag: None,
        };
        assert_eq!(source.read_unchanged(&part).await.unwrap().unwrap(), b"234".as_slice());
        let old = Referenced { last_modified: Some(1), ..part.clone() };
        assert!(source.read_unchanged(&old).await.unwrap().is_err());
        let gone = Referenced { key: "b".to_owned(), ..part };
        assert_eq!(source.read_unchanged(&gone).await.unwrap(), Err("is gone".to_owned()));
    }
}
