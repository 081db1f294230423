"""The compiled half of refreeze. Use the functions of the package instead."""

from collections.abc import Callable, Sequence
from typing import Any

from refreeze.metadata import ArraySpec, GroupSpec
from refreeze.stores import LocalTarget, RepositoryTarget, S3Target

__all__ = ["__version__", "ingest"]

__version__: str

def ingest(
    store: Any,
    path: str,
    target: LocalTarget | S3Target | RepositoryTarget,
    *,
    source_url: str,
    branch: str,
    groups: Sequence[GroupSpec],
    arrays: Sequence[ArraySpec],
    skip_empty_chunks: bool,
    references_per_manifest: int,
    references_per_commit: int,
    message: str | None,
    progress: Callable[[dict[str, Any]], object] | None,
) -> str:
    """Ingests a Zarr store; see `refreeze.ingest`.

    Returns the report of the core as JSON.
    """
