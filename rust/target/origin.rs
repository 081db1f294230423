//! Where the chunks of an array that is in a repository came from, read from its references.
//!
//! A reference names its object, and the object's key holds the chunk's coordinates in the source.
//! That says which source it is, however its URL is spelt now, and at which offset its chunks
//! stand; it stays when the commits that told of it have expired.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::path::PathBuf;

use icechunk::Repository;
use icechunk::asset_manager::AssetManager;
use icechunk::config::RepositoryConfig;
use icechunk::format::manifest::{ChunkPayload, ManifestRef};
use icechunk::format::snapshot::NodeData;
use icechunk::format::{ChunkIndices, NodeId, SnapshotId};
use percent_encoding::percent_decode_str;

use crate::format::files::without_cache;
use crate::format::manifest_chunks::manifest_chunks;
use crate::format::node::node_at;
use crate::source::Source;
use crate::zarr::metadata::ArraySpec;
use crate::{Error, ErrorKind, Result};

/// What an array in a repository is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Native chunks.
    Native,
    /// No chunks at all.
    Empty,
    /// References to the source that was asked about; source chunk coordinate minus target chunk
    /// coordinate along each dimension.
    Shift(Vec<i64>),
    /// References to another source only, as far as was looked: its URL, or that of an object in
    /// it whose key is none of the array's.
    Elsewhere(String),
}

/// An array in a repository, and the source and array that it may have come from.
#[derive(Debug)]
pub struct Question<'a> {
    /// The source's array; its path is the target's.
    pub array: &'a ArraySpec,
    /// Where that is.
    pub source: &'a Source,
    /// Look at the reference furthest along this dimension; otherwise at any of the source.
    pub axis: Option<usize>,
}

/// Looks at the references of an array in a snapshot.
///
/// # Errors
///
/// [`ErrorKind::Mismatch`] when there is a group at the array's path; [`ErrorKind::Target`] when the
/// repository cannot be read or the array is not there.
pub async fn origin(
    repository: &Repository,
    snapshot: &SnapshotId,
    question: Question<'_>,
) -> Result<Origin> {
    let path = &question.array.path;
    let assets = without_cache(repository);
    let reading = || format!("read array {path} in snapshot {snapshot}");
    let node = node_at(&assets, snapshot, path, reading).await?;
    let NodeData::Array { manifests, .. } = &node.node_data else {
        return Err(Error::new(ErrorKind::Mismatch, format!("{path} is a group in the target"))
            .with_hint("choose another --target-group"));
    };
    let mut manifests: Vec<&ManifestRef> = manifests.iter().collect();
    let axis = question.axis;
    let end = |manifest: &ManifestRef| {
        axis.and_then(|axis| manifest.extents.iter().nth(axis).map(|range| range.end))
    };
    manifests.sort_by_key(|manifest| Reverse(end(manifest)));
    let asked = Asked { question, config: repository.config() };
    let mut elsewhere = None;
    let mut votes = Votes::default();
    for manifest in manifests {
        let last = end(manifest).zip(axis);
        match asked.look(&assets, &node.id, manifest, last, &mut votes).await? {
            Some(Seen::Origin(origin)) => return Ok(origin),
            Some(Seen::Elsewhere(location)) => elsewhere = elsewhere.or(Some(location)),
            None => continue,
        }
        if axis.is_some() {
            break;
        }
    }
    let has_native = votes.native > 0;
    if let Some(shift) = votes.most() {
        return Ok(Origin::Shift(shift));
    }
    match elsewhere {
        None if has_native => Ok(Origin::Native),
        Some(location) => Ok(Origin::Elsewhere(asked.other_source(&location))),
        None => Ok(Origin::Empty),
    }
}

/// What a manifest shows.
enum Seen {
    Origin(Origin),
    /// A location in another source.
    Elsewhere(String),
}

/// References of the source that are asked when any will do: one of them may be wrong.
const ASKED: u64 = 64;

/// Which shift how many references tell.
#[derive(Debug, Default)]
struct Votes {
    counts: HashMap<Vec<i64>, u64>,
    asked: u64,
    /// Native chunks that were met.
    native: u64,
}

impl Votes {
    fn count(&mut self, shift: Vec<i64>) {
        *self.counts.entry(shift).or_default() += 1;
        self.asked += 1;
    }

    /// The shift that most tell; of those that equally many do, the smallest.
    fn most(self) -> Option<Vec<i64>> {
        let smallness =
            |shift: &[i64]| Reverse(shift.iter().map(|by| by.unsigned_abs()).sum::<u64>());
        self.counts
            .into_iter()
            .max_by_key(|(shift, count)| (*count, smallness(shift), Reverse(shift.clone())))
            .map(|(shift, _)| shift)
    }
}

struct Asked<'a> {
    question: Question<'a>,
    config: &'a RepositoryConfig,
}

impl Asked<'_> {
    /// Looks at the references of a manifest: with `last`, at one whose coordinate along an axis
    /// is the last before an end; otherwise at as many of the source as are asked.
    async fn look(
        &self,
        assets: &AssetManager,
        node: &NodeId,
        manifest: &ManifestRef,
        last: Option<(u32, usize)>,
        votes: &mut Votes,
    ) -> Result<Option<Seen>> {
        let path = &self.question.array.path;
        let mut elsewhere = None;
        for chunk in manifest_chunks(assets, path, node, &manifest.object_id).await? {
            let (ChunkIndices(coords), payload) = chunk?;
            if last.is_some_and(|(end, axis)| coords.get(axis).is_none_or(|c| c + 1 < end)) {
                continue;
            }
            let ChunkPayload::Virtual(reference) = payload else {
                votes.native += 1;
                if last.is_some() || (votes.native >= ASKED && votes.asked == 0) {
                    return Ok(Some(Seen::Origin(Origin::Native)));
                }
                continue;
            };
            let location = absolute_url(self.config, reference.location.url());
            if let Some(there) = self.coords_in_source(&location) {
                let shift = there.iter().zip(&coords);
                let shift = shift.map(|(there, here)| i64::from(*there) - i64::from(*here));
                if last.is_some() {
                    return Ok(Some(Seen::Origin(Origin::Shift(shift.collect()))));
                }
                votes.count(shift.collect());
                if votes.asked >= ASKED {
                    return Ok(std::mem::take(votes)
                        .most()
                        .map(|most| Seen::Origin(Origin::Shift(most))));
                }
                continue;
            }
            if last.is_some() {
                return Ok(Some(Seen::Elsewhere(location)));
            }
            elsewhere = elsewhere.or(Some(location));
        }
        Ok(elsewhere.map(Seen::Elsewhere))
    }

    /// The coordinates of a location's chunk in the source, if it lies there.
    fn coords_in_source(&self, location: &str) -> Option<Vec<u32>> {
        let array = self.question.array;
        let ndim = array.layout.ndim();
        let (folder, key) = folder_and_key(array, location)?;
        if !is_folder_of(self.question.source, array, folder) {
            return None;
        }
        // The source may have been longer than it is now.
        let mut coords = vec![0; ndim];
        let wide = vec![u64::from(u32::MAX); ndim];
        array.layout.encoding().decode(key.as_bytes(), &wide, &mut coords).then_some(coords)
    }

    /// The root of the source that a location lies in.
    fn other_source(&self, location: &str) -> String {
        let array = self.question.array;
        let folder = folder_and_key(array, location).map_or(location, |(folder, _)| folder);
        let root = folder.strip_suffix(&array.source_prefix()).unwrap_or(folder);
        root.trim_end_matches('/').to_owned()
    }
}

/// A reference's location as a URL, not percent-encoded; `config` knows the containers.
#[must_use]
pub fn absolute_url(config: &RepositoryConfig, location: &str) -> String {
    let named = location.strip_prefix("vcc://").and_then(|rest| rest.split_once('/'));
    let absolute = named.and_then(|(name, rest)| {
        let container = config.virtual_chunk_containers().find(|c| c.name() == Some(name))?;
        Some(format!("{}/{rest}", container.url_prefix().trim_end_matches('/')))
    });
    let absolute = absolute.unwrap_or_else(|| location.to_owned());
    percent_decode_str(&absolute).decode_utf8_lossy().into_owned()
}

/// Takes the URL of a chunk apart: the array's folder, with the slash at its end, and the chunk's
/// key in it.
#[must_use]
pub fn folder_and_key<'l>(array: &ArraySpec, location: &'l str) -> Option<(&'l str, &'l str)> {
    let layout = &array.layout;
    let example = layout.encoding().encode(&vec![0; layout.ndim()]);
    let mut at = location.len();
    for _ in 0..=example.matches('/').count() {
        at = location.get(..at)?.rfind('/')?;
    }
    Some(location.split_at(at + 1))
}

/// Whether a folder's URL is that of an array in a source, by another spelling maybe.
#[must_use]
pub fn is_folder_of(source: &Source, array: &ArraySpec, folder: &str) -> bool {
    let here = format!("{}{}", source.url_prefix(), array.source_prefix());
    if folder == here {
        return true;
    }
    let real = |url: &str| {
        let path = url.strip_prefix("file://").map(PathBuf::from)?;
        std::fs::canonicalize(path).ok()
    };
    matches!(source, Source::Local(_))
        && real(folder).is_some_and(|folder| Some(folder) == real(&here))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::LocalSource;
    use crate::zarr::key::ChunkKeyEncoding;
    use crate::zarr::metadata::ArrayLayout;

    fn asked_of(encoding: (&str, &str), test: impl Fn(&Asked<'_>)) {
        let encoding = ChunkKeyEncoding::parse(encoding.0, encoding.1).unwrap();
        let array = ArraySpec {
            path: "/x".to_owned(),
            source_path: "g/x".to_owned(),
            document: Vec::new(),
            layout: ArrayLayout::new(vec![10, 10], vec![1, 1], encoding).unwrap(),
            copied: false,
        };
        let source = Source::Local(LocalSource::new("/data/my air.zarr").unwrap());
        let question = Question { array: &array, source: &source, axis: None };
        test(&Asked { question, config: &RepositoryConfig::default() });
    }

    #[test]
    fn most_references_tell_the_shift() {
        let mut votes = Votes::default();
        assert_eq!(Votes::default().most(), None);
        for shift in [[-5], [7], [-5], [0]] {
            votes.count(shift.to_vec());
        }
        assert_eq!(votes.most(), Some(vec![-5]));
    }

    #[test]
    fn coordinates_are_read_from_locations() {
        for (encoding, key) in [
            (("default", "/"), "c/12/3"),
            (("default", "."), "c.12.3"),
            (("v2", "/"), "12/3"),
            (("v2", "."), "12.3"),
        ] {
            asked_of(encoding, |asked| {
                let url =
                    absolute_url(asked.config, &format!("file:///data/my%20air.zarr/g/x/{key}"));
                assert_eq!(asked.coords_in_source(&url), Some(vec![12, 3]));
                let other = format!("file:///data/other/g/x/{key}");
                assert_eq!(asked.coords_in_source(&other), None);
                assert_eq!(asked.other_source(&other), "file:///data/other");
            });
        }
    }
}
