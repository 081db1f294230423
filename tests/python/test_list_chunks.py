"""`list_chunks` against a brute force over everything that is below the array, and as an Arrow stream."""

import itertools
import json
import os
import subprocess
import sys
import tempfile
import textwrap
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import obstore
import pyarrow as pa
import pytest
import zarr
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from obstore.store import LocalStore, MemoryStore

import refreeze
from endpoint import run_endpoint

LAYOUTS = [
    ("zarr2", "."),
    ("zarr2", "/"),
    ("default", "/"),
    ("default", "."),
    ("v2", "."),
    ("v2", "/"),
]


STRAYS = [
    "README.txt",
    "c/x",
    "c/-1",
    "c/+1/0",
    "c/00/0",
    "c/0_1/0",
    "c/٣/0",
    "c.0",
    "0",
    "00.0",
    "0.0.0.0.0",
    "9999",
    "9999/0",
    "c/9999/0",
    "c/0/9999/0",
    "c/4294967296",
    "18446744073709551616.0",
    "~",
    "-",
    "zarr.json.bak",
    "sub/zarr.json",
]


@dataclass(frozen=True)
class Case:
    """An array's shape, layout and contents, and the region that is asked for."""

    layout: tuple[str, str]
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    present: tuple[tuple[int, ...], ...]
    strays: tuple[str, ...]
    region: dict[str, slice] | None
    box: tuple[tuple[int, int], ...]

    @property
    def grid(self):
        return [-(-n // c) for n, c in zip(self.shape, self.chunks, strict=True)]

    def key(self, coords):
        kind, separator = self.layout
        if kind == "default":
            return separator.join(["c", *map(str, coords)])
        return separator.join(map(str, coords)) or "0"

    @property
    def document(self):
        kind, separator = self.layout
        names = [f"d{axis}" for axis in range(len(self.shape))]
        if kind == "zarr2":
            return document_v2(self.shape, self.chunks, separator)
        encoding = {"name": kind, "configuration": {"separator": separator}}
        return document_v3(self.shape, self.chunks, encoding, dimension_names=names)

    def write(self, put):
        put(*self.document)
        for coords in self.present:
            put(self.key(coords), b"x" * (1 + sum(coords)))
        for stray in self.strays:
            # A file system cannot hold a file where there is a folder.
            with suppress(OSError, obstore.exceptions.BaseError):
                put(stray, b"stray")

    def expected(self, listed, root):
        """Filter a listing of everything as the contract says what a chunk is."""
        keys = {self.key(c): c for c in itertools.product(*map(range, self.grid))}
        if not self.shape:
            keys = {self.key(()): ()}
        found = []
        for item in listed:
            coords = keys.get(item["path"].removeprefix(root))
            if coords is None:
                continue
            if all(a <= x < b for x, (a, b) in zip(coords, self.box, strict=True)):
                found.append((coords, item["size"], item["path"]))
        return sorted(found)


def document_v2(shape, chunks, separator):
    fields = {"zarr_format": 2, "shape": shape, "chunks": chunks, "dtype": "|u1", "order": "C"}
    fields |= {"compressor": None, "filters": None, "fill_value": 0}
    return ".zarray", json.dumps(fields | {"dimension_separator": separator}).encode()


def document_v3(shape, chunks, encoding=None, **fields):
    fields |= {"zarr_format": 3, "node_type": "array", "shape": shape, "data_type": "uint8"}
    fields["chunk_grid"] = {"name": "regular", "configuration": {"chunk_shape": chunks}}
    fields["chunk_key_encoding"] = encoding or {"name": "default"}
    fields |= {"fill_value": 0, "codecs": [{"name": "bytes"}]}
    return "zarr.json", json.dumps(fields).encode()


@st.composite
def cases(draw):
    layout = draw(st.sampled_from(LAYOUTS))
    grid = draw(st.lists(st.sampled_from([0, 1, 2, 3, 9, 12]), max_size=3))
    chunks = tuple(draw(st.integers(1, 4)) for _ in grid)
    ragged = [draw(st.integers(0, c - 1)) if n else 0 for n, c in zip(grid, chunks, strict=True)]
    shape = tuple(n * c - r for n, c, r in zip(grid, chunks, ragged, strict=True))
    possible = list(itertools.product(*map(range, grid)))
    kind = draw(st.sampled_from(["dense", "none", "half", "some"]))
    present = {
        "dense": possible,
        "none": [],
        "half": possible[: len(possible) // 2],
        "some": possible[:: draw(st.integers(2, 11))],
    }[kind]
    region, box = None, [(0, n) for n in grid]
    if grid and 0 not in grid and draw(st.booleans()):
        region = {}
        for axis, n in enumerate(grid):
            if axis == 0 or draw(st.booleans()):
                first = draw(st.integers(0, n - 1))
                last = draw(st.integers(first + 1, n))
                box[axis] = (first, last)
                stop = min(last * chunks[axis], shape[axis])
                name = f"d{axis}" if layout[0] != "zarr2" else f"dim_{axis}"
                region[name] = slice(first * chunks[axis], stop)
    strays = draw(st.lists(st.sampled_from(STRAYS), unique=True, max_size=4))
    return Case(layout, shape, chunks, tuple(present), tuple(strays), region, tuple(box))


def rows(table):
    """Return coordinates, size and key of each row, sorted."""
    columns = [table[name].to_pylist() for name in ("chunk", "size", "path")]
    return sorted((tuple(c), size, path) for c, size, path in zip(*columns, strict=True))


def check(case, store, path):
    """List with `list_chunks` and by brute force; both must agree, statistics too."""
    root = f"{path}/" if path else ""
    stream = refreeze.list_chunks(store, path, region=case.region, paths=True)
    found = rows(pa.table(stream))
    listed = list(itertools.chain.from_iterable(obstore.list(store, path or None)))
    expected = case.expected(listed, root)
    assert found == expected
    assert stream.stats.chunks == len(expected)
    assert stream.stats.keys_listed >= len(expected)
    return stream.stats


def putter(store, path):
    return lambda key, data: obstore.put(store, f"{path}/{key}" if path else key, data)


@given(cases(), st.sampled_from(["", "a", "deep/er/a b"]), st.sampled_from(["", "pre/fix"]))
@settings(max_examples=60)
@example(Case(("v2", "."), (), (), ((),), ("0.0", "c"), None, ()), "a", "")
@example(Case(("default", "/"), (), (), ((),), (), None, ()), "", "pre")
def test_local(tmp_path_factory, case, path, prefix):
    """On a local store, rooted at or above the array."""
    folder = tmp_path_factory.mktemp("store") / prefix
    folder.mkdir(parents=True, exist_ok=True)
    store = LocalStore(folder)
    case.write(putter(store, path))
    check(case, store, path)


@given(cases(), st.sampled_from(["", "a", "deep/er/a b"]))
@settings(max_examples=60)
def test_memory(case, path):
    """On obstore's store in memory."""
    store = MemoryStore()
    case.write(putter(store, path))
    check(case, store, path)


@pytest.fixture(scope="module")
def bucket():
    """Serve an empty bucket of the synthetic endpoint."""
    with run_endpoint(groups=[]) as endpoint:
        yield endpoint, itertools.count()


@given(cases(), st.sampled_from(["", "a", "deep/er/a b"]), st.integers(1, 7))
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(Case(("default", "/"), (), (), ((),), ("0", "c/x"), None, ()), "a", 1)
def test_s3(bucket, case, path, page_size):
    """On S3, with small pages and a store that has a prefix; foreign keys are counted once."""
    endpoint, number = bucket
    endpoint.set(page_size=page_size)
    store = endpoint.store(prefix=f"p{next(number)}")
    case.write(putter(store, path))
    stats = check(case, store, path)
    endpoint.set(page_size=1000)
    assert stats.retries == 0
    assert stats.warnings == ()
    assert stats.foreign_keys <= len(case.strays)


def test_real_server(s3_bucket):
    """On a real S3 server: every layout, dense with a foreign key, whole and by region."""
    server, name = s3_bucket
    for number, layout in enumerate(LAYOUTS):
        possible = tuple(itertools.product(range(3), range(12)))
        dim = "dim_0" if layout[0] == "zarr2" else "d0"
        for region, box in ((None, ((0, 3), (0, 12))), ({dim: slice(2, 6)}, ((1, 3), (0, 12)))):
            case = Case(layout, (6, 12), (2, 1), possible, ("README",), region, box)
            path = f"{number}"
            if region is None:
                folder = server.root / name / path
                for key, data in [case.document, *((case.key(c), b"x") for c in possible)]:
                    (folder / key).parent.mkdir(parents=True, exist_ok=True)
                    (folder / key).write_bytes(data)
            stats = check(case, server.store(name), path)
            assert stats.chunks == (36 if region is None else 24)


def test_shards():
    """The chunk of a sharded array is the shard."""
    store = MemoryStore()
    zarr_store = zarr.storage.ObjectStore(store)
    written = zarr.create_array(
        zarr_store, name="a", shape=(8, 8), shards=(4, 8), chunks=(2, 2), dtype="u1"
    )
    written[:] = 1
    assert rows(pa.table(refreeze.list_chunks(store, "a", paths=True))) == [
        ((row, 0), obstore.head(store, f"a/c/{row}/0")["size"], f"a/c/{row}/0") for row in (0, 1)
    ]


def _local(folder, shape, chunks, *keys, separator="/"):
    """Write an array's metadata and chunks into a folder."""
    encoding = {"name": "default", "configuration": {"separator": separator}}
    folder.mkdir(parents=True, exist_ok=True)
    for key, data in [document_v3(shape, chunks, encoding), *((key, b"x") for key in keys)]:
        (folder / key).parent.mkdir(parents=True, exist_ok=True)
        (folder / key).write_bytes(data)
    return LocalStore(folder.parent)


def test_links_are_followed(tmp_path):
    """Of folders and files, as reads follow them; one that leads nowhere is an error."""
    store = _local(tmp_path / "a", [4, 2], [1, 1], "c/0/0")
    (tmp_path / "else").mkdir()
    (tmp_path / "else/1").write_bytes(b"123")
    chunks = tmp_path / "a/c"
    (chunks / "1").symlink_to(tmp_path / "else")
    (chunks / "2").mkdir()
    (chunks / "2/0").symlink_to(tmp_path / "else/1")
    (chunks / "3").symlink_to(chunks)  # leads back
    found = rows(pa.table(refreeze.list_chunks(store, "a", paths=True)))
    assert [(coords, size) for coords, size, _ in found] == [((0, 0), 1), ((1, 1), 3), ((2, 0), 3)]
    assert [path for _, _, path in found] == ["a/c/0/0", "a/c/1/1", "a/c/2/0"]
    (chunks / "2/1").symlink_to(tmp_path / "gone")
    with pytest.raises(pa.ArrowInvalid, match="a/c/2/1 is a symbolic link that leads nowhere"):
        pa.table(refreeze.list_chunks(store, "a"))


def test_odd_file_names(tmp_path):
    """Names that are not UTF-8, hidden files and pipes are foreign keys."""
    store = _local(tmp_path / "a", [4], [1], *(f"c/{n}" for n in range(4)))
    folder = os.fsencode(tmp_path / "a/c")
    for name in (b"\xff\xfe", b".0", b"0~", b" 1"):
        with open(os.path.join(folder, name), "wb") as file:  # noqa: PTH123, PTH118 bytes
            file.write(b"x")
    os.mkfifo(tmp_path / "a/c/pipe")
    stream = refreeze.list_chunks(store, "a")
    assert pa.table(stream).num_rows == 4
    assert stream.stats.foreign_keys == 5


AS_NOBODY = """
    import os, sys, refreeze
    from obstore.store import LocalStore
    store = LocalStore(sys.argv[1])
    list(refreeze.list_chunks(store, "a"))  # imports all that only root may read
    os.setgid(65534)
    os.setuid(65534)
    region = {"dim_0": slice(0, 2)} if sys.argv[2] == "part" else None
    try:
        stream = refreeze.list_chunks(store, "a", region=region)
        print(sum(batch.num_rows for batch in stream))
    except refreeze.exceptions.RefreezeError as error:
        print(type(error).__name__, error)
"""


def _as_nobody(folder, part):
    """List in a process without root's rights, to which folders can be closed."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(AS_NOBODY), str(folder), part],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
def test_unreadable_folders():
    """`AccessError` for a folder that may not be read, unless it is outside the region."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        _local(folder / "a", [4, 2], [1, 1], *(f"c/{n}/{m}" for n in range(4) for m in range(2)))
        (folder / "a/c/3").chmod(0)
        assert _as_nobody(folder, "part").strip() == "4"
        said = _as_nobody(folder, "whole")
        assert said.startswith("AccessError")
        assert f"{folder}/a/c/3" in said
        assert "hint: " in said


def test_a_large_flat_folder(tmp_path):
    """One folder with many files: read once, and a region of it too."""
    keys = [f"c.{n}.{m}" for n in range(100) for m in range(200)]
    store = _local(tmp_path / "a", [100, 200], [1, 1], *keys, separator=".")
    stream = refreeze.list_chunks(store, "a", region={"dim_0": slice(3, 5)})
    assert sorted(row[0] for batch in stream for row in batch["chunk"].to_pylist()) == sorted(
        [3] * 200 + [4] * 200
    )
    assert stream.stats.list_requests == 1
    assert stream.stats.chunks == 400
    stream = refreeze.list_chunks(store, "a")
    assert sum(batch.num_rows for batch in stream) == 20_000
