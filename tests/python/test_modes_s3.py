"""The modes on a real S3 server, sources and target: the same as on local disk."""

import numpy as np
import pytest

import refreeze
from archives import Archive
from refreeze.exceptions import MismatchError
from scenarios import s3_repository, upload
from stores_for_tests import open_dataset


@pytest.fixture
def place(s3_bucket, monkeypatch, tmp_path):
    """Return a function that uploads an archive, one that ingests, and one that compares."""
    server, bucket = s3_bucket
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)

    def put(archive):
        return upload(server, bucket, archive.folder, archive.folder.name)

    def ingest(source, **options):
        return refreeze.ingest(
            source,
            f"s3://{bucket}/target",
            source_options=server.options,
            target_options=server.options,
            max_refs_per_commit=6,
            refs_per_manifest=4,
            **options,
        )

    def assert_shows(model):
        repository = s3_repository(server, bucket, "target")
        found = open_dataset(repository.readonly_session("main").store)
        assert set(found.variables) == {*model.values, "time"}
        for name, values in model.values.items():
            np.testing.assert_array_equal(found[name].values, values, err_msg=name)
        np.testing.assert_array_equal(found["time"].values.astype("M8[s]"), model.times)
        assert repository.list_branches() == {"main"}

    return put, ingest, assert_shows


def test_modes(place, tmp_path):
    """Create, append after a ragged chunk, update, follow, overwrite; each is what the source is."""
    put, ingest, assert_shows = place
    archive = Archive.write(tmp_path / "first", 0, 8, own_units=False)
    ingest(put(archive))
    assert_shows(archive.shown())

    archive.grow(4)
    report = ingest(put(archive), mode="append", append_dim="time")
    assert report.changed > 0 < report.added
    assert_shows(archive.shown())
    again = ingest(put(archive), mode="append", append_dim="time")
    assert (again.commits, again.list_requests) == (0, 0)

    archive.delete("air", 7)
    report = ingest(put(archive), mode="update", region={"time": slice(6, 12)})
    # The uploaded store still has the object: nothing has vanished there.
    assert (report.commits, report.added, report.changed, report.removed) == (0, 0, 0, 0), report

    other = Archive.write(tmp_path / "second", 12, 6, own_units=True)
    with pytest.raises(MismatchError, match="first"):
        ingest(put(other), mode="append", append_dim="time")
    ingest(put(other), mode="append", concat_dim="time")
    ingest(put(other), mode="overwrite")
    assert_shows(other.shown())
