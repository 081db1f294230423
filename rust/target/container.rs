//! The virtual chunk container of a source, which the locations of its chunks are relative to.
//!
//! Locations are `vcc://container/key`, relative to a named container whose URL prefix and store
//! settings are saved in the repository: the bytes of a manifest then do not repeat the prefix,
//! and a store that moves needs one edit. A container that is already configured and covers the
//! source is used as it is, because a new one beneath it would take over its references.

use std::collections::HashMap;

use icechunk::ObjectStoreConfig;
use icechunk::config::RepositoryConfig;
use icechunk::virtual_chunks::VirtualChunkContainer;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::locations::{ArrayLocations, Locations};
use crate::grid::piece::Piece;
use crate::plan::short_digest;
use crate::source::Source;
use crate::zarr::metadata::ArraySpec;
use crate::{Error, ErrorKind, Result};

/// Kept as they are in a location; everything else is percent-encoded (RFC 3986, unreserved, and
/// the separator of segments).
const LOCATION: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'/');

/// The settings by which a container's store is reached, by `object_store`'s names; none is secret.
#[must_use]
pub fn settings_of(store: &ObjectStoreConfig) -> HashMap<String, String> {
    match store {
        ObjectStoreConfig::S3(options)
        | ObjectStoreConfig::S3Compatible(options)
        | ObjectStoreConfig::Tigris(options) => {
            let flags = [
                ("skip_signature", options.anonymous),
                ("allow_http", options.allow_http),
                ("request_payer", options.requester_pays),
            ];
            let texts = [("region", &options.region), ("endpoint", &options.endpoint_url)];
            let on = flags.into_iter().filter(|(_, on)| *on).map(|(name, _)| (name, "true".into()));
            let given = texts.into_iter().filter_map(|(name, text)| Some((name, text.clone()?)));
            given.chain(on).map(|(name, text): (&str, String)| (name.to_owned(), text)).collect()
        }
        ObjectStoreConfig::Gcs(options) => options.clone(),
        ObjectStoreConfig::Azure(options) => {
            // Icechunk's own name for it.
            let renamed =
                |name: &str| if name == "account" { "account_name" } else { name }.to_owned();
            options.iter().map(|(name, text)| (renamed(name), text.clone())).collect()
        }
        _ => HashMap::new(),
    }
}

/// The container of a source's chunks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceContainer {
    container: VirtualChunkContainer,
    /// Where the source's root is in the container; percent-encoded, empty or ending in `/`.
    root: String,
    configured: bool,
}

impl SourceContainer {
    /// The container for `source` in a repository with the stored configuration `config`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Mismatch`] when a configured container covers the source but points to another
    /// store, or has the name that a new one would get. [`ErrorKind::Target`] when no legal prefix
    /// leads to the source, or only another library reads it.
    pub fn new(config: Option<&RepositoryConfig>, source: &Source) -> Result<Self> {
        if let Source::Foreign(foreign) = source {
            return Err(foreign.not_referenced());
        }
        let url = source.url_prefix();
        let store = source.container_store();
        let configured = || config.into_iter().flat_map(RepositoryConfig::virtual_chunk_containers);
        let covering = configured()
            .filter(|container| url.starts_with(&with_slash(container.url_prefix())))
            .max_by_key(|container| container.url_prefix().len());
        if let Some(container) = covering {
            if !same_store(&container.store, &store) {
                return Err(elsewhere(container, &url, &store, "covers"));
            }
            let root = encoded(url.get(with_slash(container.url_prefix()).len()..));
            return Ok(Self { container: container.clone(), root, configured: true });
        }
        let prefix = plain_prefix(&url);
        // Its references would be looked for there.
        let below = |container: &&VirtualChunkContainer| {
            with_slash(container.url_prefix()).starts_with(prefix)
                && !same_store(&container.store, &store)
        };
        if let Some(container) = configured().find(below) {
            return Err(elsewhere(container, &url, &store, "lies in"));
        }
        let name = container_name(prefix);
        for container in configured() {
            if container.name() == Some(name.as_str()) {
                return Err(Error::new(
                    ErrorKind::Mismatch,
                    format!(
                        "the repository has a virtual chunk container named {name} for {}, not \
                         for {prefix}",
                        container.url_prefix()
                    ),
                )
                .with_hint("rename that container, or use another target repository"));
            }
        }
        let store = match store {
            ObjectStoreConfig::LocalFileSystem(_) => {
                let folder = prefix.strip_prefix("file://").unwrap_or(prefix);
                ObjectStoreConfig::LocalFileSystem(folder.into())
            }
            store => store,
        };
        let container =
            VirtualChunkContainer::new_named(name, prefix.to_owned(), store).map_err(|error| {
                Error::new(
                    ErrorKind::Target,
                    format!("no virtual chunk container can be made for {url}: {error}"),
                )
                .with_hint("move the store to a path of letters, digits, '-', '_' and '.'")
            })?;
        let root = encoded(url.get(prefix.len()..));
        Ok(Self { container, root, configured: false })
    }

    /// The container as the repository's configuration holds it.
    #[must_use]
    pub fn container(&self) -> &VirtualChunkContainer {
        &self.container
    }

    /// Whether the repository's stored configuration already has it.
    #[must_use]
    pub fn is_configured(&self) -> bool {
        self.configured
    }

    /// The locations of one array's chunks.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::UnsupportedArray`] when Icechunk cannot hold the location of a chunk of the
    /// array.
    pub fn locations(&self, array: &ArraySpec, form: Locations) -> Result<ArrayLocations> {
        self.piece_locations(&Piece::whole(0, array), form)
    }

    /// The locations of the chunks of a piece of an array, by their coordinates in the target.
    ///
    /// # Errors
    ///
    /// As [`locations`](Self::locations).
    pub fn piece_locations(&self, piece: &Piece, form: Locations) -> Result<ArrayLocations> {
        let absolute = with_slash(self.container.url_prefix());
        let relative = self.container.name().map(|name| format!("vcc://{name}/"));
        let (base, other) = match (relative, form) {
            (Some(relative), Locations::Relative) => (relative, Some(absolute)),
            (relative, Locations::Absolute) => (absolute, relative),
            // A container without a name cannot be referred to: the whole URL is needed.
            (None, Locations::Relative) => (absolute, None),
        };
        let folder = encoded(Some(&piece.array.source_prefix()));
        let within = |base: &str| format!("{base}{}{folder}", self.root);
        let locations = ArrayLocations::new(&within(&base), &piece.array)?;
        let other = other.map(|base| ArrayLocations::new(&within(&base), &piece.array));
        Ok(locations.of_piece(other.transpose()?, piece.shift.clone()))
    }
}

/// The error for a configured container of another account or endpoint.
fn elsewhere(
    container: &VirtualChunkContainer,
    url: &str,
    store: &ObjectStoreConfig,
    lies: &str,
) -> Error {
    let prefix = container.url_prefix();
    let message = format!(
        "the repository's virtual chunk container {prefix} {lies} {url} but points to another store \
         (endpoint): {}, not {}",
        place(&container.store),
        place(store)
    );
    Error::new(ErrorKind::Mismatch, message).with_hint(format!(
        "if what is there has moved: refreeze relocate TARGET --from {prefix} --to {prefix}, with the \
         new settings; else use the container's account and endpoint, or another target repository"
    ))
}

/// Where a store is, beside what its URLs say.
fn place(store: &ObjectStoreConfig) -> String {
    use ObjectStoreConfig::{Azure, Gcs, S3, S3Compatible, Tigris};
    match store {
        S3(options) | S3Compatible(options) | Tigris(options) => {
            options.endpoint_url.clone().unwrap_or_else(|| "AWS".to_owned())
        }
        Gcs(options) => {
            gcs_url(options).map_or_else(|| "Google Cloud Storage".to_owned(), str::to_owned)
        }
        Azure(options) => {
            let (account, endpoint) = azure_place(options);
            let endpoint = endpoint.map(|url| format!(" at {url}")).unwrap_or_default();
            format!("account {}{endpoint}", account.unwrap_or("(none)"))
        }
        _ => "another kind of store".to_owned(),
    }
}

fn setting<'a>(options: &'a HashMap<String, String>, names: &[&str]) -> Option<&'a str> {
    let value = names.iter().find_map(|name| options.get(*name))?;
    Some(value.trim_end_matches('/')).filter(|value| !value.is_empty())
}

fn gcs_url(options: &HashMap<String, String>) -> Option<&str> {
    setting(options, &["google_base_url", "base_url"])
        .filter(|url| *url != "https://storage.googleapis.com")
}

/// Account and endpoint of an Azure store, as others may have written them.
fn azure_place(options: &HashMap<String, String>) -> (Option<&str>, Option<&str>) {
    let account = setting(options, &["account"]);
    let endpoint = setting(options, &["azure_storage_endpoint", "azure_endpoint", "endpoint"]);
    let usual = |endpoint: &&str| {
        account.is_none_or(|name| *endpoint != format!("https://{name}.blob.core.windows.net"))
    };
    (account, endpoint.filter(usual))
}

fn encoded(text: Option<&str>) -> String {
    utf8_percent_encode(text.unwrap_or_default(), LOCATION).to_string()
}

pub(super) fn with_slash(prefix: &str) -> String {
    if prefix.ends_with('/') { prefix.to_owned() } else { format!("{prefix}/") }
}

/// The longest leading part of `url` that Icechunk can match: it compares decoded locations with
/// the prefix as text, so a folder whose name a URL writes differently cannot be part of it.
pub(super) fn plain_prefix(url: &str) -> &str {
    let start = url.find("://").map_or(0, |at| at + 3);
    let plain = |c: char| c.is_alphanumeric() || "-_.~/=+@,:!".contains(c);
    match url.get(start..).and_then(|path| path.find(|c| !plain(c))) {
        None => url,
        Some(at) => url
            .get(..start + at)
            .and_then(|head| head.rfind('/').and_then(|slash| head.get(..=slash)))
            .unwrap_or(url),
    }
}

/// A readable name that no other prefix gets.
fn container_name(prefix: &str) -> String {
    let folder = prefix.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    let readable: String = folder
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || "-_.".contains(*c))
        .take(40)
        .collect();
    let digest = short_digest(prefix, 4);
    if readable.is_empty() { format!("source-{digest}") } else { format!("{readable}-{digest}") }
}

/// Whether two settings lead to the same bytes; how a reader signs or retries does not matter.
pub(super) fn same_store(one: &ObjectStoreConfig, other: &ObjectStoreConfig) -> bool {
    use ObjectStoreConfig::{Azure, Gcs, Http, LocalFileSystem, S3, S3Compatible};
    match (one, other) {
        // Where they are is in their URLs.
        (LocalFileSystem(_), LocalFileSystem(_)) | (Http(_), Http(_)) => true,
        (S3(one) | S3Compatible(one), S3(other) | S3Compatible(other)) => {
            let endpoint = |url: &Option<String>| {
                url.as_deref().map(|url| url.trim_end_matches('/').to_owned())
            };
            endpoint(&one.endpoint_url) == endpoint(&other.endpoint_url)
        }
        (Gcs(one), Gcs(other)) => gcs_url(one) == gcs_url(other),
        (Azure(one), Azure(other)) => azure_place(one) == azure_place(other),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::LocalSource;
    use crate::testing::assert_golden;
    use crate::zarr::key::ChunkKeyEncoding;
    use crate::zarr::metadata::ArrayLayout;

    fn array(source_path: &str) -> ArraySpec {
        let encoding = ChunkKeyEncoding::parse("default", "/").unwrap();
        ArraySpec {
            path: "/x".to_owned(),
            source_path: source_path.to_owned(),
            document: Vec::new(),
            layout: ArrayLayout::new(vec![10], vec![1], encoding).unwrap(),
            copied: false,
        }
    }

    fn local(path: &str) -> Source {
        Source::Local(LocalSource::new(path).unwrap())
    }

    #[test]
    fn locations_are_relative_and_percent_encoded() {
        let container = SourceContainer::new(None, &local("/data/air.zarr")).unwrap();
        let name = container.container().name().unwrap().to_owned();
        assert!(name.starts_with("air.zarr-"), "{name}");
        assert_eq!(container.container().url_prefix(), "file:///data/air.zarr/");
        for (path, encoded) in
            [("air", "air"), ("a b/c#d?e%20f", "a%20b/c%23d%3Fe%2520f"), ("τ", "%CF%84")]
        {
            let locations = |form| container.locations(&array(path), form).unwrap();
            let url = locations(Locations::Relative).url(&[7]);
            assert_eq!(url, format!("vcc://{name}/{encoded}/c/7"));
            let url = locations(Locations::Absolute).url(&[7]);
            assert_eq!(url, format!("file:///data/air.zarr/{encoded}/c/7"));
        }
    }

    #[test]
    fn folders_that_urls_rewrite_are_left_out_of_the_prefix() {
        let container = SourceContainer::new(None, &local("/data/my data/a#1")).unwrap();
        assert_eq!(container.container().url_prefix(), "file:///data/");
        let url = container.locations(&array("air"), Locations::Relative).unwrap().url(&[0]);
        assert!(url.ends_with("/my%20data/a%231/air/c/0"), "{url}");
    }

    #[test]
    fn a_configured_container_that_covers_the_source_is_used() {
        let mut config = RepositoryConfig::default();
        let store = ObjectStoreConfig::LocalFileSystem("/data".into());
        let wide = VirtualChunkContainer::new("file:///data/".to_owned(), store).unwrap();
        config.set_virtual_chunk_container(wide).unwrap();
        let container = SourceContainer::new(Some(&config), &local("/data/air.zarr")).unwrap();
        assert!(container.is_configured());
        let url = container.locations(&array("air"), Locations::Relative).unwrap().url(&[0]);
        assert_eq!(url, "file:///data/air.zarr/air/c/0");
        let elsewhere = SourceContainer::new(Some(&config), &local("/database/x")).unwrap();
        assert!(!elsewhere.is_configured());
    }

    #[test]
    fn a_name_that_means_another_prefix_is_refused() {
        let name = container_name("file:///data/air.zarr/");
        let mut config = RepositoryConfig::default();
        let store = ObjectStoreConfig::LocalFileSystem("/other".into());
        let other =
            VirtualChunkContainer::new_named(name, "file:///other/".to_owned(), store).unwrap();
        config.set_virtual_chunk_container(other).unwrap();
        let error = SourceContainer::new(Some(&config), &local("/data/air.zarr")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Mismatch);
    }

    #[test]
    fn locations_beyond_the_limit_are_refused() {
        let container = SourceContainer::new(None, &local("/data/air.zarr")).unwrap();
        let error =
            container.locations(&array(&"x".repeat(1_100)), Locations::Relative).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnsupportedArray);
    }

    #[test]
    fn container_names_are_those_of_the_golden_file() {
        let prefixes = [
            "s3://bucket/",
            "s3://bucket/a/store.zarr/",
            "file:///data/air.zarr/",
            "file:///data/a+b,c/",
            "file:///data/τ/",
            "file:///",
            "file:///data/a_name-of.more.than.forty.letters.0123456789.zarr/",
        ];
        let lines = prefixes.map(|prefix| format!("{prefix} {}\n", container_name(prefix)));
        assert_golden(&lines.concat(), "container-names.txt");
    }
}
