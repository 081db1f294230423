"""The synthetic S3 endpoint of `benches/endpoint` as a process, for tests that count or disturb requests.

Arrays are computed from their grid, so a billion chunks cost nothing, and every misbehaviour is a setting. The binary
is built by `make test`.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from obstore.store import S3Store

if TYPE_CHECKING:
    from collections.abc import Iterator

REPOSITORY = Path(__file__).resolve().parents[2]
BUCKET = "bucket"
PAGE = 1000


class EndpointMissingError(RuntimeError):
    """The endpoint has not been built or did not start."""


@dataclass(frozen=True)
class Endpoint:
    """A running endpoint with one bucket."""

    url: str

    def store(self, prefix: str | None = None, retries: int = 10, timeout: float = 30) -> S3Store:
        """Return an obstore store on the bucket, or on a prefix in it, that waits little."""
        first, longest = timedelta(milliseconds=1), timedelta(milliseconds=30)
        return S3Store(
            BUCKET,
            prefix=prefix,
            endpoint=self.url,
            region="us-east-1",
            skip_signature=True,
            client_options={"allow_http": True, "timeout": timedelta(seconds=timeout)},
            retry_config={
                "max_retries": retries,
                "backoff": {"init_backoff": first, "max_backoff": longest, "base": 2},
                "retry_timeout": timedelta(seconds=60),
            },
        )

    @property
    def options(self) -> dict[str, str]:
        """Settings that reach the endpoint, ready for `--source-option`."""
        return {
            "endpoint": self.url,
            "region": "us-east-1",
            "skip_signature": "true",
            "allow_http": "true",
        }

    @property
    def google(self) -> dict[str, str]:
        """Settings that reach it as Google Cloud Storage: `gs://bucket`."""
        return {"base_url": self.url, "skip_signature": "true", "allow_http": "true"}

    @property
    def azure(self) -> dict[str, str]:
        """Settings that reach it as Azure, signed with a key: `az://bucket`."""
        key = base64.b64encode(b"the endpoint does not look at it").decode()
        return {
            "endpoint": self.url,
            "account_name": "account",
            "account_key": key,
            "allow_http": "true",
        }

    def stats(self) -> dict[str, int]:
        """Return the counters."""
        counters: dict[str, int] = self._ask("stats")
        return counters

    def log(self) -> list[dict[str, Any]]:
        """Return the LIST requests, when the setting `log` is on."""
        requests: list[dict[str, Any]] = self._ask("log")["list"]
        return requests

    def reset(self) -> None:
        """Set the counters to zero."""
        self._ask("reset", b"")

    def set(self, **settings: Any) -> None:
        """Change settings from the next request on."""
        self._ask("settings", json.dumps(settings).encode())

    def serve(self, array: dict[str, Any]) -> None:
        """Serve an array in the place of the one with the same keys."""
        self._ask("array", json.dumps(array).encode())

    def fail(self, **faults: Any) -> None:
        """Misbehave like this, and no longer otherwise; counters start anew."""
        self.set(faults=faults)
        self.reset()

    def _ask(self, what: str, body: bytes | None = None) -> Any:
        request = urllib.request.Request(f"{self.url}/__{what}", data=body)  # noqa: S310 (http on loopback)
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 (as above)
            return json.loads(answer.read())


def array(name: str, *grid: int, chunk: int = 1, **settings: Any) -> dict[str, Any]:
    """Describe an array with a metadata document: bytes in chunks of `chunk` elements a dimension."""
    zarr = {"chunk_shape": [chunk] * len(grid), "data_type": "uint8"} | settings.pop("zarr", {})
    return {"prefix": name, "grid": list(grid), "zarr": zarr} | settings


@contextmanager
def run_endpoint(*arrays: dict[str, Any], **config: Any) -> Iterator[Endpoint]:
    """Serve arrays on a free port until the context is left."""
    binary = _binary()
    configuration = json.dumps({"bucket": BUCKET, "arrays": arrays, "groups": [""]} | config)
    with subprocess.Popen(
        [str(binary), "--config", "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(configuration)
            process.stdin.close()
            url = process.stdout.readline().rpartition(" ")[2].strip()
            if not url.startswith("http://"):
                raise EndpointMissingError(f"the endpoint did not start with {configuration}")
            yield Endpoint(url)
        finally:
            process.kill()


def _binary() -> Path:
    target = Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target"))
    binary = target / "debug" / "refreeze-endpoint"
    if not binary.exists():
        raise EndpointMissingError(f"{binary} is missing: run `make test`")
    return binary
