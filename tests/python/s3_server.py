"""An S3 server on loopback for the tests: versitygw, or moto where versitygw is missing.

Responsible for finding, starting and ending the server and for making buckets; what is in the buckets is the
tests' own affair. versitygw keeps its objects as files (see `S3Server.root`), pages and orders keys as S3 does and
honours conditional writes. moto answers correctly too but is slow, so continuous integration insists on versitygw:
with `REFREEZE_REQUIRE_SERVERS` set, a missing one is an error.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from obstore.store import S3Store

if TYPE_CHECKING:
    from collections.abc import Iterator

REPOSITORY = Path(__file__).resolve().parents[2]
START_TIMEOUT_S = 60
REMEDY = "run `make servers`, or set REFREEZE_VERSITYGW to a versitygw binary"


class ServerMissingError(RuntimeError):
    """No server could be started that satisfies what the environment demands."""


@dataclass(frozen=True)
class S3Server:
    """A running server and the one account that it knows."""

    kind: Literal["versitygw", "moto"]
    endpoint: str
    access_key_id: str
    secret_access_key: str
    region: str
    root: Path
    """Folder of versitygw's buckets: a file written to `root / bucket / key` is an object. Unused by moto."""

    @property
    def options(self) -> dict[str, str]:
        """Settings that reach the server, under object_store's names, ready for `--source-option`."""
        return {
            "endpoint": self.endpoint,
            "access_key_id": self.access_key_id,
            "secret_access_key": self.secret_access_key,
            "region": self.region,
            "allow_http": "true",
        }

    @property
    def environment(self) -> dict[str, str]:
        """The same settings as `AWS_*` variables."""
        return {f"AWS_{name.upper()}": value for name, value in self.options.items()}

    def new_bucket(self) -> str:
        """Make an empty bucket and return its name."""
        name = f"test-{uuid.uuid4().hex[:12]}"
        if self.kind == "versitygw":
            (self.root / name).mkdir()
        else:
            # moto verifies no signatures, so creating a bucket needs no client.
            request = urllib.request.Request(f"{self.endpoint}/{name}", method="PUT")  # noqa: S310 (http on loopback)
            with urllib.request.urlopen(request):  # noqa: S310 (as above)
                pass
        return name

    def store(self, bucket: str, prefix: str | None = None) -> S3Store:
        """Return an obstore store on a bucket, or on a prefix in it."""
        return S3Store(
            bucket,
            prefix=prefix,
            endpoint=self.endpoint,
            access_key_id=self.access_key_id,
            secret_access_key=self.secret_access_key,
            region=self.region,
            client_options={"allow_http": True},
        )


def find_versitygw() -> Path | None:
    """Find the binary: `REFREEZE_VERSITYGW`, else what `make servers` installed, else PATH."""
    if named := os.environ.get("REFREEZE_VERSITYGW"):
        return Path(named)
    installed = REPOSITORY / ".tools" / "bin" / "versitygw"
    if installed.exists():
        return installed
    on_path = shutil.which("versitygw")
    return Path(on_path) if on_path else None


def servers_required() -> bool:
    """Whether a missing server must fail the tests that need it."""
    return os.environ.get("REFREEZE_REQUIRE_SERVERS", "0") not in ("", "0")


@contextmanager
def run_s3_server(
    *,
    access_key_id: str = "testkey",
    secret_access_key: str = "testsecret",  # noqa: S107 of a server on loopback
) -> Iterator[S3Server]:
    """Start a server on a free port, and end it and its data when the context is left."""
    binary = find_versitygw()
    if binary is None and servers_required():
        msg = f"versitygw is required (REFREEZE_REQUIRE_SERVERS) but missing: {REMEDY}"
        raise ServerMissingError(msg)

    port = free_port()
    with _folder_with_xattrs() as folder:
        server = S3Server(
            kind="versitygw" if binary else "moto",
            endpoint=f"http://127.0.0.1:{port}",
            access_key_id=access_key_id,
            secret_access_key=secret_access_key,
            region="us-east-1",
            root=folder / "buckets",
        )
        server.root.mkdir()
        if binary:
            command = [str(binary), "--port", f"127.0.0.1:{port}", "--keep-alive", "--quiet"]
            command += ["--region", server.region, "posix", str(server.root)]
        else:
            command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        accounts = {
            "ROOT_ACCESS_KEY": server.access_key_id,
            "ROOT_SECRET_KEY": server.secret_access_key,
        }
        with _running(command, accounts, port, folder / "log.txt"):
            yield server


def free_port() -> int:
    """Return a loopback port that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def _running(command: list[str], variables: dict[str, str], port: int, log: Path) -> Iterator[None]:
    """Run a server until the context is left, whatever happens in it."""
    if setpriv := shutil.which("setpriv"):
        # Where there is setpriv (Linux), the server dies with us even if we are killed.
        command = [setpriv, "--pdeathsig", "TERM", *command]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            env={**os.environ, **variables},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        _wait_for_port(process, port, log)
        yield
    finally:
        process.terminate()
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for_port(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    state = "did not listen" if process.returncode is None else f"ended with {process.returncode}"
    msg = (
        f"the S3 server {state}: {log.read_text(errors='replace')[-2000:].strip() or '(no output)'}"
    )
    raise ServerMissingError(msg)


@contextmanager
def _folder_with_xattrs() -> Iterator[Path]:
    """Yield a temporary folder on a file system with user attributes: versitygw keeps ETags in them."""
    for parent in (Path(tempfile.gettempdir()), REPOSITORY / ".tools"):
        parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(
            prefix="refreeze-s3-", dir=parent, ignore_cleanup_errors=True
        ) as name:
            if _takes_xattrs(Path(name)):
                yield Path(name)
                return
    msg = "no temporary folder takes user extended attributes: set TMPDIR to one on ext4, xfs or the like"
    raise ServerMissingError(msg)


def _takes_xattrs(folder: Path) -> bool:
    if not hasattr(os, "setxattr"):  # not Linux: versitygw will say so itself
        return True
    try:
        os.setxattr(folder, "user.refreeze", b"1")
    except OSError:
        return False
    return True
