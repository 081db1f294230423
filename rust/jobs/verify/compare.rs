//! Compares the references of manifests with what was listed, one manifest at a time; and looks at
//! references that nothing was listed for.
//!
//! A manifest is in memory while its references pass by, no longer. All of this is computation,
//! for threads that may wait.

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{DateTime, SecondsFormat};
use icechunk::config::RepositoryConfig;
use icechunk::format::ChunkIndices;
use icechunk::format::NodeId;
use icechunk::format::manifest::{Checksum, ChunkPayload, Manifest, VirtualChunkRef};

use super::differences::{Difference, Differences, Kind, Side};
use super::found::{Found, Hint, State};
use super::sample::{Candidate, Reservoir};
use crate::Result;
use crate::error::target_error;
use crate::grid::chunk_box::ChunkBox;
use crate::grid::piece::Piece;
use crate::source::Source;
use crate::target::locations::ArrayLocations;
use crate::target::origin::{absolute_url, folder_and_key, is_folder_of};
use crate::zarr::metadata::ArraySpec;

/// An array in the target, and what all comparisons of it share.
pub(super) struct Place {
    /// Position among the arrays.
    pub(super) array: usize,
    pub(super) path: String,
    pub(super) node: NodeId,
    pub(super) config: RepositoryConfig,
    pub(super) differences: Arc<Differences>,
}

/// A part of an array that was listed.
pub(super) struct ListedPart {
    pub(super) place: Arc<Place>,
    pub(super) region: ChunkBox,
    pub(super) piece: Piece,
    pub(super) source: Source,
    pub(super) locations: ArrayLocations,
    pub(super) found: Found,
}

/// A store that references may lead to, and the array as it has it.
pub(super) struct Owner {
    pub(super) source: Source,
    pub(super) array: ArraySpec,
}

impl ListedPart {
    /// Compares the references that a manifest holds of the part; gives back how many there are,
    /// and adds some to `reservoir`.
    pub(super) fn compare(
        &self,
        manifest: &Arc<Manifest>,
        reservoir: &mut Reservoir,
    ) -> Result<Compared> {
        let mut folders = Folders::default();
        let mut hint = Hint::default();
        let mut compared = Compared::default();
        let place = &self.place;
        each_reference(place, manifest, |coords, payload| {
            if !self.region.contains(&coords) {
                return Ok(());
            }
            let Some((size, state)) = self.found.take(&coords, &mut hint) else {
                compared.only_in_target += 1;
                return place.tell(coords, Kind::MissingInSource, None, Some(side_of(&payload)));
            };
            compared.both += 1;
            let kind = match &payload {
                ChunkPayload::Virtual(reference) => {
                    reservoir.offer(|| Candidate {
                        array: place.array,
                        coords: coords.clone(),
                        length: reference.length,
                        seconds: seconds_of(reference),
                    });
                    self.difference(&coords, reference, size, state, &mut folders)
                }
                // What a repository has copied needs no source; but is it what the source has?
                native => {
                    let length = native_length(native);
                    reservoir.offer(|| Candidate {
                        array: place.array,
                        coords: coords.clone(),
                        length,
                        seconds: None,
                    });
                    compared.native += 1;
                    (length != size).then_some(Kind::Length)
                }
            };
            let Some(kind) = kind else { return Ok(()) };
            let source = self.source_side(&coords, size, state);
            place.tell(coords, kind, Some(source), Some(side_of(&payload)))
        })?;
        Ok(compared)
    }

    /// Tells what was found and has no reference; gives back how many chunks that are.
    pub(super) fn left(&self) -> Result<u64> {
        let mut left = 0;
        self.found.left(|coords, size, state| {
            left += 1;
            let source = self.source_side(coords, size, state);
            self.place.tell(coords.to_vec(), Kind::MissingInTarget, Some(source), None)
        })?;
        Ok(left)
    }

    fn difference(
        &self,
        coords: &[u32],
        reference: &VirtualChunkRef,
        size: u64,
        state: State<'_>,
        folders: &mut Folders,
    ) -> Option<Kind> {
        let location = reference.location.url();
        if !self.locations.is_of(location, coords) && !self.leads_here(coords, location, folders) {
            return Some(Kind::Location);
        }
        if reference.offset != 0 || reference.length != size {
            return Some(Kind::Length);
        }
        match (&reference.checksum, state) {
            (Some(Checksum::LastModified(time)), State::Seconds(seconds))
                if seconds > 0 && time.0 != seconds =>
            {
                Some(Kind::LastModified)
            }
            (Some(Checksum::ETag(there)), State::Tag(tag)) if there.0 != tag => Some(Kind::ETag),
            // A reference without either is all that some writers make.
            _ => None,
        }
    }

    /// Whether a location is that of the chunk, by another spelling of the source's URL.
    fn leads_here(&self, coords: &[u32], location: &str, folders: &mut Folders) -> bool {
        let url = absolute_url(&self.place.config, location);
        let Some((folder, key)) = folder_and_key(&self.piece.array, &url) else { return false };
        key == self.locations.key(coords) && folders.are(&self.source, &self.piece.array, folder)
    }

    fn source_side(&self, coords: &[u32], size: u64, state: State<'_>) -> Side {
        Side {
            location: format!("{}{}", self.source.url_prefix(), self.piece.source_key(coords)),
            length: Some(size),
            last_modified: match state {
                State::Seconds(seconds) if seconds > 0 => Some(time(seconds)),
                _ => None,
            },
            e_tag: match state {
                State::Tag(tag) => Some(tag.to_owned()),
                State::Seconds(_) => None,
            },
            error: None,
        }
    }
}

/// How many chunks were compared.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Compared {
    /// Chunks that were listed and have references.
    pub(super) both: u64,
    /// References to chunks that were not listed.
    pub(super) only_in_target: u64,
    /// Those of both that are native: of these only the lengths were compared.
    pub(super) native: u64,
}

impl Compared {
    /// Counts those of another manifest too.
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            both: self.both + other.both,
            only_in_target: self.only_in_target + other.only_in_target,
            native: self.native + other.native,
        }
    }
}

/// Looks at the references of a manifest in `compared` that lie in none of the parts that were
/// listed. Those that lead to one of the owners are missing in the source; the number of all
/// others is given back too.
pub(super) fn unlisted(
    place: &Place,
    manifest: &Arc<Manifest>,
    compared: &ChunkBox,
    listed: &[ChunkBox],
    owners: &[Owner],
) -> Result<(u64, u64)> {
    let (mut missing, mut elsewhere) = (0, 0);
    let mut folders: Vec<_> = owners.iter().map(|_| Folders::default()).collect();
    each_reference(place, manifest, |coords, payload| {
        if !compared.contains(&coords) || listed.iter().any(|part| part.contains(&coords)) {
            return Ok(());
        }
        let ours = match &payload {
            ChunkPayload::Virtual(reference) => {
                let url = absolute_url(&place.config, reference.location.url());
                owners.iter().zip(&mut folders).any(|(owner, folders)| {
                    folder_and_key(&owner.array, &url)
                        .is_some_and(|(folder, _)| folders.are(&owner.source, &owner.array, folder))
                })
            }
            _ => false,
        };
        if !ours {
            elsewhere += 1;
            return Ok(());
        }
        missing += 1;
        place.tell(coords, Kind::MissingInSource, None, Some(side_of(&payload)))
    })?;
    Ok((missing, elsewhere))
}

impl Place {
    fn tell(
        &self,
        coordinates: Vec<u32>,
        kind: Kind,
        source: Option<Side>,
        target: Option<Side>,
    ) -> Result<()> {
        let array = self.path.clone();
        self.differences.push(self.array, Difference { array, coordinates, kind, source, target })
    }
}

/// Calls `look` with the coordinates and the payload of every reference of a manifest.
fn each_reference(
    place: &Place,
    manifest: &Arc<Manifest>,
    mut look: impl FnMut(Vec<u32>, ChunkPayload) -> Result<()>,
) -> Result<()> {
    let reading = || format!("read a manifest of array {}", place.path);
    let references = Arc::clone(manifest)
        .iter(place.node.clone())
        .map_err(|error| target_error(&reading(), &error.kind))?;
    for reference in references {
        let (ChunkIndices(coords), payload) =
            reference.map_err(|error| target_error(&reading(), &error.kind))?;
        look(coords, payload)?;
    }
    Ok(())
}

/// Which folders are those of an array in a source; asked of the file system once each.
#[derive(Default)]
struct Folders(HashMap<String, bool>);

impl Folders {
    fn are(&mut self, source: &Source, array: &ArraySpec, folder: &str) -> bool {
        if let Some(known) = self.0.get(folder) {
            return *known;
        }
        let is = is_folder_of(source, array, folder);
        self.0.insert(folder.to_owned(), is);
        is
    }
}

fn seconds_of(reference: &VirtualChunkRef) -> Option<u32> {
    match &reference.checksum {
        Some(Checksum::LastModified(time)) => Some(time.0),
        _ => None,
    }
}

fn side_of(payload: &ChunkPayload) -> Side {
    match payload {
        ChunkPayload::Virtual(reference) => Side {
            location: reference.location.url().to_owned(),
            length: Some(reference.length),
            last_modified: seconds_of(reference).map(time),
            e_tag: match &reference.checksum {
                Some(Checksum::ETag(tag)) => Some(tag.0.clone()),
                _ => None,
            },
            error: None,
        },
        native => Side {
            location: "a native chunk".to_owned(),
            length: Some(native_length(native)),
            ..Side::default()
        },
    }
}

/// Bytes of a native chunk.
fn native_length(payload: &ChunkPayload) -> u64 {
    match payload {
        ChunkPayload::Inline(bytes) => bytes.len() as u64,
        ChunkPayload::Ref(chunk) => chunk.length,
        _ => 0,
    }
}

fn time(seconds: u32) -> String {
    DateTime::from_timestamp(i64::from(seconds), 0)
        .map(|time| time.to_rfc3339_opts(SecondsFormat::Secs, true))
        .unwrap_or_default()
}
