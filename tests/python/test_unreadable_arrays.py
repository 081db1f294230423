"""One array that nobody can read beside others: named, left out on demand, and not looked at when it is not selected."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from typing import Any

import numpy as np
import obstore
import pytest
from obstore.store import MemoryStore

import refreeze
from hand_written import (
    array_v2,
    array_v3,
    consolidate_v2,
    consolidate_v3,
    group_v2,
    group_v3,
    paths,
    write,
)
from refreeze.exceptions import SourceNotFoundError, UnsupportedArrayError
from refreeze.metadata.selection import Selection, read_metadata
from refreeze.stores.resolve import Source
from scenarios import upload

DATA = np.arange(12, dtype="<i4").reshape(3, 4)
NO_TYPE: dict[str, Any] = {"dtype": "|O", "fill_value": 0}

# What makes an array unreadable, in its document; text replaces the whole document.
V2: dict[str, Any] = {
    "pickle": NO_TYPE | {"filters": [{"id": "pickle", "protocol": 5}]},
    "objects of JSON": NO_TYPE | {"filters": [{"id": "json2", "encoding": "utf-8"}]},
    "codec": {"compressor": {"id": "acme"}},
    "filter": {"filters": [{"id": "acme"}]},
    "codec's settings": {"compressor": {"id": "blosc", "cname": "lz4", "nonsense": 1}},
    "no codec": {"compressor": 7},
    "data type": {"dtype": "<q9"},
    "fill value": {"dtype": "|u1", "fill_value": 300},
    "order": {"order": "X"},
    "huge shape": {"shape": [2**64, 4]},
    "a shape of thousands of digits": f'{{"zarr_format": 2, "shape": [1{"0" * 5000}]}}',
    "boolean shape": {"shape": [True, 4]},
    "negative shape": {"shape": [-3, 4]},
    "no shape": {"shape": None},
    "chunks of 0": {"chunks": [0, 2]},
    "chunks of another number": {"chunks": [2]},
    "separator": {"dimension_separator": "\ud800"},
    "cut off": '{"zarr_format": 2, "shape"',
    "no object": "[1, 2]",
    "no text": b"\xff\xfe\x00\x01",
    "brackets": "[" * 100_000,
    "many filters": {"filters": [{"id": "delta", "dtype": "<i4"}] * 100_000},
    "version": {"zarr_format": 7},
}
V3: dict[str, Any] = {
    "data type": {"data_type": "bfloat16"},
    "data type of another kind": {"data_type": {"name": ["x"]}},
    "codec": {"codecs": [{"name": "acme"}]},
    "no codecs": {"codecs": []},
    "fill value": {"fill_value": "abc"},
    "fill value of another kind": {"fill_value": {"a": [1]}},
    "huge shape": {"shape": [2**64, 4]},
    "shape of 2 ** 5000": {"shape": [2**5000, 4]},
    "boolean shape": {"shape": [True, 4]},
    "chunks of 0": {"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [0, 2]}}},
    "boolean chunks": {
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [True, 2]}}
    },
    "huge chunks": {
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [2**64, 2]}}
    },
    "rectilinear": {
        "chunk_grid": {
            "name": "rectilinear",
            "configuration": {"kind": "inline", "chunk_shapes": [[1, 2], [4]]},
        }
    },
    "dimension name": {"dimension_names": ["\ud800", "x"]},
    "dimension names": {"dimension_names": ["x"]},
    "key encoding": {"chunk_key_encoding": {"name": "fanout"}},
    "separator": {
        "chunk_key_encoding": {"name": "v2", "configuration": {"separator": "x" * 10**6}}
    },
    "extra member": {"acme": 1},
    "NaN in a codec": {
        "codecs": [{"name": "numcodecs.quantize", "configuration": {"digits": float("nan")}}]
    },
    "many codecs": {"codecs": [{"name": "bytes"}] * 100_000},
    "many codecs in a shard": {
        "codecs": [
            {"name": "sharding_indexed", "configuration": {"codecs": [{"name": "crc32c"}] * 10**5}}
        ]
    },
    "cut off": '{"zarr_format": 3, "node_type"',
    "brackets": "[" * 100_000,
    "brackets inside": (
        f'{{"zarr_format": 3, "node_type": "array", "shape": {"[" * 900}1{"]" * 900}}}'
    ),
}
CASES = [(2, name, change, False) for name, change in V2.items()]
CASES += [(3, name, change, False) for name, change in V3.items()]
# Consolidated metadata is one document, which text would break as a whole.
CASES += [(*case[:3], True) for case in CASES if isinstance(case[2], dict)]


def store(folder, zarr_format, change):
    """Write arrays `fine` and `inner/core`, of which the second is broken."""
    group, array = (group_v2, array_v2) if zarr_format == 2 else (group_v3, array_v3)
    group(folder)
    group(folder / "inner")
    array(folder / "fine", DATA, (2, 2))
    array(folder / "inner/core", DATA, (2, 2))
    file = folder / "inner/core" / (".zarray" if zarr_format == 2 else "zarr.json")
    if isinstance(change, dict):
        change = json.loads(file.read_text()) | change
    write(file, change)
    return folder


@pytest.mark.parametrize(("zarr_format", "name", "change", "consolidated"), CASES)
def test_an_array_that_cannot_be_read(tmp_path, zarr_format, name, change, consolidated):
    """Regression: the whole store was unusable. The array is named, and --skip and --array take the others."""
    source, target = store(tmp_path / "source.zarr", zarr_format, change), tmp_path / "target"
    if consolidated:
        (consolidate_v2 if zarr_format == 2 else consolidate_v3)(source)
    for act in (
        lambda **o: refreeze.ingest(source, target, **o),
        lambda **o: refreeze.plan(source, **o),
    ):
        with pytest.raises(UnsupportedArrayError, match="inner/core") as raised:
            act()
        assert "--skip inner/core" in raised.value.hint
        assert "internal" not in raised.value.message
    assert not target.exists()
    for options in ({"skip_variables": ["inner/*"]}, {"arrays": ["fine"]}):
        assert [array.path for array in refreeze.plan(source, **options).arrays] == ["/fine"]
    assert paths(refreeze.ingest(source, target, skip_variables=["core"])) == ["/fine"]


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_the_parser_leaves_it_out(tmp_path, zarr_format):
    """`skip_variables` of the parser too; without it the array is named."""
    import virtualizarr
    from obspec_utils.registry import ObjectStoreRegistry
    from obstore.store import LocalStore

    change = NO_TYPE if zarr_format == 2 else {"data_type": "bfloat16"}
    source = store(tmp_path / "source.zarr", zarr_format, change)
    registry = ObjectStoreRegistry({"file://": LocalStore()})
    opened = virtualizarr.open_virtual_dataset(
        source.as_uri(), registry=registry, parser=refreeze.ZarrParser(skip_variables=["core"])
    )
    assert list(opened.variables) == ["fine"]
    parser = refreeze.ZarrParser(group="inner")
    with pytest.raises(UnsupportedArrayError, match="array core "):
        virtualizarr.open_virtual_dataset(source.as_uri(), registry=registry, parser=parser)


def test_what_is_not_selected_is_not_interpreted(tmp_path, monkeypatch):
    """Documents of arrays that were not chosen are neither converted nor parsed beyond their kind."""
    import refreeze.metadata.selection as module

    seen = []
    real = module.described
    monkeypatch.setattr(
        module, "described", lambda document: seen.append(document) or real(document)
    )
    source = store(tmp_path / "source.zarr", 3, {})
    refreeze.plan(source, arrays=["fine"])
    assert [document["shape"] for document in seen] == [[3, 4]]


def test_a_damaged_group(tmp_path):
    """It may be an array as well: it is named as one, --skip leaves out all below, --array says why it finds nothing."""
    source = store(tmp_path / "source.zarr", 3, {})
    write(source / "inner/zarr.json", "{")
    with pytest.raises(UnsupportedArrayError, match="metadata of inner ") as raised:
        refreeze.ingest(source, tmp_path / "target")
    assert "--skip inner" in raised.value.hint
    with pytest.raises(UnsupportedArrayError, match="metadata of inner "):
        refreeze.ingest(source, tmp_path / "target", arrays=["inner/core"])
    assert paths(refreeze.ingest(source, tmp_path / "target", skip_variables=["inner"])) == [
        "/fine"
    ]


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_damaged_root(tmp_path, zarr_format):
    """It names the store; nothing can be left out."""
    source = store(tmp_path / "source.zarr", zarr_format, {})
    write(source / ("zarr.json" if zarr_format == 3 else ".zgroup"), "null")
    with pytest.raises(UnsupportedArrayError, match=r"source\.zarr cannot be read"):
        refreeze.ingest(source, tmp_path / "target")


CONSOLIDATED = {
    "cut off": '{"metadata": {',
    "a list": {"metadata": []},
    "no metadata": {"zarr_consolidated_format": 1},
}


@pytest.mark.parametrize("name", CONSOLIDATED)
def test_damaged_consolidated_metadata(tmp_path, name):
    """It is named: the arrays that it held are not known."""
    source = store(tmp_path / "source.zarr", 2, {})
    write(source / ".zmetadata", CONSOLIDATED[name])
    with pytest.raises(UnsupportedArrayError, match="consolidated metadata"):
        refreeze.ingest(source, tmp_path / "target")


def test_entries_of_consolidated_metadata_that_are_none(tmp_path):
    """Each stands for itself: an entry that is no document is an array that cannot be read."""
    source = store(tmp_path / "source.zarr", 2, {})
    consolidate_v2(source)
    document = json.loads((source / ".zmetadata").read_text())
    document["metadata"] |= {
        "inner/core/.zarray": 7,
        "other": 1,
        "../up/.zarray": {},
        "\ud800/.zarray": {},
        "fine/below/.zarray": {"shape": []},
    }
    write(source / ".zmetadata", document)
    with pytest.raises(UnsupportedArrayError, match="metadata of inner/core cannot be read"):
        refreeze.ingest(source, tmp_path / "target")
    report = refreeze.ingest(source, tmp_path / "target", skip_variables=["core"])
    assert paths(report) == ["/fine"]
    assert any("fine/below lies below the array fine" in text for text in report.warnings)


@pytest.mark.parametrize(
    ("zarr_format", "name"),
    [(2, "pickle"), (2, "codec"), (3, "data type"), (3, "codec"), (3, "fill value")],
)
def test_list_needs_shape_chunks_and_keys_only(tmp_path, zarr_format, name):
    """Data type, codecs and fill value may be of any kind, and zarr-python is not even imported."""
    change = (V2 if zarr_format == 2 else V3)[name]
    source = store(tmp_path / "source.zarr", zarr_format, change)
    program = (
        "import sys\nfrom refreeze.metadata.selection import read_array\n"
        "from refreeze.stores.resolve import resolve_source\n"
        "spec = read_array(resolve_source(sys.argv[1]))\n"
        "print(spec.shape, spec.chunk_shape, 'zarr' in sys.modules)"
    )
    command = [sys.executable, "-c", program, str(source / "inner/core")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "(3, 4) (2, 2) False"
    command = [sys.executable, "-m", "refreeze", "list", str(source / "inner/core"), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["chunks"] == 4


@pytest.mark.parametrize(
    "name", ["chunks of 0", "huge shape", "boolean shape", "rectilinear", "cut off", "brackets"]
)
def test_list_says_what_is_wrong(tmp_path, name):
    """A layout that is none is an error that names the array."""
    source = store(tmp_path / "source.zarr", 3, V3[name])
    command = [sys.executable, "-m", "refreeze", "list", str(source / "inner/core"), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    error = json.loads(done.stdout)["error"]
    assert error["type"] == "UnsupportedArrayError"
    assert "core" in error["message"]


def test_on_s3(s3_bucket, tmp_path):
    """The same on an object store, in both versions."""
    server, bucket = s3_bucket
    for zarr_format in (2, 3):
        change = NO_TYPE if zarr_format == 2 else {"data_type": "bfloat16"}
        source = store(tmp_path / f"v{zarr_format}.zarr", zarr_format, change)
        url = upload(server, bucket, source, f"v{zarr_format}.zarr")
        options = {"source_options": server.options}
        with pytest.raises(UnsupportedArrayError, match="array inner/core "):
            refreeze.ingest(url, tmp_path / "target", **options)
        report = refreeze.ingest(
            url, tmp_path / f"t{zarr_format}", skip_variables=["core"], **options
        )
        assert paths(report) == ["/fine"]


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_the_limit_of_a_document(tmp_path, zarr_format):
    """A document that is too large is refused by its size, and can be left out or allowed."""
    source = store(tmp_path / "source.zarr", zarr_format, {"attributes": {"text": "x" * 5000}})
    with pytest.raises(UnsupportedArrayError, match=r"inner/core.*more than 4,000") as raised:
        refreeze.ingest(source, tmp_path / "target", max_document="4 kB")
    assert "--max-document" in raised.value.hint
    assert "--skip inner/core" in raised.value.hint
    report = refreeze.ingest(
        source, tmp_path / "target", max_document=4000, skip_variables=["core"]
    )
    assert paths(report) == ["/fine"]
    report = refreeze.ingest(source, tmp_path / "other", max_document="10kB")
    assert len(report.arrays) == 2
    for verb in (["plan"], ["ingest"]):
        command = [sys.executable, "-m", "refreeze", *verb, str(source), str(tmp_path / "third")]
        done = subprocess.run(
            [*command, "--max-document", "4KB"], capture_output=True, text=True, check=False
        )
        assert done.returncode == 1
        assert "--max-document" in done.stderr
    with pytest.raises(ValueError, match="max_document"):
        refreeze.plan(source, max_document="much")


def test_the_usual_limit_is_64_mb():
    """By size, before it is parsed."""
    memory = MemoryStore()
    obstore.put(memory, "a.zarr/zarr.json", b" " * 64_000_001)
    with pytest.raises(UnsupportedArrayError, match="64,000,001 bytes"):
        read_metadata(Source("memory://a.zarr", memory, "a.zarr"), Selection())


def test_zarr_does_not_open_the_source(tmp_path, monkeypatch):
    """Documents alone are interpreted: nothing of zarr-python reads the store."""
    import zarr

    source = store(tmp_path / "source.zarr", 2, {"compressor": {"id": "zlib", "level": 1}})

    def refuse(*_arguments, **_options):
        raise AssertionError("zarr-python was asked for a store")

    for name in ("open", "open_group", "open_array"):
        monkeypatch.setattr(zarr, name, refuse)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(refreeze.plan(source).arrays) == 2


def test_nothing_that_is_not_selected_counts_as_found(tmp_path):
    """Everything left out is an error too: an ingest that holds no array is no success."""
    source = store(tmp_path / "source.zarr", 3, {})
    with pytest.raises(SourceNotFoundError, match=r"no array .* is left") as raised:
        refreeze.ingest(source, tmp_path / "target", skip_variables=["*"])
    assert raised.value.hint == "arrays: fine, inner/core"
    assert not (tmp_path / "target").exists()
