//! What was written of an array, as a value that a process can hand to another: the manifests, the
//! chunks for the log, the counts. Whoever has it can commit it; nothing here reads or writes.

use std::fmt::Display;

use icechunk::format::manifest::{ManifestExtents, ManifestRef};
use icechunk::format::snapshot::ManifestFileInfo;
use icechunk::format::{ManifestId, NodeId, Path};
use serde::{Deserialize, Serialize};

use super::{Changes, CommittedChunks, node_path};
use crate::{Error, ErrorKind, Result};

/// A manifest in the repository that no snapshot refers to yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "StoredManifest", try_from = "StoredManifest")]
pub struct WrittenManifest {
    /// What the array's node will hold.
    pub reference: ManifestRef,
    /// What the snapshot's list of files will hold.
    pub file: ManifestFileInfo,
}

/// The manifests written for one array, to be committed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "StoredManifests", try_from = "StoredManifests")]
pub struct NewManifests {
    /// The array.
    pub path: Path,
    /// Its id, which chunks are filed under.
    pub node_id: NodeId,
    /// The manifests, by the place of their bucket in the grid.
    pub written: Vec<WrittenManifest>,
    /// Manifests that they take the place of.
    pub replaced: Vec<ManifestId>,
    /// The chunks that have another reference than before, or none.
    pub chunks: CommittedChunks,
    /// How many of each kind.
    pub changes: Changes,
}

impl NewManifests {
    /// How many manifests there are, and their bytes.
    #[must_use]
    pub fn weight(&self) -> (u64, u64) {
        let bytes = self.written.iter().map(|manifest| manifest.file.size_bytes).sum();
        (self.written.len() as u64, bytes)
    }
}

/// The form of a [`WrittenManifest`] between processes: ids are text, extents pairs.
#[derive(Serialize, Deserialize)]
struct StoredManifest {
    id: String,
    extents: Vec<(u32, u32)>,
    references: u32,
    bytes: u64,
}

impl From<WrittenManifest> for StoredManifest {
    fn from(WrittenManifest { reference, file }: WrittenManifest) -> Self {
        Self {
            id: file.id.to_string(),
            extents: reference.extents.iter().map(|range| (range.start, range.end)).collect(),
            references: file.num_chunk_refs,
            bytes: file.size_bytes,
        }
    }
}

impl TryFrom<StoredManifest> for WrittenManifest {
    type Error = Error;

    fn try_from(StoredManifest { id, extents, references, bytes }: StoredManifest) -> Result<Self> {
        let (start, end): (Vec<_>, Vec<_>) = extents.into_iter().unzip();
        let id: ManifestId = parsed(&id)?;
        Ok(Self {
            reference: ManifestRef {
                object_id: id.clone(),
                extents: ManifestExtents::new(&start, &end),
            },
            file: ManifestFileInfo { id, size_bytes: bytes, num_chunk_refs: references },
        })
    }
}

/// The form of [`NewManifests`] between processes.
#[derive(Serialize, Deserialize)]
struct StoredManifests {
    path: String,
    node: String,
    written: Vec<WrittenManifest>,
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    replaced: Vec<String>,
    chunks: CommittedChunks,
    changes: Changes,
}

impl From<NewManifests> for StoredManifests {
    fn from(new: NewManifests) -> Self {
        let NewManifests { path, node_id, written, replaced, chunks, changes } = new;
        Self {
            path: path.to_string(),
            node: node_id.to_string(),
            written,
            replaced: replaced.iter().map(ToString::to_string).collect(),
            chunks,
            changes,
        }
    }
}

impl TryFrom<StoredManifests> for NewManifests {
    type Error = Error;

    fn try_from(stored: StoredManifests) -> Result<Self> {
        let StoredManifests { path, node, written, replaced, chunks, changes } = stored;
        Ok(Self {
            path: node_path(&path)?,
            node_id: parsed(&node)?,
            written,
            replaced: replaced.iter().map(|id| parsed(id)).collect::<Result<_>>()?,
            chunks,
            changes,
        })
    }
}

fn parsed<'a, Id>(text: &'a str) -> Result<Id>
where
    Id: TryFrom<&'a str, Error: Display>,
{
    Id::try_from(text).map_err(|error| {
        Error::new(ErrorKind::Mismatch, format!("{text} is not an id of Icechunk's: {error}"))
    })
}

#[cfg(test)]
mod tests {
    use super::super::KeptNative;
    use super::super::chunks::ChunkRanges;
    use super::*;

    const ID: &str = "VY76P925KR5W3M6KWP00";

    fn written(indices: impl IntoIterator<Item = u64>) -> NewManifests {
        let id = ManifestId::try_from(ID).unwrap();
        let extents = ManifestExtents::new(&[0, 20], &[10, 40]);
        let mut chunks = CommittedChunks::new(vec![100, 1_000]);
        chunks.add(ChunkRanges::of_indices(indices));
        let (changed, removed, unchanged) = (2, 1, 3);
        NewManifests {
            path: node_path("/group/air").unwrap(),
            node_id: NodeId::try_from("VY76P925KR5W3").unwrap(),
            written: vec![WrittenManifest {
                reference: ManifestRef { object_id: id.clone(), extents },
                file: ManifestFileInfo { id: id.clone(), size_bytes: 2_345, num_chunk_refs: 200 },
            }],
            replaced: vec![id],
            changes: Changes {
                added: chunks.len(),
                changed,
                removed,
                unchanged,
                ..Changes::default()
            },
            chunks,
        }
    }

    #[test]
    fn what_was_written_comes_back_from_its_text() {
        for indices in [vec![], vec![7], (0..50_000).collect(), vec![1, 2, 3, 9, 11, 12]] {
            let written = written(indices);
            let text = serde_json::to_string(&written).unwrap();
            assert_eq!(serde_json::from_str::<NewManifests>(&text).unwrap(), written);
        }
    }

    #[test]
    fn native_chunks_that_stayed_come_back_too() {
        let mut written = written([7]);
        written.changes.native = KeptNative { alike: 4, unlike: 2, alone: 1 };
        let text = serde_json::to_string(&written).unwrap();
        let back: NewManifests = serde_json::from_str(&text).unwrap();
        assert_eq!((back.changes.native.with_object(), back.weight()), (6, (1, 2_345)));
        assert_eq!(back, written);
    }

    #[test]
    fn a_dense_part_is_a_short_text() {
        let text = serde_json::to_string(&written(0..50_000)).unwrap();
        assert!(text.contains(ID) && text.contains("[[0,10],[20,40]]"), "{text}");
        assert!(text.len() < 450, "{} bytes: {text}", text.len());
    }

    #[test]
    fn text_that_is_no_id_is_refused() {
        let text = serde_json::to_string(&written([7])).unwrap().replace(ID, "?");
        let error = serde_json::from_str::<NewManifests>(&text).unwrap_err();
        assert!(error.to_string().contains("? is not an id"), "{error}");
    }
}
