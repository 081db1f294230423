"""Execute the steps of `Containerfile` on this machine, without a registry of images.

The place of the base image takes the machine's own root, seen through an overlay whose changes are
in memory and gone afterwards, with a new environment of the Python that the image has. Every
instruction is executed: COPY, RUN, USER, WORKDIR and the entry point. What the base image holds, and
how small it is, is not tried. Without the rights to mount, it is said so, and the exit code is 0.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NO_RIGHTS = 77
"""The exit code by which the inner process says that it may not mount."""
PYTHON = "/opt/refreeze-image"
"""Where the environment is that stands for the image's Python."""
PATH = f"{PYTHON}/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
KNOWN = ("FROM", "COPY", "RUN", "USER", "WORKDIR", "ENTRYPOINT", "CMD")


def instructions(text: str) -> list[tuple[str, str]]:
    """Return the instructions of a Containerfile and what follows them, continued lines joined.

    Raises
    ------
    ValueError
        One is not known here.
    """
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    found = []
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        name, _, rest = line.strip().partition(" ")
        if name not in KNOWN:
            raise ValueError(f"an instruction that is not tried: {name}")
        found.append((name, rest.strip()))
    return found


class Image:
    """A root in which the instructions of a Containerfile are executed, one after the other.

    Parameters
    ----------
    root
        Where it is mounted.
    wheels
        Folder that stands for ``dist``.
    python
        A Python of the base image's version.
    """

    def __init__(self, root: Path, wheels: Path, python: str) -> None:
        self._root = root
        self._wheels = wheels
        self._as = _command("chroot", str(root))
        self._entry: list[str] = []
        self.arguments: list[str] = []
        passed = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
        self._environment = passed | {"PATH": PATH, "HOME": "/root", "LANG": "C.UTF-8"}
        # What is tried is this wheel: versions are those of the lock, without its hashes.
        lock = (ROOT / "requirements-dev.lock").read_text()
        locked = re.findall(r"^[\w.-]+==\S+(?: ; [^\\\n]+)?", lock, re.MULTILINE)
        (root / "tmp" / "locked.txt").write_text("\n".join(locked))
        self._environment |= {"PIP_QUIET": "1", "PIP_CONSTRAINT": "/tmp/locked.txt"}  # noqa: S108
        self.run(python, "-m", "venv", PYTHON)
        # A Python in a home folder is one that others may read in an image.
        self.run("chmod", "a+x", "/root")

    def run(self, *words: str) -> str:
        """Run a command as the image's user; return what it prints."""
        done = subprocess.run(
            [*self._as, *words],
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"error: {shlex.join(words)}\n{done.stdout}")
        return done.stdout

    def enter(self, *arguments: str) -> str:
        """Run the entry point with arguments."""
        return self.run(*self._entry, *arguments)

    def execute(self, name: str, rest: str) -> None:
        """Execute one instruction."""
        if name == "COPY":
            pattern, where = rest.split()
            for file in sorted(self._wheels.glob(Path(pattern).name)):
                (self._root / where.lstrip("/") / file.name).write_bytes(file.read_bytes())
        elif name == "RUN":
            self.run("sh", "-ec", rest)
        elif name == "USER":
            self._as = _command("chroot", f"--userspec={rest}", str(self._root))
        elif name == "WORKDIR":
            self._environment["HOME"] = rest
            self._as = [*self._as, "env", "-C", rest]
        elif name == "ENTRYPOINT":
            self._entry = json.loads(rest)
        elif name == "CMD":
            self.arguments = json.loads(rest)


def main() -> int:
    """Enter a mount namespace of its own, and execute the steps there."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("wheels", type=Path, help="folder with the wheel")
    parser.add_argument("python", help="a Python of the image's version")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.inside:
        return _inside(given.wheels, given.python)
    again = [sys.executable, __file__, "--inside", str(given.wheels.resolve()), given.python]
    ended = NO_RIGHTS
    if os.geteuid() == 0 and shutil.which("unshare"):
        ended = subprocess.run(_command("unshare", "--mount", *again), check=False).returncode
    if ended == NO_RIGHTS:
        print("== Containerfile: not tried, this user may not mount an overlay")
        return 0
    return ended


def _inside(wheels: Path, python: str) -> int:
    with tempfile.TemporaryDirectory(prefix="refreeze-image-") as name:
        folder = Path(name)
        root = folder / "root"
        try:
            return _executed(root, wheels, python) if _mounted(folder, root) else NO_RIGHTS
        finally:
            for one in (root / "dev", root / "proc", root, folder):
                _does("umount", "--lazy", str(one))


def _mounted(folder: Path, root: Path) -> bool:
    """Mount an overlay of this machine's root; return whether that is allowed."""
    if not _does("mount", "-t", "tmpfs", "tmpfs", str(folder)):
        return False
    for part in ("changes", "work", "root"):
        (folder / part).mkdir()
    layers = f"lowerdir=/,upperdir={folder}/changes,workdir={folder}/work"
    return _does("mount", "-t", "overlay", "overlay", "-o", layers, str(root)) and all(
        _does("mount", "--rbind", f"/{device}", str(root / device)) for device in ("dev", "proc")
    )


def _executed(root: Path, wheels: Path, python: str) -> int:
    steps = instructions((ROOT / "Containerfile").read_text())
    wanted = re.search(r"python:([\d.]+)", dict(steps)["FROM"])
    image = Image(root, wheels, python)
    said = image.run(python, "--version").strip()
    if wanted is None or f" {wanted[1]}." not in said:
        raise SystemExit(f"error: {python} is {said}, the image's is {dict(steps)['FROM']}")
    for name, rest in steps:
        print(f"== {name} {' '.join(rest.split())}", flush=True)
        image.execute(name, rest)
    for arguments in (image.arguments, ["--version"], ["doctor"]):
        image.enter(*arguments)
    user = image.run("id", "-u").strip()
    if user == "0":
        raise SystemExit("error: the image runs as root")
    print(f"== Containerfile: its steps were executed; it runs as user {user}")
    return 0


def _command(name: str, *words: str) -> list[str]:
    return [shutil.which(name) or name, *words]


def _does(name: str, *words: str) -> bool:
    """Run a command; return whether it ended well."""
    return subprocess.run(_command(name, *words), check=False, capture_output=True).returncode == 0


if __name__ == "__main__":
    sys.exit(main())
