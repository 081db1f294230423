"""What Python users rely on: quick import, names, exceptions, the report, progress."""

import dataclasses
import json
import logging
import os
import pickle
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest

import refreeze
from refreeze import exceptions
from refreeze.stores.resolve import resolve_source, resolve_target
from scenarios import VALUES, group, local_repository, s3_storage, upload, write_store

REPORT_KEYS = {
    "source": str,
    "sources": list,
    "target": str,
    "branch": str,
    "mode": str,
    "run_id": str,
    "snapshot_id": str,
    "published": bool,
    "resumed_batches": int,
    "commits": int,
    "manifests_written": int,
    "manifest_bytes": int,
    "list_requests": int,
    "keys_listed": int,
    "references_written": int,
    "bytes_referenced": int,
    "added": int,
    "changed": int,
    "removed": int,
    "elapsed_s": float,
    "peak_rss_bytes": int,
    "arrays": list,
    "warnings": list,
}
ARRAY_KEYS = {
    "path": str,
    "shape": list,
    "chunk_shape": list,
    "grid_shape": list,
    "chunks_in_region": int,
    "references": int,
    "missing": int,
    "loaded": bool,
}
ERRORS = {
    "RegionError": ValueError,
    "UnsupportedArrayError": ValueError,
    "SourceNotFoundError": FileNotFoundError,
    "TargetNotFoundError": FileNotFoundError,
    "AlreadyExistsError": FileExistsError,
    "MismatchError": ValueError,
    "ListingError": OSError,
    "IncompleteError": ValueError,
    "TargetError": OSError,
    "ConflictError": Exception,
    "AccessError": PermissionError,
}


def test_names_come_when_they_are_asked_for():
    """The package imports none of its modules before; each public name has a place, and only those."""
    code = "import sys, refreeze; print([m for m in sys.modules if m.startswith('refreeze.')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    assert {*refreeze._PLACES, "exceptions"} == set(refreeze.__all__) == set(dir(refreeze))
    for name in refreeze.__all__:
        assert getattr(refreeze, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'ingestt'"):
        _ = refreeze.ingestt


def test_import_is_quick():
    """Importing takes nothing along that takes time; `ingest` does not need xarray at all."""
    code = """
import sys
import refreeze
heavy = {"xarray", "virtualizarr", "zarr", "icechunk", "obstore", "numpy", "rich", "typer"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
import refreeze.cli.app
heavy = {"xarray", "virtualizarr", "zarr", "icechunk", "obstore", "numpy"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
import refreeze.verbs.ingest as module
refreeze.ingest(sys.argv[1], sys.argv[2])
assert not {"xarray", "virtualizarr", "icechunk"} & set(sys.modules)
"""
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as name:
        source = write_store(Path(name) / "air.zarr")
        arguments = [sys.executable, "-c", code, str(source), f"{name}/repo"]
        done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def test_names():
    """What `dir()` shows is what is promised, and all of it is there."""
    assert dir(refreeze) == sorted(refreeze.__all__)
    assert set(refreeze.__all__) == {
        "ArrayCoverage",
        "ArrayReport",
        "ChunkStream",
        "Container",
        "CopyReport",
        "Check",
        "Coverage",
        "DoctorReport",
        "GcReport",
        "IngestReport",
        "ListStats",
        "MissingRange",
        "Plan",
        "PublishReport",
        "RelocateReport",
        "RunStatus",
        "StatusReport",
        "WriteReport",
        "ZarrConverter",
        "create_template",
        "write_region",
        "SyncReport",
        "VerifyReport",
        "ZarrParser",
        "ZarrSaver",
        "__version__",
        "copy",
        "coverage",
        "doctor",
        "exceptions",
        "gc",
        "ingest",
        "list_chunks",
        "plan",
        "publish",
        "regions",
        "replacing",
        "status",
        "write",
        "relocate",
        "sync",
        "verify",
    }
    for name in refreeze.__all__:
        assert getattr(refreeze, name) is not None
    assert callable(refreeze.ingest)
    assert refreeze.__version__.count(".") == 2
    with pytest.raises(AttributeError, match="nope"):
        refreeze.nope  # noqa: B018 the access is the test


def test_ingest_is_the_function_after_its_module_was_imported():
    """The submodule of the same name does not take the function's place."""
    code = "import refreeze.verbs.report, refreeze; refreeze.ingest; import refreeze.verbs.ingest as m; from refreeze import ingest; assert callable(ingest), ingest"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_exceptions_are_all_listed():
    """The table of the contract, class by class."""
    assert set(exceptions.__all__) == {"RefreezeError", *ERRORS}


@pytest.mark.parametrize("name", ERRORS)
def test_exceptions(name):
    """Each is a RefreezeError and a built-in, shows message and hint, and survives pickling."""
    kind = getattr(exceptions, name)
    assert issubclass(kind, exceptions.RefreezeError)
    assert issubclass(kind, ERRORS[name])
    assert kind.__doc__
    for arguments, shown in ((("what",), "what"), (("what", "do"), "what\nhint: do")):
        error = kind(*arguments)
        again = pickle.loads(pickle.dumps(error))  # noqa: S301 our own
        assert type(again) is kind
        assert (again.message, again.hint) == (error.message, error.hint)
        assert str(error) == str(again) == shown


def test_the_report(source, tmp_path):
    """Frozen, with every key of the contract in its JSON form."""
    report = refreeze.ingest(source, tmp_path / "repo")
    assert isinstance(report, refreeze.IngestReport)
    with pytest.raises(dataclasses.FrozenInstanceError):
        report.commits = 7
    with pytest.raises(dataclasses.FrozenInstanceError):
        report.arrays[0].path = "/x"
    plain = report.to_dict()
    assert json.loads(json.dumps(plain)) == plain
    for key, kind in REPORT_KEYS.items():
        assert type(plain[key]) is kind, key
    assert [array["path"] for array in plain["arrays"]] == ["/air", "/nested/deep", "/time"]
    for array in plain["arrays"]:
        assert set(array) == set(ARRAY_KEYS)
        for key, kind in ARRAY_KEYS.items():
            assert type(array[key]) is kind, key
    air = plain["arrays"][0]
    assert (air["shape"], air["chunk_shape"], air["grid_shape"]) == ([6, 4], [2, 4], [3, 1])
    assert (air["chunks_in_region"], air["references"], air["missing"]) == (3, 3, 0)
    assert plain["sources"] == [plain["source"]] == [str(source)]
    assert plain["target"] == str(tmp_path / "repo")
    assert (plain["branch"], plain["mode"], plain["published"]) == ("main", "create", True)
    assert plain["added"] == plain["references_written"] == 5
    assert (plain["changed"], plain["removed"], plain["resumed_batches"]) == (0, 0, 0)
    chunks = [*(source / "air/c").rglob("*"), *(source / "nested/deep/c").rglob("*")]
    assert plain["bytes_referenced"] == sum(f.stat().st_size for f in chunks if f.is_file())
    assert plain["peak_rss_bytes"] > 10_000_000
    assert plain["elapsed_s"] > 0
    repository = local_repository(tmp_path / "repo")
    assert repository.lookup_branch("main") == plain["snapshot_id"]
    manifests = repository.list_manifest_files(plain["snapshot_id"])
    assert plain["manifest_bytes"] >= sum(file.size_bytes for file in manifests)
    assert pickle.loads(pickle.dumps(report)) == report  # noqa: S301 our own


def test_the_peak_in_a_report_is_that_of_the_process_itself():
    """Not that of the process that started it, as `getrusage` has it on Linux."""
    large = b"x" * (600 << 20)
    code = "from refreeze.verbs.report import peak_rss_bytes; print(peak_rss_bytes())"
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    assert 10_000_000 < int(printed.stdout) < len(large)


def test_commits_say_whose_they_are(source, tmp_path):
    """Run, plan and source are in every commit's metadata; the message is the caller's."""
    target = tmp_path / "repo"
    report = refreeze.ingest(source, target, message="ours", max_refs_per_commit=1)
    history = list(local_repository(target).ancestry(branch="main"))[: report.commits]
    assert {snapshot.message for snapshot in history} == {"ours"}
    for snapshot in history:
        assert snapshot.metadata["refreeze.run"] == report.run_id
        assert snapshot.metadata["refreeze.source"] == str(source)
        assert {"refreeze.plan", "refreeze.batches"} <= set(snapshot.metadata)


def test_progress(source, tmp_path):
    """The callback sees every stage in order, with figures that end where the report does."""
    events = []
    report = refreeze.ingest(
        source, tmp_path / "repo", progress=events.append, max_refs_per_commit=2
    )
    stages = [event["stage"] for event in events]
    for stage in ("metadata", "list", "commit", "check", "publish", "done"):
        assert stage in stages
    assert stages[-1] == "done"
    last = events[-1]
    assert last["references_written"] == report.references_written
    assert last["chunks_possible"] == 5
    assert last["list_requests"] == report.list_requests
    for one, other in pairwise(events):
        assert one["references_written"] <= other["references_written"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_exception_in_progress_does_not_end_the_ingest(source, tmp_path, monkeypatch):
    """It is reported as unraisable; the ingest goes on."""
    seen = []
    monkeypatch.setattr(sys, "unraisablehook", lambda raised: seen.append(raised.exc_value))

    def broken(_event):
        raise RuntimeError("from the callback")

    refreeze.ingest(source, tmp_path / "repo", progress=broken)
    assert {str(error) for error in seen} == {"from the callback"}
    assert (group(local_repository(tmp_path / "repo"))["air"][:] == VALUES).all()


def test_other_python_threads_run_meanwhile(source, tmp_path):
    """The GIL is free while the core works: two ingests in threads, both right."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(2) as pool:
        reports = list(pool.map(lambda n: refreeze.ingest(source, tmp_path / f"r{n}"), range(2)))
    for report in reports:
        root = group(local_repository(tmp_path / report.target))
        assert (root["time"][:] == np.arange(6)).all()


def test_secrets_are_shown_nowhere(s3_bucket, source, caplog):
    """Neither reprs nor reports, logs, commits or the stored configuration hold them."""
    import icechunk

    server, bucket = s3_bucket
    secrets = {server.access_key_id, server.secret_access_key}
    caplog.set_level(logging.DEBUG)
    url = upload(server, bucket, source, "air.zarr")
    resolved = resolve_source(url, server.options)
    target = resolve_target(f"s3://{bucket}/repo", server.options)
    storage = s3_storage(server, bucket, "repo")
    report = refreeze.ingest(
        url,
        f"s3://{bucket}/repo",
        source_options=server.options,
        target_options=server.options,
    )
    handed_over = resolve_target(storage)
    repository = icechunk.Repository.open(storage)
    shown = [
        *map(repr, (resolved, target, handed_over, report)),
        str(icechunk.Repository.fetch_config(storage)),
        *(str((s.message, s.metadata)) for s in repository.ancestry(branch="main")),
        # obstore's Python half and asyncio log here; the core logs nothing.
        *(record.getMessage() for record in caplog.records if record.name.startswith("refreeze")),
    ]
    for text in shown:
        for secret in secrets:
            assert secret not in text, text
    # Not in any object of the repository either; it is compressed, so this finds the plain ones.
    for file in (server.root / bucket / "repo").rglob("*") if server.kind == "versitygw" else ():
        if file.is_file():
            content = file.read_bytes()
            assert not any(secret.encode() in content for secret in secrets)


@pytest.mark.skipif(
    sys.platform != "linux" or "MALLOC_MMAP_THRESHOLD_" in os.environ,
    reason="only glibc raises its threshold, and only if nobody has set it",
)
def test_large_blocks_are_given_back():
    """Regression: glibc kept what references had taken, and memory grew with every commit."""
    script = """
import ctypes, os, refreeze.runtime.memory as memory
if hasattr(ctypes.CDLL(None), "mallopt"):
    assert memory.return_large_blocks()
os.environ["MALLOC_MMAP_THRESHOLD_"] = "1"
memory.return_large_blocks.cache_clear()
assert not memory.return_large_blocks()
"""
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.skipif(
    sys.platform != "linux" or "MALLOC_ARENA_MAX" in os.environ,
    reason="only glibc has arenas, and only if nobody has set their number",
)
def test_threads_share_what_is_free():
    """Every thread of zarr kept buffers of megabytes; what the environment says stays in force."""
    script = """
import ctypes, os, refreeze.runtime.memory as memory
if hasattr(ctypes.CDLL(None), "mallopt"):
    assert memory.share_free_memory()
os.environ["MALLOC_ARENA_MAX"] = "4"
memory.share_free_memory.cache_clear()
assert not memory.share_free_memory()
"""
    subprocess.run([sys.executable, "-c", script], check=True)
