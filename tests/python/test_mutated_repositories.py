"""Files of a repository with bytes changed anywhere: read all the same, or a typed error; never a panic or a hang.

Bytes are changed as they lie on disk, and in what they hold when it is decompressed, so that checksums of the
compression do not find everything. A seed chooses the changes; ``REFREEZE_MUTATIONS`` how many there are.
"""

from __future__ import annotations

import os
import random
import shutil

import pytest
from numcodecs import Zstd

import refreeze
from modes_for_tests import grow, write
from refreeze.exceptions import RefreezeError

MUTATIONS = int(os.environ.get("REFREEZE_MUTATIONS", "24"))
SEED = int(os.environ.get("REFREEZE_MUTATIONS_SEED", "18"))
HEADER = 39
"""Bytes of a file of Icechunk before its content."""
KINDS = ("repo", "snapshots", "manifests", "transactions")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Return a source that has grown, and a target with a published and a staged run."""
    folder = tmp_path_factory.mktemp("mutated")
    source, target = write(folder / "a", 0, 12), folder / "t"
    refreeze.ingest(source, target, refs_per_manifest=8)
    grow(source, 0, 12, 18)
    refreeze.ingest(source, target, mode="append", append_dim="time", no_publish=True)
    return source, target


def files(target, kind):
    """Return the files of one kind."""
    found = target / kind
    return [found] if found.is_file() else sorted(found.iterdir())


def changed(data, numbers):
    """Change, remove, repeat or exchange some bytes."""
    data = bytearray(data)
    for _ in range(numbers.choice([1, 1, 1, 2, 8])):
        at = numbers.randrange(len(data) + 1)
        match numbers.choice(["bit", "byte", "number", "cut", "remove", "repeat"]):
            case "bit" if at < len(data):
                data[at] ^= 1 << numbers.randrange(8)
            case "byte" if at < len(data):
                data[at] = numbers.choice([0, 1, 0x7F, 0x80, 0xFF, numbers.randrange(256)])
            case "number":
                value = numbers.choice([0, 1, 2**31 - 1, 2**32 - 1, len(data)])
                data[at : at + 4] = value.to_bytes(4, "little")
            case "cut":
                del data[at:]
            case "remove":
                del data[at : at + numbers.randrange(1, 9)]
            case "repeat":
                data[at:at] = data[at : at + numbers.randrange(1, 65)]
    return bytes(data)


def mutate(file, numbers):
    """Change a file: as it lies there, or what it holds."""
    data = file.read_bytes()
    if numbers.random() < 0.3 or not data.startswith("ICE🧊".encode()):
        file.write_bytes(changed(data, numbers))
        return
    content = changed(Zstd().decode(data[HEADER:]), numbers)
    file.write_bytes(data[:HEADER] + (Zstd().encode(content) if content else b""))


@pytest.mark.timeout(1_200)
def test_any_change_of_a_file(place, tmp_path):
    """Every verb that reads a repository either succeeds or raises one of refreeze's errors."""
    source, target = place
    numbers = random.Random(SEED)  # noqa: S311 changes, not secrets
    failed = 0
    for number in range(MUTATIONS):
        copy = tmp_path / "copy"
        shutil.copytree(target, copy)
        kind = KINDS[number % len(KINDS)]
        mutate(numbers.choice(files(copy, kind)), numbers)
        for verb in (
            lambda: refreeze.status(copy),  # noqa: B023 called at once
            lambda: refreeze.verify(source, copy, sample=5),  # noqa: B023 as above
            lambda: refreeze.coverage(copy),  # noqa: B023 as above
            lambda: refreeze.publish(copy),  # noqa: B023 as above
            lambda: refreeze.sync(source, copy),  # noqa: B023 as above
        ):
            try:
                verb()
            except RefreezeError as error:
                failed += 1
                assert str(error)  # noqa: PT017 it may succeed as well
        shutil.rmtree(copy)
    assert failed > MUTATIONS
