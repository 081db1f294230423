"""Stores of every shape, chunking, layout, type and sparsity: values and references, by Hypothesis."""

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import zarr
from hypothesis import HealthCheck, example, given, note, settings
from hypothesis import strategies as st
from numcodecs import Delta, Zlib
from numcodecs import Zstd as ZstdV2
from zarr.codecs import GzipCodec, ZstdCodec

from stores_for_tests import ingest, ingest_and_compare

DTYPES = st.sampled_from(
    ["?", "i1", "u1", "<i2", ">u2", "<i4", ">i8", "<u8", "<f2", ">f4", "<f8", "<c8", ">c16"]
)
NAMES = st.text(
    st.characters(
        exclude_categories=["Cc", "Cs", "Cn", "Co", "Zl", "Zp"], exclude_characters="/\\"
    ),
    min_size=1,
    max_size=12,
).filter(
    # What zarr-python itself does not allow as a name of a node.
    lambda name: set(name) != {"."} and not name.startswith((".z", "__")) and name != "zarr.json"
)


@dataclass(frozen=True)
class Layout:
    """How one array is written."""

    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    shards: tuple[int, ...] | None
    keys: dict[str, str]
    dtype: str
    options: dict[str, object]
    dimensions: list[str] | None
    absent: tuple[int, ...]
    """Chunk files to be removed, by their rank, modulo how many there are."""


@st.composite
def layouts(draw, zarr_format):
    shape = tuple(draw(st.lists(st.integers(0, 13), max_size=3)))
    chunks = tuple(draw(st.integers(1, max(1, length + 2))) for length in shape)
    shards = None
    options: dict[str, object] = {}
    dtype = draw(DTYPES)
    if zarr_format == 3:
        keys = {"name": draw(st.sampled_from(["default", "v2"]))}
        if shape and draw(st.booleans()):
            shards = tuple(chunk * draw(st.integers(1, 3)) for chunk in chunks)
        options["compressors"] = draw(st.sampled_from([None, ZstdCodec(), GzipCodec(level=1)]))
    else:
        keys = {"name": "v2"}
        options["order"] = draw(st.sampled_from("CF"))
        options["compressors"] = draw(st.sampled_from([None, ZstdV2(), Zlib(1)]))
        if np.dtype(dtype).kind in "iu" and draw(st.booleans()):
            options["filters"] = [Delta(dtype)]
    fill = draw(
        st.sampled_from([0, 1, 100, np.nan, None] if np.dtype(dtype).kind in "fc" else [0, 1])
    )
    if fill is not None or zarr_format == 2:
        options["fill_value"] = fill
    names = draw(st.none() | st.permutations(["a", "b", "c"]).map(lambda n: n[: len(shape)]))
    absent = tuple(draw(st.lists(st.integers(0, 1000), max_size=6)))
    keys["separator"] = draw(st.sampled_from("./"))
    return Layout(shape, chunks, shards, keys, dtype, options, names, absent)


@st.composite
def stores(draw):
    zarr_format = draw(st.sampled_from([2, 3]))
    arrays = draw(st.dictionaries(NAMES, layouts(zarr_format), min_size=1, max_size=3))
    return zarr_format, arrays


def write(path, zarr_format, arrays):
    root = zarr.open_group(zarr.storage.LocalStore(path), mode="w", zarr_format=zarr_format)
    rng = np.random.default_rng(0)
    for name, layout in arrays.items():
        options = dict(layout.options)
        if layout.dimensions is not None and zarr_format == 2:
            options["attributes"] = {"_ARRAY_DIMENSIONS": layout.dimensions}
        elif layout.dimensions is not None:
            options["dimension_names"] = layout.dimensions
        array = root.create_array(
            name,
            shape=layout.shape,
            chunks=layout.chunks,
            shards=layout.shards,
            dtype=layout.dtype,
            chunk_key_encoding=layout.keys,
            **options,
        )
        array[...] = rng.integers(0, 100, layout.shape).astype(layout.dtype)
        files = sorted(
            file
            for file in (path / name).rglob("*")
            if file.is_file() and not file.name.startswith((".z", "zarr.json"))
        )
        for rank in {absent % len(files) for absent in layout.absent if files}:
            files[rank].unlink()


@settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(store=stores(), limits=st.tuples(st.integers(1, 40), st.integers(1, 40)))
def test_any_store_comes_back(store, limits):
    """Values, metadata and missing chunks agree, and references are exactly the files, whatever the limits."""
    zarr_format, arrays = store
    folder = Path(tempfile.mkdtemp(prefix="refreeze-property-"))
    try:
        write(folder / "source", zarr_format, arrays)
        note(f"{sorted(p.relative_to(folder).as_posix() for p in folder.rglob('*'))}")
        result = ingest_and_compare(
            folder / "source",
            folder / "target",
            max_refs_per_commit=limits[0],
            refs_per_manifest=limits[1],
        )
        files = result.repository.list_manifest_files(result.session.snapshot_id)
        assert all(file.num_chunk_refs <= limits[1] for file in files)
    finally:
        shutil.rmtree(folder)


FOREIGN = st.text("c0123456789./+_- ae", min_size=1, max_size=6).filter(
    lambda key: (
        not key.startswith("/")
        and not key.endswith("/")
        and "//" not in key
        and not {".", ".."} & set(key.split("/"))
    )
)


@settings(max_examples=40)
@given(
    keys=st.sampled_from(
        [{"name": name, "separator": separator} for name in ("default", "v2") for separator in "./"]
    ),
    foreign_keys=st.lists(FOREIGN, max_size=8),
)
@example(keys={"name": "default", "separator": "/"}, foreign_keys=["c/00", "c/+1", "c/3", "c/1 "])
@example(keys={"name": "v2", "separator": "."}, foreign_keys=["00", "0.0", "3", "-1", "c/0"])
def test_foreign_keys_among_the_chunks_are_not_chunks(keys, foreign_keys):
    """Files of any other name below an array change nothing but a count and a warning."""
    folder = Path(tempfile.mkdtemp(prefix="refreeze-property-"))
    try:
        root = zarr.open_group(folder / "source", mode="w")
        array = root.create_array(
            "a", shape=(12,), chunks=(4,), dtype="i4", chunk_key_encoding=keys
        )
        array[:] = np.arange(12)
        chunks = {array.metadata.encode_chunk_key((number,)) for number in range(3)}
        placed = set()
        for foreign in foreign_keys:
            path = folder / "source" / "a" / foreign
            if foreign in chunks or path.is_dir() or any(p.is_file() for p in path.parents):
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"")
            placed.add(path)
        result = ingest(folder / "source", folder / "target")
        assert result.locations() == sorted(f"file://{folder}/source/a/{key}" for key in chunks)
        assert result.report.keys_listed == 4 + len(placed)
        warned = [text for text in result.report.warnings if "not chunks" in text]
        assert [int(text.split()[2]) for text in warned] == ([len(placed)] if placed else [])
        np.testing.assert_array_equal(result.array("a")[:], np.arange(12))
    finally:
        shutil.rmtree(folder)
