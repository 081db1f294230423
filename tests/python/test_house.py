"""Where things are: the rooms of the package, the size of its files, and the names that others store."""

import ast
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

import refreeze
from refreeze import _refreeze
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
    """No source file is longer than 450 lines, and no file of tests longer than 500, in both languages."""
    root = TESTS.parents[1]
    sources = [*PACKAGE.rglob("*.py"), *(root / "rust").rglob("*.rs")]
    sources += [
        *(root / "python/src").rglob("*.rs"),
        *(root / "benches/endpoint/src").rglob("*.rs"),
    ]
    tests = [*TESTS.rglob("*.py"), *(root / "tests/rust").rglob("*.rs")]
    assert any(path.suffix == ".rs" for path in sources)
    assert [str(path) for path in sources if lines(path) > LONGEST_SOURCE] == []
    assert [str(path) for path in tests if lines(path) > LONGEST_TEST] == []


def imports_of(path, names):
    """Return the modules of the package that a file imports, other than for annotations."""
    tree = ast.parse(path.read_text())
    unused = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    found = set()
    for node in ast.walk(tree):
        if id(node) not in unused and isinstance(node, ast.ImportFrom) and node.module:
            given = {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
            found |= given & names
    return found


def test_no_two_modules_import_each_other():
    """An arrow leads one way; the package itself, which gathers the public names, does not count."""
    files = {
        ".".join(("refreeze", *path.relative_to(PACKAGE).with_suffix("").parts)): path
        for path in PACKAGE.rglob("*.py")
    }
    names = {name for name in files if not name.endswith("__init__")}
    found = {name: imports_of(files[name], names) for name in names}
    assert found["refreeze.verbs.plan"]
    both = {(a, b) for a in names for b in found[a] if a < b and a in found[b]}
    assert both == set()


def test_pickles_name_the_public_class():
    """A pickled parser names `refreeze.ZarrParser`, wherever the class lives: old pickles are read."""
    parser = refreeze.ZarrParser(group="a", region={"time": slice(0, 24)})
    pickled = pickle.dumps(parser, protocol=0)
    assert b"crefreeze\nZarrParser\n" in pickled
    assert b"refreeze.virtualizarr" not in pickled
    assert pickle.loads(pickled) == parser  # noqa: S301 (our own)


def test_defaults_and_limits_are_those_of_the_core():
    """What help and signatures show, which load no extension, is what the core goes by; checks ask it."""
    shown = options.byte_count("memory", options.DEFAULT_MEMORY)
    assert shown == _refreeze.DEFAULT_MEMORY
    assert options.IngestOptions().memory == shown
    options.byte_count("memory", _refreeze.LEAST_MEMORY)
    with pytest.raises(ValueError, match="at least 16MiB"):
        options.byte_count("memory", _refreeze.LEAST_MEMORY - 1)
    options.refs_per_manifest(_refreeze.MAX_REFERENCES_PER_MANIFEST)
    with pytest.raises(ValueError, match="at most 1,000,000"):
        options.refs_per_manifest(_refreeze.MAX_REFERENCES_PER_MANIFEST + 1)


def test_help_loads_no_extension():
    """Help, and the import of the package, take no time for the compiled half."""
    command = [sys.executable, "-X", "importtime", "-m", "refreeze", "ingest", "--help"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "--memory" in done.stdout
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "refreeze.planning.options" in loaded
    assert "refreeze._refreeze" not in loaded
