"""Fails when a module of a Rust crate uses one above it, or when two files use each other.

The core's modules are layers: `LAYERS` names them from the bottom up, and an arrow may only lead down or stay within
its layer. In every crate no two files may import each other, through a module that passes a name on too. A module's
own file (`mod.rs`) and its children are one unit in this: children may use what the module defines for all of them.
Tests do not count.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

LAYERS = (
    ("shown",),
    ("error", "progress"),
    ("zarr",),
    ("grid",),
    ("key_order",),
    ("source",),
    ("list",),
    ("density",),
    ("plan", "estimate"),
    ("batch",),
    ("format",),
    ("target",),
    ("manifest",),
    ("commit",),
    ("jobs",),
)
"""Top-level modules of the core; none may use one of a later layer."""

CRATES = {"rust": True, "python/src": False, "benches/endpoint/src": False}
"""Folders of sources, and whether they have layers."""

Module = tuple[str, ...]


class Crate:
    """The files of a crate and what they import."""

    def __init__(self, folder: Path) -> None:
        self.files: dict[Module, Path] = {}
        for path in sorted(folder.rglob("*.rs")):
            parts = path.relative_to(folder).with_suffix("").parts
            self.files[
                ()
                if parts in (("lib",), ("main",))
                else parts[:-1]
                if parts[-1] == "mod"
                else parts
            ] = path
        codes = {module: code_of(path) for module, path in self.files.items()}
        tests = {(*module, name) for module, (_, names) in codes.items() for name in names}
        for module in list(self.files):
            if any(module[:end] in tests for end in range(1, len(module) + 1)):
                del self.files[module]
        self.imports = {module: paths_in(codes[module][0]) for module in self.files}
        self.passed_on = {module: self._passed_on(module) for module in self.files}

    def arrows(self) -> set[tuple[Module, Module]]:
        """Return which module's file uses which other's, where names are defined."""
        found = set()
        for module, paths in self.imports.items():
            for path in paths:
                used = self.defined_in(self.absolute(module, path))
                if used is not None and used != module:
                    found.add((module, used))
        return found

    def absolute(self, module: Module, path: Module) -> Module | None:
        """Return a path from the crate's root; None for one of another crate."""
        if path[0] == "crate":
            return path[1:]
        if path[0] == "self":
            return module + path[1:]
        if path[0] == "super":
            rest = path[1:] if path[1:2] == ("super",) else ("self", *path[1:])
            return self.absolute(module[:-1], rest)
        return module + path if module + path[:1] in self.files else None

    def defined_in(
        self, path: Module | None, seen: frozenset[Module] = frozenset()
    ) -> Module | None:
        """Return the module whose file defines what a path names."""
        if path is None or path in seen:
            return None
        module = max(
            (path[:end] for end in range(len(path) + 1) if path[:end] in self.files), key=len
        )
        if module == path:
            return module
        name = path[len(module)]
        if (target := self.passed_on[module].get(name)) is not None:
            return self.defined_in((*target, *path[len(module) + 1 :]), seen | {path}) or module
        return module

    def _passed_on(self, module: Module) -> dict[str, Module]:
        """Return the names that a module imports, which others may ask it for, and where they are."""
        names = {}
        for path in self.imports[module]:
            absolute = self.absolute(module, path)
            if absolute and absolute not in self.files and len(path) > 1:
                names[path[-1]] = absolute
        return names


SKIPPED = re.compile(
    r"""
    r(?P<hashes>\#*)".*?"(?P=hashes)   # a raw text
    | "(?:\\.|[^"\\])*"              # a text
    | '(?:\\[^']+|[^'\\])'           # a letter
    | //[^\n]* | /\*.*?\*/            # comments
    """,
    re.VERBOSE | re.DOTALL,
)
TEST = re.compile(r"#\[cfg\(test\)\]\s*(?:pub(?:\([a-z]+\))? )?(?P<kind>mod|use) (?P<name>\w*)")


def code_of(path: Path) -> tuple[str, list[str]]:
    """Return a file without comments, texts and tests, and the names of its modules of tests."""
    text = SKIPPED.sub('""', path.read_text(encoding="utf-8"))
    tests = []
    while (start := TEST.search(text)) is not None:
        semicolon, opening = (text.find(letter, start.end()) for letter in ";{")
        end = semicolon
        if start["kind"] == "mod":
            tests.append(start["name"])
            if -1 < opening < semicolon or semicolon < 0:
                depth, end = 1, opening
                while depth:
                    end += 1
                    depth += {"{": 1, "}": -1}.get(text[end], 0)
        text = text[: start.start()] + text[end + 1 :]
    return text, tests


def paths_in(text: str) -> list[Module]:
    """Return the paths that a file imports or names."""
    found = []
    for tree in re.findall(r"\buse\s+([^;]+);", text):
        found += expanded(re.sub(r"\s+", " ", tree.strip()))
    rest = re.sub(r"\buse\s+[^;]+;", "", text)
    found += [
        tuple(path.split("::")) for path in re.findall(r"\b(?:crate|super|self)(?:::\w+)+", rest)
    ]
    return [path for path in found if path]


def expanded(tree: str) -> list[Module]:
    """Return the paths of a `use`, its braces taken apart."""
    tree = tree.strip()
    if "{" not in tree:
        path = tree.split(" as ")[0].strip()
        return [tuple(part for part in path.split("::") if part not in ("", "*"))]
    head, _, inner = tree.partition("{")
    before = tuple(part for part in head.strip().split("::") if part)
    inner = inner.rstrip()[:-1]
    items, depth, start = [], 0, 0
    for at, letter in enumerate(inner):
        depth += {"{": 1, "}": -1}.get(letter, 0)
        if letter == "," and depth == 0:
            items.append(inner[start:at])
            start = at + 1
    items.append(inner[start:])
    paths = []
    for item in items:
        # `{self, …}` is the module itself.
        paths += [before if path == ("self",) else before + path for path in expanded(item)]
    return paths


def upward(crate: Crate) -> list[str]:
    """Return the arrows that lead from a layer to one above it."""
    rank = {name: at for at, layer in enumerate(LAYERS) for name in layer}
    known = {module[0] for module in crate.files if module}
    problems = [
        f"{name} is in no layer of scripts/check_layers.py" for name in sorted(known - rank.keys())
    ]
    for one, other in sorted(crate.arrows()):
        if one and other and one[0] in rank and rank[one[0]] < rank.get(other[0], -1):
            problems.append(f"{'::'.join(one)} uses {'::'.join(other)}, which lies above it")
    return problems


def mutual(crate: Crate) -> list[str]:
    """Return the pairs of files that use each other."""
    arrows = crate.arrows()
    return [
        f"{'::'.join(one)} and {'::'.join(other)} use each other"
        for one, other in sorted(arrows)
        if one < other and (other, one) in arrows and other[: len(one)] != one
    ]


def main(root: Path = ROOT) -> int:
    """Check every crate."""
    problems = []
    for folder, layered in CRATES.items():
        crate = Crate(root / folder)
        found = mutual(crate) + (upward(crate) if layered else [])
        problems += [f"{folder}: {problem}" for problem in found]
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
