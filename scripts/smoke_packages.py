"""Install the wheel into new environments of every Python that is there, and try it; look into the sdist.

The steps of `Containerfile` are executed by `try_container.py`, which this calls in the end.

What is tried is the package: its metadata, what it needs, the command, and the demo. The wheel and the sdist are
built by `make smoke`, which calls this with their folder.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VERSIONS = ("3.12", "3.13")
WANTED = (
    "Cargo.lock",
    "README.md",
    "LICENSE",
    "pyproject.toml",
    "rust/lib.rs",
    "python/src/lib.rs",
)


def main(folder: Path) -> int:
    """Try what is in a folder; return the exit code."""
    (wheel,) = (folder / "dist").glob("refreeze-*.whl")
    (sdist,) = (folder / "dist").glob("refreeze-*.tar.gz")
    check_sdist(sdist)
    found = {version: python for version in VERSIONS if (python := _python(version))}
    if not found:
        print("error: no Python of", ", ".join(VERSIONS), file=sys.stderr)
        return 1
    for version, python in found.items():
        print(f"== Python {version}: {python}", flush=True)
        check_wheel(wheel, python, (folder / version).resolve())
    if VERSIONS[0] not in found:
        return 0
    container = ROOT / "scripts" / "try_container.py"
    image = [sys.executable, str(container), str(folder / "dist"), found[VERSIONS[0]]]
    return subprocess.run(image, check=False).returncode


def check_sdist(sdist: Path) -> None:
    """See that everything that a build needs is in the source distribution."""
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    tracked = _said("git", "ls-files", "python/refreeze", "rust", "python/src").split()
    missing = [name for name in (*WANTED, *tracked) if name not in names]
    if missing:
        raise SystemExit(f"error: {sdist.name} lacks {', '.join(missing[:5])}")
    print(f"== {sdist.name}: {len(names)} files")


def check_wheel(wheel: Path, python: str, folder: Path) -> None:
    """Install the wheel with the demo's packages, and run the demo and the doctor from elsewhere."""
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([python, "-m", "venv", str(folder)], check=True)
    inside = folder / "bin" / "python"
    uv = ROOT / ".venv/bin/uv"
    # What is tried is this wheel, not what was published elsewhere since: versions are those of the lock.
    locked = ["--constraint", str(ROOT / "requirements-dev.lock")]
    install = [str(uv), "pip", "install", "--quiet", "--python", str(inside), *locked]
    install.append(f"{wheel.resolve()}[demo]")
    subprocess.run(install, check=True, env=os.environ | {"UV_SYSTEM_CERTS": "true"})
    # From a folder without sources: what is imported is what was installed.
    command = str(folder / "bin" / "refreeze")
    for words in (
        ["--version"],
        ["demo", "demo"],
        ["doctor", "demo/air.zarr", "demo/air.icechunk"],
    ):
        done = subprocess.run([command, *words], cwd=folder, check=False, capture_output=True)
        if done.returncode:
            sys.stderr.buffer.write(done.stdout + done.stderr)
            raise SystemExit(f"error: refreeze {' '.join(words)} ended with {done.returncode}")


def _python(version: str) -> str | None:
    """Return a Python of a version that can make environments; shims that lead nowhere are none."""
    candidates = [shutil.which(f"python{version}")]
    candidates += sorted(map(str, Path.home().glob(f".pyenv/versions/{version}.*/bin/python")))
    for candidate in candidates:
        if candidate is None:
            continue
        asked = subprocess.run(
            [
                candidate,
                "-c",
                "import sys, venv, ensurepip; print(sys.version.split()[0], sys.executable)",
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        if asked.returncode == 0 and re.match(rf"{re.escape(version)}\.", asked.stdout):
            # Not a shim, which would ask where it is called what it is to be.
            return asked.stdout.split()[-1]
    return None


def _said(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
