"""fake-gcs-server, an emulator of Google Cloud Storage by other people: what it answers by JSON, and by which requests.

`make servers` builds it. It reads a folder into its memory when it starts; object_store cannot write to it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
import urllib.request
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from obstore.store import GCSStore

from s3_server import free_port, servers_required

if TYPE_CHECKING:
    from collections.abc import Iterator

INSTALLED = Path(__file__).resolve().parents[2] / ".tools/bin/fake-gcs-server"
BUCKET = "bucket"
START_TIMEOUT_S = 60


@dataclass
class FakeGcs:
    """A running server with one bucket."""

    url: str
    log: Path
    _read: int = 0

    @property
    def options(self) -> dict[str, str]:
        """Settings that reach it: `gs://bucket`."""
        return {"base_url": self.url, "skip_signature": "true", "allow_http": "true"}

    @property
    def store(self) -> GCSStore:
        """An obstore store on the bucket."""
        config: Any = {"base_url": self.url, "skip_signature": "true"}
        return GCSStore(BUCKET, config=config, client_options={"allow_http": True})

    def lists(self) -> int:
        """Return how many LIST requests have been answered since the last `reset`."""
        said = self.log.read_bytes()[self._read :].decode()
        return sum(
            f'"GET /{path}?' in line
            for line in said.replace("\\", "").splitlines()
            for path in (f"storage/v1/b/{BUCKET}/o", BUCKET)
        )

    def reset(self) -> None:
        """Count from now on."""
        self._read = self.log.stat().st_size


def binary() -> Path:
    """Find what `make servers` installed, or REFREEZE_FAKE_GCS_SERVER; without it the test is skipped, but not in CI."""
    found = Path(os.environ.get("REFREEZE_FAKE_GCS_SERVER") or INSTALLED)
    if not found.exists():
        (pytest.fail if servers_required() else pytest.skip)(
            "fake-gcs-server is missing: make servers"
        )
    return found


@contextmanager
def fake_gcs(contents: Path, folder: Path) -> Iterator[FakeGcs]:
    """Serve what is in a folder as one bucket, until the context is left; `folder` is for the server."""
    command = [str(binary()), "-scheme", "http", "-host", "127.0.0.1", "-backend", "memory"]
    shutil.copytree(contents, folder / "data" / BUCKET)
    port, log = free_port(), folder / "fake-gcs.log"
    command += ["-port", str(port), "-public-host", f"127.0.0.1:{port}"]
    command += ["-data", str(folder / "data")]
    with (
        log.open("wb") as output,
        subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT) as process,
    ):
        try:
            server = FakeGcs(f"http://127.0.0.1:{port}", log)
            _wait_for(server, process)
            yield server
        finally:
            process.kill()


def _wait_for(server: FakeGcs, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(OSError):
            urllib.request.urlopen(f"{server.url}/storage/v1/b/{BUCKET}").close()  # noqa: S310 (http on loopback)
            return
        time.sleep(0.05)
    pytest.fail(f"fake-gcs-server did not start: {server.log.read_text(errors='replace')[-500:]}")
