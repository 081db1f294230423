"""What an older version of refreeze left behind is recognised, resumed and published by this one.

`tests/golden/repositories.tar.xz` holds sources and repositories in every state, written by the version before plans
were recorded in a form of their own (`make_golden_repositories.py` says how). Sources have URLs below
`/proc/self/cwd`, so that they are where the repositories say, wherever the archive is unpacked.
"""

import sys
import tarfile
from pathlib import Path

import icechunk
import numpy as np
import pytest
import zarr

import refreeze
from refreeze.exceptions import MismatchError

GOLDEN = Path(__file__).parents[1] / "golden"
HERE = "/proc/self/cwd"
THREE, TWO, GROWN, MORE = (f"{HERE}/{name}.zarr" for name in ("three", "two", "grown", "more"))
ARRAYS = {THREE: ("slash", "dot", "time", "sharded", 'inner/it\'s "é"')}
APPEND = {"mode": "append", "append_dim": "time"}

UNPUBLISHED = {
    "unfinished": (THREE, {}),
    "staged": (THREE, {}),
    "joined": ([TWO, MORE], {"concat_dim": "time"}),
    "replacing": (THREE, {"mode": "overwrite"}),
    "appending": (GROWN, APPEND),
}
PUBLISHED = {
    "published": (THREE, {}),
    "published-two": (TWO, {"locations": "absolute", "empty_chunks": "skip"}),
    "region": (TWO, {"region": {"time": slice(4, 8)}, "target_group": "part"}),
    "appended": (GROWN, APPEND),
}

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="the archive names its sources by /proc/self/cwd"
)


@pytest.fixture(autouse=True)
def unpacked(tmp_path, monkeypatch):
    """Unpack the archive into the working directory."""
    with tarfile.open(GOLDEN / "repositories.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    monkeypatch.chdir(tmp_path)


def result(report, target):
    """Open what stands on the main branch."""
    access = icechunk.credentials.LocalFileSystemAccess
    repository = icechunk.Repository.open(
        icechunk.local_filesystem_storage(target),
        authorize_virtual_chunk_access=icechunk.containers_credentials(
            dict.fromkeys(report.containers, access)
        ),
    )
    return zarr.open_group(repository.readonly_session("main").store, mode="r")


def unpublished(target):
    (run,) = [run for run in refreeze.status(target).runs if run.state != "published"]
    return run


@pytest.mark.parametrize("name", UNPUBLISHED)
def test_an_unpublished_run_of_an_older_version_is_resumed(name):
    """The same ingest ends the run that is there, lists no committed batch again, and is known once it is published."""
    source, options = UNPUBLISHED[name]
    run = unpublished(name)
    report = refreeze.ingest(source, name, **options)
    assert report.run_id == run.run_id
    assert report.resumed_batches == run.batches_done > 0
    assert report.published
    sources = source if isinstance(source, list) else [source]
    ended = result(report, name)
    for path in ARRAYS.get(sources[0], ("slash", "dot", "time")):
        expected = np.concatenate([zarr.open_group(one, mode="r")[path][...] for one in sources])
        np.testing.assert_array_equal(ended[path][...], expected)
    if options.get("mode") == "overwrite":  # Which replaces once more.
        return
    again = refreeze.ingest(source, name, **options)
    assert again.already_published
    assert again.snapshot_id == report.snapshot_id


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_ingest_of_an_older_version_is_known(name):
    """The same ingest writes nothing and says that it was published, although its plan is hashed otherwise now."""
    source, options = PUBLISHED[name]
    (last, *_) = refreeze.status(name).runs
    report = refreeze.ingest(source, name, **options)
    assert (report.already_published, report.commits, report.references_written) == (True, 0, 0)
    # What an append finds done is not asked for in the history.
    assert report.run_id == (last.run_id if options is not APPEND else "")


def test_a_staged_run_of_an_older_version_is_published():
    """Publish moves the branch to the run's tip."""
    run = unpublished("staged")
    report = refreeze.publish("staged")
    assert report.run_id == run.run_id
    assert {run.state for run in refreeze.status("staged").runs} == {"published"}


def test_a_run_of_an_older_version_still_refuses_other_options():
    """Accepting an older record does not mean accepting another plan."""
    with pytest.raises(MismatchError, match="--empty-chunks"):
        refreeze.ingest(THREE, "unfinished", empty_chunks="skip")


def test_other_chunk_keys_than_an_older_version_recorded_are_refused():
    """The text that an older version wrote for an array's chunk keys is compared by its meaning."""
    document = Path("three.zarr/slash/zarr.json")
    text = document.read_text()
    assert '"separator": "/"' in text
    document.write_text(text.replace('"separator": "/"', '"separator": "."', 1))
    with pytest.raises(MismatchError, match="chunk keys"):
        refreeze.ingest(THREE, "unfinished")


def test_a_plan_is_recorded_in_the_form_of_now(tmp_path):
    """New commits hold keys by name and another fingerprint than the version before wrote for the same ingest."""
    refreeze.ingest(THREE, "new", no_publish=True)

    def first(target):
        repository = icechunk.Repository.open(icechunk.local_filesystem_storage(target))
        (branch,) = repository.list_branches() - {"main"}
        commits = [one.metadata for one in repository.ancestry(branch=branch)]
        return next(properties for properties in commits if "refreeze.resolved" in properties)

    then, now = first("staged"), first("new")
    keys = {array["path"]: array["keys"] for array in now["refreeze.resolved"]["arrays"]}
    assert keys["/slash"] == "default/"
    assert keys["/dot"] == "default."
    assert keys['/inner/it\'s "é"'] == "v2."
    assert then["refreeze.resolved"]["options"] == now["refreeze.resolved"]["options"]
    assert then["refreeze.plan"] != now["refreeze.plan"]
