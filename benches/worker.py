"""The programs that are measured, one a process: ``python worker.py TASK JSON``.

Each is what a user of that tool would write, with the imports that it needs and no others. It
prints one JSON object; everything else about it is measured from outside (`harness`). Figures that
only the inside knows, such as the time of one append in a loop, are in that object.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

KEYS: dict[str, Any] = {"access_key_id": "k", "secret_access_key": "s", "region": "us-east-1"}
ACCOUNT = {"account_name": "account", "account_key": "a2V5"}
"""Of Azure; the endpoint looks at neither."""


def _options(url: str, scheme: str = "s3") -> dict[str, str]:
    """Return the settings that reach the endpoint as a service, in object_store's names."""
    if scheme == "gs":
        return {"base_url": url, "allow_http": "true", "skip_signature": "true"}
    if scheme == "az":
        return {"endpoint": url, "allow_http": "true", **ACCOUNT}
    return {"endpoint": url, "allow_http": "true", **KEYS}


def _store(url: str, scheme: str = "s3") -> Any:
    from obstore.store import AzureStore, GCSStore, S3Store

    client: Any = {"allow_http": True}
    settings: Any = _options(url, scheme)
    del settings["allow_http"]
    if scheme == "gs":
        return GCSStore("bucket", config=settings, client_options=client)
    if scheme == "az":
        named: Any = {f"azure_storage_{name}": value for name, value in settings.items()}
        return AzureStore("bucket", config=named, client_options=client)
    return S3Store("bucket", client_options=client, **settings)


def refreeze_list(
    url: str, array: str, concurrency: int = 64, scheme: str = "s3"
) -> dict[str, Any]:
    """List the chunks of an array; the CPU time is that of the listing alone."""
    import refreeze

    store = _store(url, scheme)
    keys, started = 0, time.process_time()
    for batch in refreeze.list_chunks(store, array, concurrency=concurrency):
        keys += batch.num_rows
    return {"keys": keys, "us_per_key": (time.process_time() - started) / max(keys, 1) * 1e6}


def find_files(url: str, folder: str) -> dict[str, Any]:  # noqa: ARG001 (of every task)
    """Look at every file as `find` does; this interpreter's start is part of it, as of the others."""
    import subprocess

    command = ["/usr/bin/find", folder, "-type", "f", "-printf", "%s %T@\\n"]
    found = subprocess.run(command, check=True, capture_output=True).stdout
    return {"keys": found.count(b"\n") - 1}


def refreeze_list_folder(url: str, folder: str) -> dict[str, Any]:  # noqa: ARG001 (as above)
    """List the chunks of an array on local disk."""
    from obstore.store import LocalStore

    import refreeze

    batches = refreeze.list_chunks(LocalStore(folder), "")
    return {"keys": sum(batch.num_rows for batch in batches)}


def refreeze_ingest_folder(url: str, folder: str, target: str) -> dict[str, Any]:  # noqa: ARG001 (as above)
    """Ingest an array on local disk."""
    import refreeze

    report = refreeze.ingest(folder, target)
    return {"keys": report.keys_listed, "references": report.references_written}


def obstore_list(url: str, array: str, scheme: str = "s3") -> dict[str, Any]:
    """List the same objects as obstore does."""
    import obstore

    store = _store(url, scheme)
    keys, started = 0, time.process_time()
    for batch in obstore.list(store, array, chunk_size=1000, return_arrow=True):
        keys += batch.num_rows
    return {"keys": keys, "us_per_key": (time.process_time() - started) / max(keys, 1) * 1e6}


def _parsed(url: str, parser: Any) -> dict[str, Any]:
    from obspec_utils.registry import ObjectStoreRegistry

    registry = ObjectStoreRegistry({"s3://bucket": _store(url)})
    store = parser("s3://bucket/store.zarr", registry)
    manifest = store._group.arrays["t2m"].manifest  # noqa: SLF001 (the only way to it)
    return {"references": int((manifest._lengths > 0).sum())}  # noqa: SLF001 (as above)


def refreeze_parse(url: str, stop: int | None = None) -> dict[str, Any]:
    """Make a ManifestStore of a store, or of its first `stop` steps in time."""
    import refreeze

    region = None if stop is None else {"time": slice(0, stop)}
    return _parsed(url, refreeze.ZarrParser(region=region))


def virtualizarr_parse(url: str) -> dict[str, Any]:
    """Make a ManifestStore of a store as VirtualiZarr does."""
    from virtualizarr.parsers import ZarrParser

    return _parsed(url, ZarrParser())


def refreeze_ingest(
    url: str, target: str, options: dict[str, Any], scheme: str = "s3"
) -> dict[str, Any]:
    """Ingest a store into a new repository."""
    import refreeze

    on_endpoint = target.startswith("s3://")
    report = refreeze.ingest(
        f"{scheme}://bucket/store.zarr",
        target,
        source_options=_options(url, scheme),
        target_options=_options(url) if on_endpoint else None,
        **options,
    )
    return {
        "references": report.references_written,
        "commits": report.commits,
        "manifests": report.manifests_written,
        "manifest_bytes": report.manifest_bytes,
        "container": report.container,
    }


def refreeze_verify(url: str, target: str) -> dict[str, Any]:
    """Compare a store with a repository."""
    import refreeze

    report = refreeze.verify("s3://bucket/store.zarr", target, source_options=_options(url))
    return {"equal": report.equal, "references": report.checked}


def refreeze_sync(url: str, target: str) -> dict[str, Any]:
    """Bring a repository up to date with a store that has not changed."""
    import refreeze

    report = refreeze.sync("s3://bucket/store.zarr", target, source_options=_options(url))
    return {"unchanged": report.snapshot_id is None, "references": report.keys_listed}


def refreeze_kerchunk(url: str, target: str) -> dict[str, Any]:
    """Write a store's references as Kerchunk Parquet."""
    import refreeze

    report = refreeze.ingest(
        "s3://bucket/store.zarr", target, format="kerchunk-parquet", source_options=_options(url)
    )
    return {"references": report.references_written}


def make_listing(url: str, output: str) -> dict[str, Any]:
    """Write what an inventory of the array would say, in no order."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    import refreeze

    stream = refreeze.list_chunks(_store(url), "store.zarr/t2m", paths=True)
    table = pa.table(stream).select(["path", "size", "last_modified"])
    table = table.rename_columns(["key", "size", "last_modified"])
    shuffled = np.random.default_rng(0).permutation(len(table))
    pq.write_table(table.take(shuffled), output, row_group_size=100_000)
    return {"keys": len(table)}


def refreeze_coverage(url: str, target: str) -> dict[str, Any]:  # noqa: ARG001 (of every task)
    """Count the chunks of a repository."""
    import refreeze

    (array,) = refreeze.coverage(target).arrays
    return {"references": array.present}


def refreeze_copy(url: str, target: str, stop: int) -> dict[str, Any]:
    """Make the chunks of the first `stop` steps native."""
    import refreeze

    report = refreeze.copy(target, region={"time": slice(0, stop)}, source_options=_options(url))
    return {"references": report.chunks_copied, "commits": report.commits}


def _storage(url: str, target: str) -> Any:
    """Name a folder, or a prefix of the endpoint's bucket."""
    import icechunk

    bucket, _, prefix = target.removeprefix("s3://").partition("/")
    if not target.startswith("s3://"):
        return icechunk.local_filesystem_storage(target)
    return icechunk.s3_storage(
        bucket=bucket,
        prefix=prefix,
        endpoint_url=url,
        allow_http=True,
        force_path_style=True,
        **KEYS,
    )


def _access(container: str = "s3://bucket/") -> Any:
    import icechunk

    found: Any
    if container.startswith("gs:"):
        found = icechunk.gcs_credentials(anonymous=True)
    elif container.startswith("az:"):
        found = icechunk.azure_credentials(access_key=ACCOUNT["account_key"])
    else:
        found = icechunk.s3_credentials(access_key_id="k", secret_access_key="s")  # noqa: S106
    return icechunk.containers_credentials({container: found})


def _container(url: str, scheme: str = "s3") -> Any:
    """Configure the virtual chunk container that a user of VirtualiZarr would."""
    import icechunk

    store: Any
    if scheme == "gs":
        store = icechunk.gcs_store({"google_base_url": url, "allow_http": "true"})
    elif scheme == "az":
        settings = {"account": ACCOUNT["account_name"], "azure_storage_endpoint": url}
        store = icechunk.ObjectStoreConfig.Azure(settings | {"allow_http": "true"})
    else:
        store = icechunk.s3_store(
            region="us-east-1", endpoint_url=url, allow_http=True, s3_compatible=True
        )
    config = icechunk.RepositoryConfig.default()
    container = icechunk.VirtualChunkContainer(f"{scheme}://bucket/", store)
    config.set_virtual_chunk_container(container)
    return config


def virtualizarr_ingest(
    url: str, target: str, parser: str = "virtualizarr", scheme: str = "s3"
) -> dict[str, Any]:
    """Virtualise a store with VirtualiZarr and commit it with Icechunk, unsplit.

    With ``parser="refreeze"`` the references come from refreeze's parser: the same repository in
    a fraction of the time, for where it is not the making that is measured.
    """
    import icechunk
    import virtualizarr
    from obspec_utils.registry import ObjectStoreRegistry
    from virtualizarr.parsers import ZarrParser

    if parser == "refreeze":
        import refreeze

        chosen: Any = refreeze.ZarrParser()
    else:
        chosen = ZarrParser()
    bucket = f"{scheme}://bucket"
    registry = ObjectStoreRegistry({bucket: _store(url, scheme)})
    vds = virtualizarr.open_virtual_dataset(
        f"{bucket}/store.zarr", registry=registry, parser=chosen
    )
    repository = icechunk.Repository.create(
        _storage(url, target),
        _container(url, scheme),
        authorize_virtual_chunk_access=_access(f"{bucket}/"),
    )
    session = repository.writable_session("main")
    vds.vz.to_icechunk(session.store)
    session.commit("all")
    return {}


def _timed_appends(target: str, append: Any, appends: int) -> dict[str, Any]:
    """Append so many times; seconds and bytes of the first, the median and the last."""
    import statistics
    from pathlib import Path

    folder = Path(target)
    seconds, written = [], []
    known = {file: file.stat().st_size for file in folder.rglob("*") if file.is_file()}
    for number in range(appends):
        started = time.perf_counter()
        append(number)
        seconds.append(time.perf_counter() - started)
        now = {file: file.stat().st_size for file in folder.rglob("*") if file.is_file()}
        # Icechunk's files never change, but for the one that names the branches.
        fresh = {file for file in now if file not in known or file.name == "repo"}
        written.append(sum(now[file] for file in fresh))
        known = now
    # The first one of a process also imports and connects: the second is the first like the rest.
    first = min(1, appends - 1)
    tail = seconds[len(seconds) // 2 :] if appends > 10 else seconds[-1:]  # noqa: PLR2004
    return {
        "appends": appends,
        "first_s": seconds[first],
        "median_s": statistics.median(seconds),
        "last_s": statistics.median(tail[-10:]),
        "first_bytes": written[first],
        "median_bytes": statistics.median(written),
        "last_bytes": written[-1],
    }


def refreeze_append(url: str, target: str, steps: int, grid: list[int], appends: int) -> Any:
    """Append the one time step that the source has got since, again and again."""
    import urllib.request

    import refreeze
    from harness import dense

    def append(number: int) -> None:
        grown = dense([steps + number + 1, *grid[1:]])
        body = json.dumps(grown).encode()
        request = urllib.request.Request(f"{url}/__array", data=body, method="POST")
        urllib.request.urlopen(request).close()
        how: dict[str, Any] = {"mode": "append", "append_dim": "time"}
        report = refreeze.ingest(
            "s3://bucket/store.zarr", target, source_options=_options(url), **how
        )
        if report.references_written != grid[1] * grid[2]:
            raise SystemExit(f"append {number} wrote {report.references_written} references")

    return _timed_appends(target, append, appends)


def virtualizarr_append(url: str, target: str, appends: int) -> dict[str, Any]:
    """Append a store of one time step with VirtualiZarr, again and again.

    Only that step is listed: VirtualiZarr cannot open a part of the store that has grown.
    """
    import icechunk
    import virtualizarr
    from obspec_utils.registry import ObjectStoreRegistry
    from virtualizarr.parsers import ZarrParser

    def append(number: int) -> None:
        registry = ObjectStoreRegistry({"s3://bucket": _store(url)})
        vds = virtualizarr.open_virtual_dataset(
            "s3://bucket/day.zarr", registry=registry, parser=ZarrParser()
        )
        repository = icechunk.Repository.open(
            _storage(url, target), authorize_virtual_chunk_access=_access()
        )
        session = repository.writable_session("main")
        vds.vz.to_icechunk(session.store, append_dim="time")
        session.commit(f"step {number}")

    return _timed_appends(target, append, appends)


def read_first_chunk(url: str, target: str, container: str) -> dict[str, Any]:
    """Open a repository and read its first chunk: seconds, requests and bytes of just that."""
    import asyncio
    import urllib.request

    import icechunk
    from zarr.core.buffer import default_buffer_prototype

    def counters() -> dict[str, int]:
        with urllib.request.urlopen(f"{url}/__stats") as answer:
            found: dict[str, int] = json.load(answer)
        return found

    before, started = counters(), time.perf_counter()
    repository = icechunk.Repository.open(
        _storage(url, target), authorize_virtual_chunk_access=_access(container)
    )
    store = repository.readonly_session("main").store
    chunk = asyncio.run(store.get("t2m/c/0/0/0", default_buffer_prototype()))
    if chunk is None:
        raise SystemExit("the first chunk is missing")
    seconds, after = time.perf_counter() - started, counters()
    return {
        "seconds": seconds,
        "get_requests": after["get"] - before["get"],
        "get_bytes": after["get_bytes"] - before["get_bytes"],
        "chunk_bytes": len(chunk),
    }


TASKS = {
    task.__name__: task
    for task in (
        refreeze_list,
        obstore_list,
        find_files,
        refreeze_list_folder,
        refreeze_ingest_folder,
        refreeze_parse,
        virtualizarr_parse,
        refreeze_ingest,
        refreeze_verify,
        refreeze_sync,
        virtualizarr_ingest,
        refreeze_append,
        virtualizarr_append,
        read_first_chunk,
        refreeze_kerchunk,
        make_listing,
        refreeze_coverage,
        refreeze_copy,
    )
}


def main() -> None:
    """Do one task and print what it has to say."""
    task = TASKS[sys.argv[1]]
    print(json.dumps(task(**json.loads(sys.argv[2]))), flush=True)
    if task is read_first_chunk:
        # With icechunk 2.3, an interpreter that ends at once after an awaited read is killed by
        # SIGSEGV in one of thirty runs on a busy machine: its runtime still lets go of the answer.
        os._exit(0)


if __name__ == "__main__":
    main()
