"""`verify` and `sync` of metadata that differs: every field of an array's document that says what its chunks hold."""

import json
import os

import icechunk
import pytest
import zarr

import refreeze
from modes_for_tests import rewrite, write
from refreeze.exceptions import MismatchError
from scenarios import local_repository, stamp

BIG = [{"name": "bytes", "configuration": {"endian": "big"}}]
FIELDS = {
    "data_type": {"data_type": "int32", "fill_value": 0},
    "codecs": {"codecs": BIG},
    "dimension_names": {"dimension_names": ["time", "y"]},
    "fill_value": {"fill_value": 7.0},
    "array": {"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [6, 2]}}},
}
"""By the kind of difference that is told."""


def edited(folder, fields):
    """Change the document of an array of references."""
    file = folder / "air" / "zarr.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


@pytest.mark.parametrize("kind", FIELDS)
def test_every_field_is_compared(ingested, kind):
    """It is a difference of its own kind, with both sides, and nothing is written."""
    folder, target = ingested
    before = stamp(target)
    edited(folder, FIELDS[kind])
    report = refreeze.verify(folder, target)
    assert not report.equal
    assert kind in report.kinds, report.kinds
    told = next(one for one in report.examples if one["kind"] == kind)
    assert told["array"] == "/air"
    assert told["source"] != told["target"]
    assert stamp(target) == before


@pytest.mark.parametrize("kind", FIELDS)
def test_what_makes_chunks_others_is_refused_by_sync(ingested, kind):
    """It names overwrite, and nothing is written."""
    folder, target = ingested
    before = stamp(target)
    edited(folder, FIELDS[kind])
    with pytest.raises(MismatchError) as raised:
        refreeze.sync(folder, target)
    assert "overwrite" in raised.value.hint
    assert stamp(target) == before


def test_sources_that_follow_each_other_have_the_first_ones_attributes(tmp_path):
    """A change of the second one's attributes is none of the target; the first one's is."""
    first = write(tmp_path / "a", 0, 12)
    second = write(tmp_path / "b", 12, 24)
    target = tmp_path / "t"
    refreeze.ingest([first, second], target, concat_dim="time")
    for folder in (second, first):
        zarr.open_group(folder, mode="a")["air"].attrs["history"] = folder.name
        refreeze.sync([first, second], target)
        store = local_repository(target).readonly_session("main").store
        history = zarr.open_group(store, mode="r")["air"].attrs.get("history")
        assert history == (None if folder == second else "a")


def test_a_stale_object_is_mended_by_sync(ingested):
    """A chunk that was written again is not read through Icechunk, and after a sync it is."""
    folder, target = ingested
    rewrite(folder, "air", slice(0, 3), 5.0)
    for file in (folder / "air/c/0").iterdir():
        os.utime(file, (1_700_000_900,) * 2)

    def read():
        store = local_repository(target).readonly_session("main").store
        return zarr.open_group(store, mode="r")["air"][0:3]

    with pytest.raises(icechunk.IcechunkError, match="has changed"):
        read()
    assert refreeze.sync(folder, target).changed == 2
    assert (read() == 5.0).all()
