//! How many chunks lie below an array's folder, from a few of its folders.
//!
//! A folder of many is taken to hold as much as the mean of a few that are spread over them, level
//! by level. Only names are read, never the files.

use std::path::{Path, PathBuf};

use super::Density;
use crate::error::chain;
use crate::grid::chunk_box::ChunkBox;
use crate::list::walk::{Kind, Meaning, kind_of, meaning};
use crate::source::{LocalSource, is_absent, unreadable};
use crate::zarr::metadata::ArraySpec;
use crate::{Error, ErrorKind, Result};

/// Estimates the chunks of `region`; of each folder's folders at most about `folders` are read.
pub(super) async fn sample(
    source: &LocalSource,
    array: &ArraySpec,
    region: &ChunkBox,
    folders: usize,
) -> Result<Density> {
    let root = source.path(&array.source_path);
    let walk = Walk { array: array.clone(), region: region.clone() };
    let sampled = tokio::task::spawn_blocking(move || {
        let mut read = 0;
        let found = walk.below(&root, &[], false, folders.max(1), &mut read)?;
        Ok((found, read))
    });
    let (found, list_requests) =
        sampled.await.map_err(|error| Error::new(ErrorKind::Listing, chain(&error)))??;
    let chunks_expected = found.chunks.min(region.chunks());
    Ok(Density { chunks_expected, exact: found.exact, list_requests })
}

struct Walk {
    array: ArraySpec,
    region: ChunkBox,
}

/// Chunks below a folder.
struct Found {
    chunks: u64,
    exact: bool,
}

/// A folder of chunks of the region, and the coordinates that lead to it.
type Below = (Vec<u32>, PathBuf);

impl Walk {
    /// Chunks below a folder that the coordinates `coords` lead to, from `share` of its folders.
    fn below(
        &self,
        folder: &Path,
        coords: &[u32],
        below_lead: bool,
        share: usize,
        read: &mut u64,
    ) -> Result<Found> {
        let (mut chunks, mut folders) = self.entries(folder, coords, below_lead, read)?;
        // Neighbours in the grid, so that those that are read lie at even distances.
        folders.sort_unstable();
        let chosen = folders.len().min(share);
        let mut exact = chosen == folders.len();
        let mut sum = 0;
        for part in 0..chosen {
            // The middle of each of as many equal parts.
            let place = (2 * part + 1) * folders.len() / (2 * chosen);
            let Some((coords, path)) = folders.get(place) else { continue };
            let found = self.below(path, coords, true, (share / chosen).max(1), read)?;
            sum += u128::from(found.chunks);
            exact &= found.exact;
        }
        if chosen > 0 {
            let scaled = (sum * folders.len() as u128).div_ceil(chosen as u128);
            chunks += u64::try_from(scaled).unwrap_or(u64::MAX);
        }
        Ok(Found { chunks, exact })
    }

    /// The chunks of the region in one folder, and the folders that lead to more.
    fn entries(
        &self,
        folder: &Path,
        coords: &[u32],
        below_lead: bool,
        read: &mut u64,
    ) -> Result<(u64, Vec<Below>)> {
        let (mut chunks, mut folders) = (0, Vec::new());
        let entries = match std::fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if is_absent(&error) => return Ok((chunks, folders)),
            Err(error) => return Err(unreadable(folder, &error)),
        };
        *read += 1;
        for entry in entries {
            let entry = entry.map_err(|error| unreadable(folder, &error))?;
            let Kind::Of { kind, .. } = kind_of(&entry) else { continue };
            let name = entry.file_name();
            let name = name.as_encoded_bytes();
            let (array, region) = (&self.array, &self.region);
            let mut coords = coords.to_vec();
            match meaning(array, region, below_lead, &mut coords, name, kind.is_dir()) {
                Meaning::Folder => folders.push((coords, entry.path())),
                Meaning::Chunk => chunks += 1,
                Meaning::Outside | Meaning::Stranger => {}
            }
        }
        Ok((chunks, folders))
    }
}
