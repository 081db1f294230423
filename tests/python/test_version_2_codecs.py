"""Every filter and compressor that numcodecs registers: converted, and equal by values, or refused by name.

One that a new numcodecs brings has to be put into one of the two tables here.
"""

from __future__ import annotations

import json
from typing import Any

import numcodecs
import numpy as np
import pytest
import zarr
from numcodecs.registry import codec_registry

import refreeze
from hand_written import array_v2, array_v3, group_v2, group_v3, same_values
from refreeze.exceptions import UnsupportedArrayError
from stores_for_tests import ingest_and_compare

INTEGERS = np.arange(35, dtype="<i4").reshape(7, 5)
BIG = INTEGERS.astype(">f8")
BYTES = INTEGERS.astype("u1")

# Data, filters, compressor: the configurations, as documents hold them.
CONVERTED: dict[str, tuple[Any, list[dict[str, Any]], dict[str, Any] | None]] = {
    "adler32": (INTEGERS, [{"id": "adler32"}], None),
    "astype": (BIG, [{"id": "astype", "encode_dtype": ">f4", "decode_dtype": ">f8"}], None),
    "bitround": (INTEGERS.astype("<f4"), [{"id": "bitround", "keepbits": 5}], None),
    "blosc": (INTEGERS, [], {"id": "blosc", "cname": "lz4", "clevel": 5, "shuffle": 1}),
    "blosc, a level for writers": (INTEGERS, [], {"id": "blosc", "cname": "zstd", "clevel": 7}),
    "bz2": (INTEGERS, [], {"id": "bz2", "level": 1}),
    "crc32": (INTEGERS, [{"id": "crc32"}], None),
    "crc32, at the end": (INTEGERS, [{"id": "crc32", "location": "end"}], None),
    "crc32c": (INTEGERS, [{"id": "crc32c"}], None),
    "crc32c, at the start": (INTEGERS, [], {"id": "crc32c", "location": "start"}),
    "delta": (INTEGERS, [{"id": "delta", "dtype": "<i4"}], None),
    "fixedscaleoffset": (
        BIG,
        [{"id": "fixedscaleoffset", "scale": 10, "offset": 1, "dtype": ">f8", "astype": "<i2"}],
        {"id": "zlib", "level": 1},
    ),
    "fletcher32": (INTEGERS, [{"id": "fletcher32"}], {"id": "zlib", "level": 1}),
    "gzip": (INTEGERS, [], {"id": "gzip", "level": 1}),
    "jenkins_lookup3": (INTEGERS, [{"id": "jenkins_lookup3", "initval": 0, "prefix": None}], None),
    "lz4": (INTEGERS, [{"id": "lz4", "acceleration": 1}], None),
    "lzma": (BIG, [], {"id": "lzma", "format": 1, "check": -1, "preset": None, "filters": None}),
    "packbits": (INTEGERS % 3 == 0, [{"id": "packbits"}], None),
    "pcodec": (INTEGERS, [], {"id": "pcodec", "level": 8}),
    "pcodec, floats": (INTEGERS.astype("<f8"), [], {"id": "pcodec", "level": 3}),
    "pcodec, a filter": (INTEGERS, [{"id": "pcodec"}], {"id": "zstd", "level": 1}),
    "delta, then pcodec": (INTEGERS, [{"id": "delta", "dtype": "<i4"}], {"id": "pcodec"}),
    "quantize": (INTEGERS.astype("<f4"), [{"id": "quantize", "digits": 2, "dtype": "<f4"}], None),
    "shuffle": (INTEGERS, [{"id": "shuffle", "elementsize": 4}], {"id": "zlib", "level": 4}),
    "shuffle, big-endian": (BIG, [{"id": "shuffle", "elementsize": 8}], {"id": "zstd", "level": 4}),
    "delta, then shuffle": (
        INTEGERS,
        [{"id": "delta", "dtype": "<i4", "astype": "<i2"}, {"id": "shuffle", "elementsize": 2}],
        {"id": "zlib", "level": 4},
    ),
    "a compressor among filters": (
        INTEGERS,
        [{"id": "delta", "dtype": "<i4"}, {"id": "zlib", "level": 1}],
        {"id": "blosc", "cname": "lz4", "clevel": 1, "shuffle": 2},
    ),
    "three of bytes": (BYTES, [{"id": "bz2"}, {"id": "crc32"}], {"id": "gzip", "level": 9}),
    "zlib": (BIG, [], {"id": "zlib", "level": 1}),
    "zlib, a level for writers": (BIG, [], {"id": "zlib", "level": -1}),
    "zstd": (BIG, [], {"id": "zstd", "level": -5}),
    "zstd, checksum": (BIG, [{"id": "zstd", "level": 1, "checksum": True}], None),
}

REFUSED: dict[str, tuple[Any, list[dict[str, Any]], dict[str, Any] | None]] = {
    "base64": (INTEGERS, [{"id": "base64"}], None),
    "base64, a compressor": (INTEGERS, [], {"id": "base64"}),
    "categorize": (
        INTEGERS.astype("<U2"),
        [{"id": "categorize", "labels": ["a"], "dtype": "<U2", "astype": "u1"}],
        None,
    ),
    "json2": (INTEGERS, [{"id": "json2", "encoding": "utf-8"}], None),
    "pickle": (INTEGERS, [{"id": "pickle", "protocol": 5}], None),
    "vlen-array": (INTEGERS, [{"id": "vlen-array", "dtype": "<i4"}], None),
    # They take an array, and what comes before gives bytes.
    "delta": (
        INTEGERS,
        [{"id": "shuffle", "elementsize": 4}, {"id": "delta", "dtype": "<i4"}],
        None,
    ),
    "pcodec": (INTEGERS, [{"id": "zlib"}], {"id": "pcodec"}),
    "acme": (INTEGERS, [{"id": "acme"}], None),
}
ELSEWHERE = {"vlen-utf8", "vlen-bytes", "msgpack2"}
"""Codecs of text and bytes of variable length, in the tests of conversion; one of objects, which is
there only beside another package."""


def test_no_codec_is_forgotten():
    """Every codec that numcodecs brings is in a table."""
    named = {name.partition(",")[0] for name in [*CONVERTED, *REFUSED]} | ELSEWHERE
    own = {name for name, kind in codec_registry.items() if kind.__module__.startswith("numcodecs")}
    assert own <= named


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("name", CONVERTED)
def test_converted(tmp_path, name, order):
    """Chunks that numcodecs has encoded are read from the result as they are from the source."""
    data, filters, compressor = CONVERTED[name]
    stages = [numcodecs.get_codec(one) for one in [*filters, *([compressor] if compressor else [])]]
    source = group_v2(tmp_path / "source.zarr")
    array = array_v2(
        source / "a", data, (3, 2), filters=filters or None, compressor=compressor, order=order
    )
    for chunk in array.glob("[0-9]*"):
        stored: Any = np.frombuffer(chunk.read_bytes(), data.dtype).reshape(3, 2)
        stored = np.asarray(stored, order=order)
        for stage in stages:
            stored = stage.encode(stored)
        chunk.write_bytes(numcodecs.compat.ensure_bytes(stored))
    assert zarr.open_array(array, mode="r").shape == data.shape
    same_values(source, tmp_path / "target")
    ingest_and_compare(source, tmp_path / "other")


@pytest.mark.parametrize("name", REFUSED)
def test_refused(tmp_path, name):
    """What version 3 has no place for is refused by array and codec, and can be left out."""
    data, filters, compressor = REFUSED[name]
    source = group_v2(tmp_path / "source.zarr")
    array_v2(source / "fine", data, (3, 2))
    array_v2(source / "bad", data, (3, 2), filters=filters or None, compressor=compressor)
    match = rf"array bad .*{name.partition(',')[0]}"
    with pytest.raises(UnsupportedArrayError, match=match) as raised:
        refreeze.ingest(source, tmp_path / "target")
    assert raised.value.hint == "leave it out with --skip bad"
    assert not (tmp_path / "target").exists()
    refreeze.ingest(source, tmp_path / "target", skip_variables=["bad"])


LEVELS = [
    {"id": "gzip", "level": -1},
    {"id": "gzip", "level": 12},
    {"id": "zstd", "level": 100},
    {"id": "blosc", "cname": "lz4", "clevel": 12, "shuffle": 1, "blocksize": 0},
    {"id": "blosc", "cname": "lz4", "clevel": 5, "shuffle": -1, "blocksize": 0},
]


@pytest.mark.parametrize("compressor", LEVELS, ids=json.dumps)
def test_levels_that_a_writer_chose(tmp_path, compressor):
    """A reader needs no level: one that version 3 may not name becomes one that it may."""
    written = numcodecs.get_codec(_usual(compressor))
    source = group_v2(tmp_path / "source.zarr")
    array_v2(
        source / "a",
        INTEGERS,
        (3, 2),
        compressor=compressor,
        encode=lambda chunk: bytes(written.encode(chunk)),
    )
    same_values(source, tmp_path / "target")


def _usual(compressor: dict[str, Any]) -> dict[str, Any]:
    return compressor | {name: 1 for name in ("level", "clevel") if name in compressor}


def test_netcdf_dimensions(tmp_path):
    """Where xarray's attribute is missing, netCDF-C's member of the document names dimensions."""
    source = group_v2(tmp_path / "source.zarr")
    netcdf = {"dimrefs": ["/lat", "/inner/lon"], "storage": "chunked"}
    array = array_v2(source / "a", INTEGERS, (3, 2), _NCZARR_ARRAY=netcdf)
    (array / ".zattrs").write_text("{}")
    result = same_values(source, tmp_path / "target")
    assert result.array("a").metadata.dimension_names == ("lat", "lon")


def test_a_level_of_version_3_that_zarr_does_not_read(tmp_path):
    """Version 3 names the range itself, and zarr-python holds to it."""
    source = group_v3(tmp_path / "source.zarr")
    codecs = [{"name": "bytes", "configuration": {"endian": "little"}}]
    codecs.append({"name": "gzip", "configuration": {"level": -1}})  # type: ignore[dict-item]
    array_v3(source / "a", INTEGERS, (3, 2), codecs=codecs)
    with pytest.raises(UnsupportedArrayError, match=r"array a .*-1"):
        refreeze.ingest(source, tmp_path / "target")


def test_many_dimensions_are_tried_with_few_numbers(tmp_path):
    """A chunk of five along each of twelve dimensions has 244 million."""
    source = group_v2(tmp_path / "source.zarr")
    array_v2(source / "a", np.ones((1,) * 12, "<i4"), (1,) * 12)
    document = json.loads((source / "a/.zarray").read_text())
    document |= {"shape": [5] * 12, "chunks": [5] * 12, "filters": [{"id": "shuffle"}]}
    (source / "a/.zarray").write_text(json.dumps(document))
    (source / "a/.zattrs").write_text("{}")
    assert refreeze.plan(source).arrays[0].chunk_shape == (5,) * 12
