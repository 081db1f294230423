"""Names that URLs write differently, relative paths, links, registries: the same result."""

import json
import subprocess
import sys

import icechunk
import numpy as np
import pytest
import xarray as xr
import zarr
from obstore.store import LocalStore

from stores_for_tests import (
    assert_same_array,
    ingest,
    ingest_and_compare,
    open_group,
    open_result,
    write_array,
)

NAMES = [
    "a#b",
    "what?",
    "a%20b",
    "100%",
    "a b",
    "a+b",
    "ü",
    "e\u0301",
    "日本",
    "it's",
    'a"b',
    "a&b;c,d",
    "[x](y)",
    "a:b",
    "a*b",
    "a=b@c!d$e",
    "<a>|b",
    "a%2Fb",
    "~x^`{}",
]


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_names_that_urls_write_differently(paths, zarr_format):
    """Variables and groups of any name are readable afterwards."""
    source, target = paths
    root = open_group(source, zarr_format)
    for number, name in enumerate(NAMES):
        write_array(root, name, "i4")[0] = number
        write_array(root.create_group(f"group {name}"), name, "i4")[0] = number
    result = ingest_and_compare(source, target)
    assert set(NAMES) < set(result.group())
    assert result.array("a%20b")[0, 0] == NAMES.index("a%20b")


@pytest.mark.parametrize("name", NAMES)
def test_a_root_folder_that_urls_write_differently(tmp_path, name):
    """The store may lie below folders of any name; the container is a plain parent."""
    source = tmp_path / name / f"{name}.zarr"
    write_array(open_group(source, 2), name, "i4")
    result = ingest_and_compare(source, tmp_path / "target")
    container = result.report.container
    assert f"file://{source}/".startswith(container)
    assert not set("#?% ") & set(container)
    by_url = ingest(source.as_uri(), tmp_path / "by_url")
    assert by_url.locations() == result.locations()
    single = ingest(source / name, tmp_path / "single")
    np.testing.assert_array_equal(single.array(name)[:], result.array(name)[:])


def test_a_relative_path_and_a_link(paths, monkeypatch):
    """Paths are made absolute, and links are followed as zarr follows them."""
    source, _ = paths
    write_array(open_group(source), "air")
    elsewhere = source.parent / "elsewhere"
    (source / "air" / "c").rename(elsewhere)
    (source / "air" / "c").symlink_to(elsewhere)
    monkeypatch.chdir(source.parent)
    result = ingest("source.zarr", "target.icechunk")
    assert result.report.source == str(source)
    assert_same_array(zarr.open_array(source / "air", mode="r"), result.array("air"))


def test_what_registries_and_stores_give(paths):
    """(registry, url) and (obstore store, path) lead to the same references as the path."""
    from obspec_utils.registry import ObjectStoreRegistry

    source, target = paths
    write_array(open_group(source, 2).create_group("in ner"), "a b")
    plain = ingest(source, target / "plain")
    registry = ObjectStoreRegistry({"file://": LocalStore()})
    for number, given in enumerate(
        [
            (registry, source.as_uri()),
            (LocalStore(), str(source)),
            (LocalStore(source.parent), source.name),
            (LocalStore(source), ""),
        ]
    ):
        result = ingest(given, target / str(number))
        assert result.locations() == plain.locations()
        np.testing.assert_array_equal(result.array("in ner/a b")[:], plain.array("in ner/a b")[:])


def test_the_command_line_ingests_the_same(paths):
    """`refreeze ingest` does what `refreeze.ingest` does, and its report is the same."""
    source, target = paths
    root = open_group(source, 2)
    one = root.create_group("one", attributes={"n": 1})
    write_array(one, "air")
    write_array(one, "ice")
    x = one.create_array("x", shape=(5,), dtype="i4", attributes={"_ARRAY_DIMENSIONS": ["x"]})
    x[:] = np.arange(5)
    command = [sys.executable, "-m", "refreeze", "ingest", str(source), str(target / "cli")]
    command += ["--group", "one", "--target-group", "a/b", "--skip", "i*", "--load", "none"]
    run = subprocess.run(
        [*command, "--json", "--quiet"], capture_output=True, text=True, check=True
    )
    assert run.stderr == ""
    printed = json.loads(run.stdout)
    options = {"group": "one", "target_group": "a/b", "skip_variables": ["i*"]}
    result = ingest(source, target / "python", **options, loadable_variables=[])
    report = json.loads(json.dumps(result.report.to_dict()))
    differing = {"target", "run_id", "snapshot_id", "elapsed_s", "peak_rss_bytes", "manifest_bytes"}
    assert {k: v for k, v in printed.items() if k not in differing} == {
        k: v for k, v in report.items() if k not in differing
    }
    by_cli = open_result(result.report, icechunk.local_filesystem_storage(str(target / "cli")))
    assert by_cli.locations() == result.locations()
    xr.testing.assert_identical(by_cli.dataset("a/b").load(), result.dataset("a/b").load())
