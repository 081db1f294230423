"""Version 2 metadata becomes version 3 metadata that decodes the same bytes to the same values, or is refused by name."""

import json
import sys

import numpy as np
import pytest
import zarr
from numcodecs import (
    BZ2,
    CRC32,
    JSON,
    LZ4,
    LZMA,
    AsType,
    BitRound,
    Blosc,
    Delta,
    FixedScaleOffset,
    GZip,
    PackBits,
    Quantize,
    Shuffle,
    VLenBytes,
    Zlib,
    Zstd,
)

import refreeze
from refreeze.exceptions import UnsupportedArrayError
from refreeze.metadata.conversion import array_document, chunk_keys, stored_chunk_shape
from refreeze.metadata.hierarchy import group_document
from stores_for_tests import assert_same_dataset, ingest_and_compare, write_array

FILTERS = {
    "delta": ("<i4", [Delta("<i4")]),
    "delta, big-endian": (">i4", [Delta(">i4")]),
    "delta, other type": ("<i4", [Delta("<i4", "<i2")]),
    "delta, other order": ("<i4", [Delta("<i4", ">i2")]),
    "two deltas": ("<i8", [Delta("<i8", "<i4"), Delta("<i4", ">i2")]),
    "fixedscaleoffset": ("<f8", [FixedScaleOffset(100, 10, "<f8", "<i2")]),
    "fixedscaleoffset, one byte": ("<f4", [FixedScaleOffset(0, 1, "<f4", "u1")]),
    "fixedscaleoffset, to big-endian": ("<f8", [FixedScaleOffset(0, 10, "<f8", ">i2")]),
    "fixedscaleoffset, to little-endian": (">f8", [FixedScaleOffset(0, 10, ">f8", "<i2")]),
    "quantize": ("<f4", [Quantize(3, "<f4")]),
    "bitround": ("<f4", [BitRound(5)]),
    "astype": ("<f8", [AsType("<f4", "<f8")]),
    "astype, other order": ("<f8", [AsType(">f4", "<f8")]),
    "packbits": ("?", [PackBits()]),
}

COMPRESSORS = {
    "none": None,
    "blosc": Blosc(),
    "blosc, no shuffle": Blosc("zlib", 1, Blosc.NOSHUFFLE),
    "blosc, bits": Blosc("zstd", 9, Blosc.BITSHUFFLE, blocksize=256),
    "blosc, automatic": Blosc("lz4", 5, Blosc.AUTOSHUFFLE),
    "zstd": Zstd(3),
    "zstd, checksum": Zstd(3, checksum=True),
    "gzip": GZip(1),
    "zlib": Zlib(1),
    "bz2": BZ2(1),
    "lzma": LZMA(),
    "lz4": LZ4(),
    "shuffle": Shuffle(2),
    "crc32": CRC32(),
}


@pytest.fixture
def root(tmp_path):
    """Return an empty version 2 group on disk."""
    return zarr.open_group(tmp_path / "source.zarr", mode="w", zarr_format=2)


def ingest_root(tmp_path):
    source = tmp_path / "source.zarr"
    result = ingest_and_compare(source, tmp_path / "target")
    assert_same_dataset(source, result)
    return result


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("name", FILTERS)
def test_filters(root, tmp_path, name, order):
    """Filters decode to the same numbers, whatever type and byte order they store."""
    dtype, filters = FILTERS[name]
    write_array(root, "a", dtype, filters=filters, order=order)
    write_array(root, "b", dtype, filters=filters, order=order, compressors=None)
    ingest_root(tmp_path)


@pytest.mark.parametrize("name", COMPRESSORS)
def test_compressors(root, tmp_path, name):
    """Compressors decode to the same bytes, for types of one byte and of several."""
    for dtype in ("i1", "<i4", ">f8"):
        write_array(root, dtype[1:], dtype, compressors=COMPRESSORS[name])
    ingest_root(tmp_path)


def test_column_major_chunks_of_any_number_of_dimensions(root, tmp_path):
    """Order F becomes a transpose of the chunk."""
    for ndim in range(5):
        shape = (3, 4, 5, 2)[:ndim]
        array = root.create_array(
            f"a{ndim}",
            shape=shape,
            chunks=(2, 3, 5, 1)[:ndim],
            dtype=">f4",
            order="F",
            attributes={"_ARRAY_DIMENSIONS": list("abcd"[:ndim])},
        )
        array[...] = np.arange(np.prod(shape)).reshape(shape)
    ingest_root(tmp_path)


REFUSED = {
    # It takes an array, and what comes before gives bytes.
    "delta, behind": ("<i4", {"filters": [Shuffle(4), Delta("<i4")]}),
    # What zarr's version 3 codec would decode to other numbers.
    "quantize": (">f4", {"filters": [Quantize(3, ">f4")]}),
    "delta": (">i4", {"filters": [Delta("<i4")]}),
}


@pytest.mark.parametrize("name", REFUSED)
def test_filters_that_version_3_cannot_express(root, tmp_path, name):
    """They are refused by the array's name, and nothing is written."""
    dtype, options = REFUSED[name]
    write_array(root, "good", "<i4")
    write_array(root.create_group("inner"), "bad", dtype, **options)
    with pytest.raises(
        UnsupportedArrayError, match=r"inner/bad.*" + name.partition(",")[0]
    ) as raised:
        refreeze.ingest(tmp_path / "source.zarr", tmp_path / "target")
    assert raised.value.hint == "leave it out with --skip inner/bad"
    assert not (tmp_path / "target").exists()
    report = refreeze.ingest(
        tmp_path / "source.zarr", tmp_path / "target", skip_variables=["inner/bad"]
    )
    assert [array.path for array in report.arrays] == ["/good"]


def test_objects_that_are_no_text_are_refused(root, tmp_path):
    """JSON objects have no version 3 data type: the array and the codec are named."""
    write_array(root, "objects", str, fill_value=None)
    document = tmp_path / "source.zarr" / "objects" / ".zarray"
    metadata = json.loads(document.read_text())
    document.write_text(json.dumps(metadata | {"filters": [JSON().get_config()]}))
    with pytest.raises(UnsupportedArrayError, match="objects"):
        refreeze.ingest(tmp_path / "source.zarr", tmp_path / "target")


def test_bytes_of_variable_length(root, tmp_path):
    """The vlen-bytes filter is version 3's codec of that name."""
    from zarr.core.dtype import VariableLengthBytes

    array = root.create_array("raw", shape=(5,), chunks=(2,), dtype=VariableLengthBytes())
    array[:3] = np.array([b"a", b"", b"\x00\xff"], dtype=object)
    assert isinstance(array.metadata.filters[0], VLenBytes)
    result = ingest_and_compare(tmp_path / "source.zarr", tmp_path / "target")
    assert result.array("raw")[:].tolist() == array[:].tolist()


def test_fields_of_both_byte_orders_are_refused(root, tmp_path):
    """Version 3 has one byte order for a whole record."""
    dtype = np.dtype([("a", ">i4"), ("b", "<i4")])
    root.create_array("mixed", shape=(2,), dtype=dtype)
    with pytest.raises(UnsupportedArrayError, match=r"mixed.*both byte orders"):
        refreeze.ingest(tmp_path / "source.zarr", tmp_path / "target")


def test_what_xarray_hides_of_netcdf_c_is_left_out(root, tmp_path):
    """Attributes that begin with _nc are netCDF-C's own in version 2; xarray shows none of them."""
    write_array(root, "air", attributes={"_NCZARR_ATTR": {"types": {}}, "units": "K"})
    result = ingest_and_compare_attributes(tmp_path)
    assert result.document("air")["attributes"].keys() == {"units", "_FillValue"}


def ingest_and_compare_attributes(tmp_path):
    from stores_for_tests import ingest

    result = ingest(tmp_path / "source.zarr", tmp_path / "target")
    assert_same_dataset(tmp_path / "source.zarr", result)
    return result


def test_documents_are_version_3_with_icechunks_keys(root):
    """Chunk keys of the source are read from its metadata, and are not those of the document."""
    array = write_array(root, "air", chunk_key_encoding={"name": "v2", "separator": "/"})
    assert chunk_keys(array.metadata) == ("v2", "/")
    assert stored_chunk_shape(array.metadata) == (3, 2)
    document = json.loads(array_document(array.metadata)[0])
    assert document["zarr_format"] == 3
    assert document["node_type"] == "array"
    assert document["chunk_key_encoding"] == {
        "name": "default",
        "configuration": {"separator": "/"},
    }
    assert document["dimension_names"] == ["y", "x"]
    assert "_ARRAY_DIMENSIONS" not in document["attributes"]


def test_a_group_document_keeps_attributes_alone():
    """What is consolidated would go stale in a copy."""
    document = json.loads(group_document({}))
    assert document["node_type"] == "group"
    assert document["attributes"] == {}
    assert "consolidated_metadata" not in document


def test_chunks_of_length_zero(tmp_path):
    """Older writers gave empty dimensions chunks of length zero."""
    source = tmp_path / "source.zarr"
    root = zarr.open_group(source, mode="w", zarr_format=2)
    write_array(root, "air")
    document = source / "air" / ".zarray"
    metadata = json.loads(document.read_text()) | {"shape": [0, 5], "chunks": [0, 2]}
    document.write_text(json.dumps(metadata))
    for chunk in source.glob("air/[0-9]*"):
        chunk.unlink()
    try:
        zarr.open_array(source / "air", mode="r")
    except ValueError:
        pytest.skip("this zarr-python does not read such arrays")
    report = refreeze.ingest(source, tmp_path / "target")
    assert report.arrays[0].grid_shape == (0, 3)


def test_importing_convert_is_cheap():
    """The conversion's own imports wait until an array is converted."""
    import subprocess

    code = "import sys, refreeze.metadata.conversion; print('zarr' in sys.modules, 'numcodecs' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["False", "False"]
