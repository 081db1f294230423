"""A billion references: ``make bench-billion``. Needs hours and 25 GB of disk at full size.

One array of 10⁹ chunks, and the shape of a UFS replay times nine, from the synthetic endpoint into
a repository on local disk: in one process and with a Dask LocalCluster. Printed are time, peak
memory of each process, LIST requests, commits, bytes by kind, and how long opening and ten
random reads take. The exit code is 1 when a bound does not hold.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from harness import Endpoint, dense, parser_of
from tables import machine

MEMORY = 400 << 20
PROCESS = 150 << 20
COORDINATOR = 350 << 20
WORKERS = 2
COMMITS = 110
KINDS = ("manifests", "transactions", "snapshots")


def shapes(scale: float) -> dict[str, list[dict[str, Any]]]:
    """Return the arrays of each store, in the endpoint's form."""
    side = max(round(1000 * scale ** (1 / 3)), 2)
    steps = max(round(9 * 57_000 * scale), 2)
    ufs = [dense([steps, 8, 12], f"store.zarr/v{number}") for number in range(20)]
    return {"one array": [dense([side, side, side])], "UFS times nine": ufs}


def peak(process: int) -> int:
    """Return the most memory that a process of this machine has had resident, in bytes."""
    status = Path(f"/proc/{process}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def measure(url: str, target: str, crew: str) -> dict[str, Any]:
    """Ingest, open and read; return the figures."""
    import icechunk
    import zarr
    from zarr.core.buffer import default_buffer_prototype

    import refreeze

    settings = {
        "endpoint": url,
        "skip_signature": "true",
        "region": "us-east-1",
        "allow_http": "true",
    }
    options: dict[str, Any] = {"memory": MEMORY, "source_options": settings}
    workers: dict[str, int] = {}
    begun = time.monotonic()
    if crew == "dask":
        import distributed

        local_cluster: Any = distributed.LocalCluster
        connect: Any = distributed.Client
        with (
            local_cluster(
                n_workers=WORKERS, threads_per_worker=1, dashboard_address=None
            ) as cluster,
            connect(cluster) as client,
        ):
            client.wait_for_workers(WORKERS)
            begun = time.monotonic()
            report = refreeze.ingest("s3://bucket/store.zarr", target, client=client, **options)
            seconds = time.monotonic() - begun
            workers = {name: peak(pid) for name, pid in client.run(os.getpid).items()}
    else:
        report = refreeze.ingest("s3://bucket/store.zarr", target, **options)
        seconds = time.monotonic() - begun
    own = report.peak_rss_bytes
    begun = time.monotonic()
    anonymous = icechunk.s3_anonymous_credentials()
    repo = icechunk.Repository.open(
        icechunk.local_filesystem_storage(target),
        authorize_virtual_chunk_access=icechunk.containers_credentials(
            dict.fromkeys(report.containers, anonymous)
        ),
    )
    store = repo.readonly_session("main").store
    root = zarr.open_group(store, mode="r")
    opened = time.monotonic() - begun
    choose = random.Random(7)  # noqa: S311 the same chunks each time
    arrays = [array for _, array in root.arrays() if array.ndim > 1]
    begun = time.monotonic()
    for _ in range(10):
        array = choose.choice(arrays)
        place = tuple(choose.randrange(count) for count in array.cdata_shape)
        key = f"{array.path}/{array.metadata.encode_chunk_key(place)}"
        # Not decoded: the endpoint's chunks are bytes of any length.
        if asyncio.run(store.get(key, default_buffer_prototype())) is None:
            raise SystemExit(f"{key} is missing")
    read = time.monotonic() - begun
    return {
        "references": report.references_written,
        "seconds": round(seconds, 1),
        "requests": report.list_requests,
        "commits": report.commits,
        "coordinator": own,
        "workers": workers,
        "open_s": round(opened, 2),
        "ten_reads_s": round(read, 2),
        "bytes": {
            kind: sum(file.stat().st_size for file in Path(target, kind).iterdir())
            for kind in KINDS
        },
    }


def main() -> int:
    """Run all four."""
    if sys.argv[1:2] == ["--measure"]:
        print(json.dumps(measure(*sys.argv[2:])), flush=True)
        os._exit(0)  # the end of the interpreter may crash, as in `worker.main`
    options = parser_of(__doc__).parse_args()
    Endpoint.binary = options.endpoint
    print(*(f"{name}: {value}" for name, value in machine().items()), sep="\n")
    missed = []
    for name, arrays in shapes(options.scale).items():
        for crew in ("one process", "dask"):
            with Endpoint(arrays) as endpoint, tempfile.TemporaryDirectory() as folder:
                command = [sys.executable, __file__, "--measure", endpoint.url]
                command += [f"{folder}/target.icechunk", crew]
                environment = os.environ | {"PYTHONPATH": str(options.package)}
                ended = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE)
            found = json.loads(ended.stdout)
            print(f"\n{name}, {crew}: {json.dumps(found, indent=1)}", flush=True)
            own = COORDINATOR if crew == "dask" else PROCESS + MEMORY
            holds = (
                found["coordinator"] <= own
                and all(size <= PROCESS + MEMORY for size in found["workers"].values())
                and found["requests"] <= 1.001e-3 * found["references"] + 100 * len(arrays)
                and found["commits"] <= COMMITS
            )
            missed += [] if holds else [(name, crew)]
    print("\nnot within bounds:", missed or "none")
    return 1 if missed and options.scale == 1 else 0


if __name__ == "__main__":
    sys.exit(main())
