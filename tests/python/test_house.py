"""Where things are: the rooms of the package, the size of its files, and the names that others store."""

import pickle
import re
from pathlib import Path

import refreeze
from refreeze.planning import options

PACKAGE = Path(refreeze.__file__).parent
TESTS = Path(__file__).parent
MOST_FLAT = 10
LONGEST_SOURCE = 450
LONGEST_TEST = 500


def lines(path):
    return len(path.read_text().splitlines())


def test_few_modules_lie_flat():
    """A newcomer finds behaviour in the rooms of the package, not among dozens of modules beside them."""
    flat = [path.name for path in PACKAGE.glob("*.py*") if path.suffix in {".py", ".pyi"}]
    assert "__init__.py" in flat
    assert len(flat) <= MOST_FLAT, flat


def test_files_have_one_idea():
    """No source file is longer than 450 lines, and no file of tests longer than 500."""
    sources = {path: lines(path) for path in PACKAGE.rglob("*.py")}
    tests = {path: lines(path) for path in TESTS.rglob("*.py")}
    assert sources
    assert [str(path) for path, n in sources.items() if n > LONGEST_SOURCE] == []
    assert [str(path) for path, n in tests.items() if n > LONGEST_TEST] == []


def test_pickles_name_the_public_class():
    """A pickled parser names `refreeze.ZarrParser`, wherever the class lives: old pickles are read."""
    parser = refreeze.ZarrParser(group="a", region={"time": slice(0, 24)})
    pickled = pickle.dumps(parser, protocol=0)
    assert b"crefreeze\nZarrParser\n" in pickled
    assert b"refreeze.virtualizarr" not in pickled
    assert pickle.loads(pickled) == parser  # noqa: S301 (our own)


def test_defaults_and_limits_are_those_of_the_core():
    """What the help, signatures and checks say of defaults and limits is what the core goes by."""
    core = {}
    for file in ("plan/limits.rs", "list/limit/concurrency.rs"):
        text = (TESTS.parents[1] / "rust" / file).read_text()
        for name, value in re.findall(r"const ([A-Z_]+): u\w+ = ([0-9_ <]+);", text):
            number, _, shift = value.replace("_", "").partition("<<")
            core[name] = int(number) << int(shift or 0)
    assert core["BEGIN"] == options.FIRST_CONCURRENCY
    assert core["MOST"] == options.MOST_CONCURRENCY
    assert core["DEFAULT_MEMORY"] == options.byte_count("memory", options.DEFAULT_MEMORY)
    assert core["LEAST_MEMORY"] == options.LEAST_MEMORY
    assert core["DEFAULT_REFERENCES_PER_MANIFEST"] == options.DEFAULT_REFS_PER_MANIFEST
    assert core["MAX_REFERENCES_PER_MANIFEST"] == options.MAX_REFS_PER_MANIFEST
