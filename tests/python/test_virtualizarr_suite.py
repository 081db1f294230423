"""VirtualiZarr's own tests of its ZarrParser, from the installed wheel, with refreeze's parser in its place."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import virtualizarr

HERE = Path(__file__).parent
THEIRS = Path(virtualizarr.__file__).parent / "tests"

PRIVATE = {
    "join_url": ["test_join_url_empty_base", "test_join_url_preserves_scheme_root"],
    "ZarrFormat": ["test_unsupported_zarr_format"],
    "_run_async": ["test_run_async_without_running_loop", "test_run_async_with_running_loop"],
    "metadata_as_v3": [
        "test_v2_metadata_without_dimensions",
        "test_v2_metadata_raises_import_error_on_old_zarr",
        "test_v2_metadata_with_dimensions",
        "test_v2_metadata_with_scalar_dimensions",
        "test_v3_metadata_separator_normalized",
        "test_v2_metadata_with_none_fill_value",
    ],
    "build_chunk_manifest": [
        "test_scalar_chunk_mapping",
        "test_uninitialized_scalar_chunk_mapping",
        "test_empty_array_chunk_mapping",
        "test_build_chunk_manifest_empty_with_shape",
        "test_build_chunk_manifest_skips_normalized_directory_marker",
        "test_build_chunk_manifest_skips_nested_directory_markers",
        "test_sparse_array_with_missing_chunks",
    ],
}
"""Tests that are left out, by the private helper that they call: they would pass whatever our parser does."""

NEEDS_DOCKER = {"test_zarr_parser_nolist_bucket"}
"""Starts MinIO in a container, and is expected to fail there too."""


def run(folder, module, *arguments):
    """Run a module of theirs beside our plugin; return what pytest said."""
    shutil.copy(HERE / "virtualizarr_plugin.py", folder / "conftest.py")
    shutil.copy(THEIRS / module, folder)
    # Their warnings are theirs, and so is their configuration, which the wheel does not ship.
    command = [sys.executable, "-m", "pytest", "-c", os.devnull, "--rootdir", str(folder)]
    command += ["-p", "no:cacheprovider", "-q", "-rA", "--tb=short", *arguments, Path(module).name]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stdout[-6000:]
    return done.stdout


def passed(output):
    """Return the names of the tests that passed, parameters left off, and how many cases."""
    lines = re.findall(r"^PASSED .*::(\w+)", output, re.MULTILINE)
    return set(lines), len(lines)


def defined_in(module):
    """Return the names of the tests that a module defines."""
    return set(
        re.findall(r"^ *(?:async )?def (test_\w+)", (THEIRS / module).read_text(), re.MULTILINE)
    )


def test_their_tests_of_the_parser(tmp_path):
    """Every one that is not about a private helper passes; a new one in a later release is not overlooked."""
    left_out = {name for names in PRIVATE.values() for name in names} | NEEDS_DOCKER
    module = "test_parsers/test_zarr.py"
    expected = defined_in(module) - left_out
    assert left_out <= defined_in(module)
    names, cases = passed(
        run(tmp_path, module, "-k", " and ".join(f"not {name}" for name in left_out))
    )
    assert names == expected
    assert cases >= 24


@pytest.mark.parametrize(
    ("module", "chosen", "cases"),
    [
        # fsspec's reader of Parquet references cannot read a missing path under pandas 3, whoever wrote it.
        ("test_integration.py", "test_zarr_roundtrip and not parquet", 5),
        ("test_writers/test_icechunk.py", "sharded", 2),
    ],
)
def test_their_tests_of_writers_that_use_the_parser(tmp_path, module, chosen, cases):
    """References as dictionary, JSON and Icechunk, and sharded arrays."""
    assert passed(run(tmp_path, module, "-k", chosen))[1] == cases
