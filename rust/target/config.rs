//! Adding to a repository's stored configuration, atomically and without taking anything away.

use icechunk::Repository;
use icechunk::config::{
    ManifestSplitCondition, ManifestSplitDim, ManifestSplitDimCondition, RepositoryConfig,
};
use icechunk::repository::{RepositoryError, RepositoryErrorKind};
use icechunk::virtual_chunks::VirtualChunkContainer;
use std::sync::Arc;

use icechunk::format::repo_info::RepoInfo;
use icechunk::format::snapshot::{ArrayShape, DimensionName};

use super::outcome;
use crate::Result;
use crate::error::TargetContext as _;
use crate::format::node_path;
use crate::plan::SplitRule;
use crate::zarr::metadata::ArraySpec;

/// What an ingest needs in the configuration.
#[derive(Debug, Clone, Default)]
pub struct Additions {
    /// Where virtual chunks are, as far as it is not configured already.
    pub containers: Vec<VirtualChunkContainer>,
    /// How the new arrays' manifests are split.
    pub splits: Vec<SplitRule>,
}

impl Additions {
    pub(super) fn is_empty(&self) -> bool {
        self.containers.is_empty() && self.splits.is_empty()
    }

    /// Writes the additions into the stored configuration.
    ///
    /// The configuration is read, added to and replaced in one compare-and-set of the repository
    /// info, so that what another client saves meanwhile stays.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Target`](crate::ErrorKind::Target) or
    /// [`ErrorKind::Access`](crate::ErrorKind::Access) when it cannot be written.
    pub async fn save(&self, repository: &Repository, url: &str) -> Result<()> {
        let stored = stored(repository, url).await?;
        if self.merged(stored.clone()) == stored {
            return Ok(());
        }
        let saved = |stored: Option<RepositoryConfig>| self.merged(stored.clone()) == stored;
        change(repository, url, |stored| self.merged(stored), saved).await
    }

    fn merged(&self, stored: Option<RepositoryConfig>) -> Option<RepositoryConfig> {
        if self.is_empty() {
            return stored;
        }
        let mut config = stored.unwrap_or_default();
        for container in &self.containers {
            config
                .virtual_chunk_containers
                .get_or_insert_default()
                .entry(container.url_prefix().to_owned())
                .or_insert_with(|| container.clone());
        }
        if !self.splits.is_empty() {
            // Icechunk takes the first rule that matches: what is configured stays in force.
            let rules = config
                .manifest
                .get_or_insert_default()
                .splitting
                .get_or_insert_with(|| icechunk::config::ManifestSplittingConfig {
                    split_sizes: Some(Vec::new()),
                })
                .split_sizes
                .get_or_insert_default();
            for (condition, sizes) in split_conditions(&self.splits) {
                if !rules.iter().any(|(existing, _)| *existing == condition) {
                    rules.push((condition, sizes));
                }
            }
        }
        Some(config)
    }
}

/// Chunks along each dimension that one manifest of an array covers, as the repository's
/// configuration has it; a dimension that is not split is one manifest long.
///
/// # Errors
///
/// [`ErrorKind::UnsupportedArray`](crate::ErrorKind) when Icechunk cannot hold the path.
pub fn effective_split(repository: &Repository, array: &ArraySpec) -> Result<Vec<u32>> {
    let layout = &array.layout;
    let extents: Vec<u32> = layout
        .grid_shape()
        .iter()
        .map(|extent| u32::try_from(*extent).unwrap_or(u32::MAX))
        .collect();
    let Some(shape) = ArrayShape::new(layout.shape().iter().copied().zip(extents.iter().copied()))
    else {
        return Ok(extents);
    };
    let names = array.dimension_names();
    let names: Vec<DimensionName> = names.iter().map(|name| name.as_deref().into()).collect();
    let config = repository.config().manifest().splitting();
    let splits = config.get_split_sizes(
        &node_path(&array.path)?,
        &shape,
        &Some(names).filter(|names| names.len() == extents.len()),
    );
    let length = |(edges, extent): (&Vec<u32>, &u32)| match edges.as_slice() {
        [first, second, _, ..] => second - first,
        _ => (*extent).max(1),
    };
    Ok(splits.0.iter().zip(&extents).map(length).collect())
}

/// The stored configuration, if there is one.
pub(super) async fn stored(repository: &Repository, url: &str) -> Result<Option<RepositoryConfig>> {
    repository
        .asset_manager()
        .fetch_repo_info()
        .await
        .and_then(|(info, _)| info.config().map_err(format_error))
        .doing(|| format!("read the configuration of {url}"))
}

/// Changes the stored configuration in one compare-and-set of the repository info, so that what
/// another client saves meanwhile stays.
///
/// # Parameters
///
/// `changed` makes the new configuration of the stored one, or nothing where it is to stay; `saved`
/// tells a stored one that has the change.
///
/// # Errors
///
/// [`ErrorKind::Target`](crate::ErrorKind::Target) or
/// [`ErrorKind::Access`](crate::ErrorKind::Access) when it cannot be written.
pub(super) async fn change(
    repository: &Repository,
    url: &str,
    changed: impl Fn(Option<RepositoryConfig>) -> Option<RepositoryConfig>,
    saved: impl Fn(Option<RepositoryConfig>) -> bool,
) -> Result<()> {
    let kept = repository.config().num_updates_per_repo_info_file();
    let update = || async {
        let update = |info: Arc<RepoInfo>, backup: &str, _| {
            let Some(config) = changed(info.config().map_err(format_error)?) else {
                return Ok(info);
            };
            let updated = info
                .set_config(repository.spec_version(), &config, backup, kept)
                .map_err(format_error)?;
            Ok(Arc::new(updated))
        };
        let retries = repository.config().repo_update_retries();
        repository.asset_manager().update_repo_info(retries, update).await.map(|_| ())
    };
    outcome::write(repository, update, outcome::when(|info| Ok(saved(info.config()?))))
        .await
        .map_err(|failure| failure.doing(|| format!("save the configuration of {url}")))
}

/// One rule for each split, shared by the arrays that have it.
fn split_conditions(splits: &[SplitRule]) -> Vec<(ManifestSplitCondition, Vec<ManifestSplitDim>)> {
    let mut shared: Vec<(&[u32], Vec<String>)> = Vec::new();
    for rule in splits {
        let path = regex::escape(&rule.path);
        match shared.iter_mut().find(|(split, _)| *split == rule.split.as_slice()) {
            Some((_, paths)) => paths.push(path),
            None => shared.push((&rule.split, vec![path])),
        }
    }
    shared
        .into_iter()
        .map(|(split, paths)| {
            let condition =
                ManifestSplitCondition::PathMatches { regex: format!("^(?:{})$", paths.join("|")) };
            let sizes = split
                .iter()
                .enumerate()
                .map(|(axis, num_chunks)| ManifestSplitDim {
                    condition: ManifestSplitDimCondition::Axis(axis),
                    num_chunks: *num_chunks,
                })
                .collect();
            (condition, sizes)
        })
        .collect()
}

fn format_error(error: icechunk::format::IcechunkFormatError) -> RepositoryError {
    RepositoryError::capture(RepositoryErrorKind::FormatError(error.kind))
}

#[cfg(test)]
mod tests {
    use icechunk::ObjectStoreConfig;

    use super::*;

    fn rule(path: &str, split: &[u32]) -> SplitRule {
        SplitRule { path: path.to_owned(), split: split.to_vec() }
    }

    #[test]
    fn arrays_with_the_same_split_share_a_rule() {
        let rules = split_conditions(&[rule("/a.b", &[5]), rule("/c", &[7]), rule("/d", &[5])]);
        let regexes: Vec<_> = rules
            .iter()
            .map(|(condition, _)| match condition {
                ManifestSplitCondition::PathMatches { regex } => regex.as_str(),
                _ => "",
            })
            .collect();
        assert_eq!(regexes, [r"^(?:/a\.b|/d)$", "^(?:/c)$"]);
    }

    #[test]
    fn what_is_configured_stays_and_adding_twice_adds_once() {
        let store = ObjectStoreConfig::LocalFileSystem("/data".into());
        let container =
            VirtualChunkContainer::new("file:///data/".to_owned(), store.clone()).unwrap();
        let mut stored = RepositoryConfig {
            inline_chunk_threshold_bytes: Some(7),
            ..RepositoryConfig::default()
        };
        let theirs = VirtualChunkContainer::new("file:///theirs/".to_owned(), store).unwrap();
        stored.set_virtual_chunk_container(theirs).unwrap();
        let additions =
            Additions { containers: vec![container], splits: vec![rule("/air", &[5, 2])] };
        let once = additions.merged(Some(stored)).unwrap();
        assert_eq!(once.inline_chunk_threshold_bytes, Some(7));
        assert_eq!(once.virtual_chunk_containers().count(), 2);
        assert_eq!(additions.merged(Some(once.clone())), Some(once));
    }
}
