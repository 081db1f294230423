"""The store through which zarr-python reads: the same answers as zarr's own, without its futures."""

import asyncio

import numpy as np
import pytest
import zarr
from obstore.store import MemoryStore
from zarr.abc.store import OffsetByteRequest, RangeByteRequest, SuffixByteRequest
from zarr.core.buffer import default_buffer_prototype
from zarr.storage import ObjectStore

from refreeze.metadata.zarr_store import OrderlyStore

PARTS = [
    None,
    RangeByteRequest(2, 5),
    OffsetByteRequest(7),
    SuffixByteRequest(3),
    SuffixByteRequest(10),
]


def read(store, key, part):
    found = asyncio.run(store.get(key, default_buffer_prototype(), part))
    return None if found is None else found.to_bytes()


@pytest.mark.parametrize("part", PARTS, ids=str)
def test_parts_of_objects(part):
    """Whole objects and every kind of part; an object that is not there is none."""
    memory = MemoryStore()
    memory.put("object", b"0123456789")
    own, theirs = (kind(memory, read_only=True) for kind in (OrderlyStore, ObjectStore))
    assert read(own, "object", part) == read(theirs, "object", part) is not None
    assert read(own, "nothing", part) is None
    assert asyncio.run(own.exists("object"))
    assert not asyncio.run(own.exists("nothing"))


def test_sharded_arrays(monkeypatch):
    """Zarr reads shards by parts; no call of obstore is asynchronous."""
    memory = MemoryStore()
    array = zarr.create_array(
        ObjectStore(memory), shape=(24,), chunks=(2,), shards=(8,), dtype="i4", fill_value=7
    )
    array[:16] = np.arange(16)

    def refused(*_arguments, **_options):
        raise AssertionError("an asynchronous call")

    for name in ("get_async", "get_range_async", "get_ranges_async", "head_async"):
        monkeypatch.setattr(f"obstore.{name}", refused)
    values = zarr.open_array(OrderlyStore(memory, read_only=True), mode="r")[3:20]
    assert values.tolist() == [*range(3, 16), 7, 7, 7, 7]
