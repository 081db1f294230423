//! Sessions that read a snapshot by its id.
//!
//! Icechunk's own way to one asks the repository first whether its history holds the snapshot.
//! These do not: a snapshot may be read before it is published, and each read saves a request.

use std::collections::HashMap;
use std::sync::Arc;

use icechunk::Repository;
use icechunk::config::Credentials;
use icechunk::format::SnapshotId;
use icechunk::session::Session;
use icechunk::virtual_chunks::VirtualChunkResolver;

/// A session for metadata and native chunks.
pub(crate) fn session_at(repository: &Repository, snapshot: &SnapshotId) -> Session {
    authorised_session_at(repository, snapshot, HashMap::new())
}

/// A session that may also read the virtual chunk containers for which there are credentials, by
/// URL prefix.
pub(crate) fn authorised_session_at(
    repository: &Repository,
    snapshot: &SnapshotId,
    credentials: HashMap<String, Option<Credentials>>,
) -> Session {
    let (config, settings) = (repository.config(), repository.storage_settings());
    let containers = config.virtual_chunk_containers().cloned();
    let resolver = VirtualChunkResolver::new(containers, credentials, settings.clone());
    Session::create_readonly_session(
        config.clone(),
        settings.clone(),
        Arc::clone(repository.storage()),
        Arc::clone(repository.asset_manager()),
        Arc::new(resolver),
        snapshot.clone(),
    )
}
