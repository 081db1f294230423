"""Check, without network, that what is declared, what is locked and what is explained fit together.

Every requirement of `pyproject.toml` must be met by a pin of `requirements-dev.lock`, every pin must carry
hashes, and nothing but versions and hashes may stand there (no index, no URL, no path): `make lock` writes it.
Every direct dependency, of Python and of Rust, must have its line of reason in `CONTRIBUTING.md`.
The icechunk wheel and the icechunk crate exchange objects as bytes, so their minor versions must agree.
"""

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
PIN = re.compile(r"(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^ ;]+)( ; [^\\]+)? \\")
HASH = re.compile(r"    --hash=sha256:[0-9a-f]{64}( \\)?")


def read_pins(lock: str) -> tuple[dict[str, Version], list[str]]:
    """Return the pinned versions by name, and what is wrong with the file."""
    pins: dict[str, Version] = {}
    problems = []
    hashed = True
    for number, line in enumerate(lock.splitlines(), start=1):
        where = f"requirements-dev.lock, line {number}"
        if pin := PIN.fullmatch(line):
            if not hashed:
                problems.append(f"{where}: the pin before it has no hash")
            pins[canonicalize_name(pin["name"])] = Version(pin["version"])
            hashed = False
        elif HASH.fullmatch(line):
            hashed = True
        elif not line.lstrip().startswith("#") or "://" in line:
            problems.append(f"{where}: neither a pin, a hash nor a comment: {line.strip()}")
    return pins, problems


def python_requirements(pyproject: dict[str, Any]) -> list[Requirement]:
    """Return the requirements of the package, its extras and the development groups."""
    lines = list(pyproject["project"]["dependencies"])
    for group in pyproject["project"]["optional-dependencies"].values():
        lines += group
    for group in pyproject["dependency-groups"].values():
        lines += group
    return [Requirement(line) for line in lines]


def unmet(requirements: list[Requirement], pins: dict[str, Version]) -> Iterator[str]:
    """Yield the requirements that the lock file does not meet."""
    for requirement in requirements:
        version = pins.get(canonicalize_name(requirement.name))
        if version is None:
            yield f"{requirement.name} is required by pyproject.toml but not locked: run `make lock`"
        elif version not in requirement.specifier:
            yield f"{requirement} is required by pyproject.toml but {version} is locked: run `make lock`"


def rust_dependencies() -> Iterator[str]:
    """Yield the names of the direct dependencies of all crates, those of this repository aside."""
    for manifest in ("Cargo.toml", "python/Cargo.toml", "benches/endpoint/Cargo.toml"):
        crate = tomllib.loads((ROOT / manifest).read_text())
        for table in ("dependencies", "dev-dependencies", "build-dependencies"):
            yield from (name for name in crate.get(table, {}) if not name.startswith("refreeze"))


def main() -> int:
    """Print what is wrong; return the exit code."""
    pins, problems = read_pins((ROOT / "requirements-dev.lock").read_text())
    requirements = python_requirements(tomllib.loads((ROOT / "pyproject.toml").read_text()))
    problems += unmet(requirements, pins)

    reasons = (ROOT / "CONTRIBUTING.md").read_text()
    for name in sorted({*rust_dependencies(), *(requirement.name for requirement in requirements)}):
        if f"`{name}`" not in reasons:
            problems.append(
                f"CONTRIBUTING.md, Dependencies: `{name}` has no line that says why it is needed"
            )

    crates = tomllib.loads((ROOT / "Cargo.lock").read_text())["package"]
    crate = next(Version(entry["version"]) for entry in crates if entry["name"] == "icechunk")
    wheel = pins.get(canonicalize_name("icechunk"), crate)
    if crate.release[:2] != wheel.release[:2]:
        problems.append(f"icechunk is {crate} in Cargo.lock but {wheel} in requirements-dev.lock")

    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
