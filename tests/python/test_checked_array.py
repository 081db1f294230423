"""Chunks are looked at as soon as they are stored: each once, decoded, and only if the store has all of it."""

import icechunk
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from refreeze.writer.checked_array import CheckedArray


def stores():
    """Return stores of a session, and of zarr, which answer differently about what is not there."""
    repo = icechunk.Repository.create(icechunk.in_memory_storage())
    return [repo.writable_session("main").store, zarr.storage.MemoryStore()]


@st.composite
def places(draw):
    """Draw an array and a part of it that is not empty."""
    chunks = draw(st.lists(st.integers(1, 4), min_size=0, max_size=3))
    shape = [draw(st.integers(1, 10)) for _ in chunks]
    shards = [chunk * draw(st.integers(1, 2)) for chunk in chunks] if draw(st.booleans()) else None
    starts = [draw(st.integers(0, length - 1)) for length in shape]
    stops = [draw(st.integers(a + 1, b)) for a, b in zip(starts, shape, strict=True)]
    place = tuple(slice(a, b) for a, b in zip(starts, stops, strict=True))
    return tuple(shape), tuple(chunks), shards and tuple(shards), place


@settings(deadline=None)
@given(places(), st.sampled_from(["", "a", "group/a"]))
def test_every_value_is_looked_at_once(drawn, path):
    """What is shown is what is stored, of every chunk, shard or edge that has a part of what is written."""
    shape, chunks, shards, place = drawn
    for store in stores():
        zarr.create_array(
            store, name=path or None, shape=shape, chunks=chunks, shards=shards, dtype="i4"
        )
        values = np.arange(1, 1 + int(np.prod(shape)), dtype="i4").reshape(shape)[place]
        seen = np.zeros(values.shape, int)

        def look(held, inside, values=values, seen=seen):
            assert np.array_equal(held, values[inside])
            seen[inside] += 1

        assert CheckedArray(store, path).write(place, values, look) == []
        assert (seen == 1).all()
        assert np.array_equal(zarr.open_array(store, path=path)[place], values)


@pytest.mark.parametrize("kept", [None, 5], ids=["not there", "too short"])
def test_what_the_store_does_not_have_in_full(monkeypatch, kept):
    """A chunk that is lost or cut is not looked at, and named."""
    for store in stores():
        zarr.create_array(store, name="a", shape=(9,), chunks=(4,), dtype="i4")
        real = type(store).set

        async def lossy(self, key, value, real=real):
            if key != "a/c/1":
                await real(self, key, value)
            elif kept:
                await real(self, key, value[:kept])

        monkeypatch.setattr(type(store), "set", lossy)
        looked = []

        def look(_, inside, looked=looked):
            looked.append(inside)

        lost = CheckedArray(store, "a").write((slice(1, 9),), np.arange(8, dtype="i4"), look)
        assert lost == [(slice(3, 7),)]
        assert sorted(looked, key=repr) == [(slice(0, 3),), (slice(7, 8),)]


def test_what_cannot_be_decoded(monkeypatch):
    """A chunk that its own codec cannot read is not there, however long it is."""
    (store, _) = stores()
    zarr.create_array(store, name="a", shape=(9,), chunks=(4,), dtype="i4")

    def broken(*_):
        raise RuntimeError("corrupt block")

    monkeypatch.setattr(zarr.codecs.ZstdCodec, "_decode_sync", broken)
    array, values = CheckedArray(store, "a"), np.arange(9, dtype="i4")
    lost = array.write((slice(0, 9),), values, lambda *_: None)
    assert lost == [(slice(0, 4),), (slice(4, 8),), (slice(8, 9),)]


def test_a_failure_while_looking():
    """An error of whoever looks ends the write."""
    (store, _) = stores()
    zarr.create_array(store, name="a", shape=(9,), chunks=(4,), dtype="i4")

    def look(held, inside):
        raise ArithmeticError

    with pytest.raises(ArithmeticError):
        CheckedArray(store, "a").write((slice(0, 9),), np.arange(9, dtype="i4"), look)
