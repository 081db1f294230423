# ruff: noqa: T201 (a program: it prints what it found)
"""Compares what two builds of refreeze make of the same stores: reports, snapshots, manifests, logs.

    python tests/python/compare_builds.py BEFORE AFTER

BEFORE and AFTER are folders that hold a package ``refreeze`` with its extension (such as ``python/`` of a checkout);
each serves a process of its own. A fixed set of ingests runs with both, on local disk and on the S3 server of the
tests: every layout of keys, every mode, resumed and staged runs. Manifests are equal byte for byte once random ids are
blanked; what else holds ids or times is equal in all other respects. The last line counts what was compared; the exit
code is 1 when anything differs. ``--plans-differ`` leaves out what identifies a plan (its fingerprint and the text of
chunk keys): a build that writes those in another form is compared in everything else.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

# Its warnings of every local repository would bury what is told here.
os.environ.setdefault("ICECHUNK_LOG", "error")

import icechunk
from numcodecs import Zstd

from cases_to_compare import cases
from s3_server import S3Server, run_s3_server

HEADER = 39
"""Bytes of an Icechunk file before its compressed content."""

DIGITS = {digit: value for value, digit in enumerate("0123456789ABCDEFGHJKMNPQRSTVWXYZ")}

MASKED = {
    "run_id",
    "snapshot_id",
    "previous_snapshot_id",
    "elapsed_s",
    "peak_rss_bytes",
    "manifest_bytes",
    "target",
}
"""What two reports of the same work may differ in: ids, times, and the size of compressed ids."""

SERVE = """
import json, sys
import refreeze
print(json.dumps(refreeze.__file__), flush=True)
for line in sys.stdin:
    job = json.loads(line)
    options = job["options"]
    for name, (start, stop) in options.get("region", {}).items():
        options["region"][name] = slice(start, stop)
    stop = job["stop"]
    def progress(told):
        if stop and told["commits"] >= stop:
            raise KeyboardInterrupt
    try:
        report = getattr(refreeze, job["verb"])(*job["places"], **options, **({"progress": progress} if stop else {}))
        answer = report.to_dict()
    except (refreeze.exceptions.RefreezeError, KeyboardInterrupt) as error:
        answer = {"error": type(error).__name__, "message": str(error)}
    print(json.dumps(answer), flush=True)
"""


@dataclass
class Build:
    """One of the two, and its process."""

    name: str
    package: Path
    variables: dict[str, str]
    process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        """Start the process."""
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, **self.variables, "PYTHONPATH": str(self.package)},
        )
        loaded = Path(self._answer())
        if loaded.parents[1] != self.package:
            msg = f"{self.name}: refreeze came from {loaded}, not from {self.package}"
            raise SystemExit(msg)
        return self

    def __exit__(self, *_: object) -> None:
        """End it."""
        assert self.process is not None
        self.process.communicate()

    def call(self, verb: str, *places: Any, stop: int = 0, **options: Any) -> dict[str, Any]:
        """Call a function of the build; with `stop`, interrupt it after so many commits."""
        assert self.process is not None
        assert self.process.stdin is not None
        job = {"verb": verb, "places": places, "options": options, "stop": stop}
        print(json.dumps(job), file=self.process.stdin, flush=True)
        answer: dict[str, Any] = self._answer()
        return answer

    def _answer(self) -> Any:
        assert self.process is not None
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            msg = f"the process of {self.name} has ended"
            raise SystemExit(msg)
        return json.loads(line)


@dataclass
class Comparison:
    """What was compared, and what differed."""

    plans_differ: bool
    counted: Counter[str] = field(default_factory=Counter)
    differences: list[str] = field(default_factory=list)

    def same(self, kind: str, where: str, before: Any, after: Any) -> None:
        """Count one thing, and note where it differs."""
        self.counted[kind] += 1
        if before != after:
            self.differences.append(f"{kind} of {where}: {shortest_difference(before, after)}")

    def reports(self, where: str, *reports: dict[str, Any], targets: list[str]) -> None:
        """Compare the reports of the same call, each with its own target."""
        texts = []
        for report, target in zip(reports, targets, strict=True):
            masked = {name: value for name, value in report.items() if name not in MASKED}
            if "containers" in masked:
                # In the order of a repository's configuration, which has none.
                masked["containers"] = sorted(masked["containers"])
            texts.append(
                without_ids(json.dumps(masked, sort_keys=True), {**report, "target": target})
            )
        self.same("reports", where, *texts)

    def repositories(self, where: str, before: Repository, after: Repository) -> None:
        """Compare two repositories, snapshot by snapshot."""
        histories = [one.snapshots() for one in (before, after)]
        self.same("histories", where, *([branch for branch, _ in one] for one in histories))
        for (branch, one), (_, other) in zip(*histories, strict=False):
            place = f"{where}, a snapshot of {branch}"
            self.same(
                "snapshots",
                place,
                before.snapshot(one, self.plans_differ),
                after.snapshot(other, self.plans_differ),
            )
            self.same("documents", place, before.documents(one), after.documents(other))
            self.same("logs", place, before.log(one), after.log(other))
            manifests = [before.manifests(one), after.manifests(other)]
            self.same("sets of manifests", place, *(sorted(one) for one in manifests))
            for name in manifests[0].keys() & manifests[1].keys():
                self.same("manifests", f"{place}, {name}", manifests[0][name], manifests[1][name])


@dataclass
class Repository:
    """A repository and the folder of its files."""

    folder: Path
    repository: icechunk.Repository

    @classmethod
    def open(cls, folder: Path) -> Repository:
        """Open the files of a repository, whatever server they are of."""
        return cls(folder, icechunk.Repository.open(icechunk.local_filesystem_storage(str(folder))))

    def snapshots(self) -> list[tuple[str, str]]:
        """Return branch and id of every snapshot, oldest first; staging branches have one name."""
        found = []
        for branch in sorted(self.repository.list_branches()):
            name = "staging" if branch.startswith("refreeze/") else branch
            history = list(self.repository.ancestry(branch=branch))
            found += [(name, snapshot.id) for snapshot in reversed(history)]
        return found

    def snapshot(self, snapshot_id: str, plans_differ: bool) -> str:
        """Return a snapshot as text, with names for its ids."""
        told = self.repository.inspect_snapshot(snapshot_id)
        names = self._names(told)
        metadata = dict(told["metadata"])
        metadata.pop("refreeze.run", None)
        if "refreeze.batches" in metadata:
            metadata["refreeze.batches"] = in_any_order(metadata["refreeze.batches"])
        if "refreeze.resolved" in metadata:
            metadata["refreeze.resolved"] = resolved = dict(metadata["refreeze.resolved"])
            resolved["base"] = resolved["base"] is not None
        if plans_differ:
            metadata.pop("refreeze.plan", None)
            if "refreeze.resolved" in metadata:
                arrays = metadata["refreeze.resolved"]["arrays"]
                metadata["refreeze.resolved"]["arrays"] = [
                    {**array, "keys": None} for array in arrays
                ]
        nodes = [
            {
                **node,
                "id": node["path"],
                "manifest_refs": sorted(
                    ((names[ref["id"]], ref["extents"]) for ref in node.get("manifest_refs", [])),
                    key=str,
                ),
            }
            for node in told["nodes"]
        ]
        counts = sorted(
            (names[file["id"]], file["num_chunk_refs"])
            for file in told["manifests"]
            if file["id"] in names
        )
        whole = {
            "message": told["commit_message"],
            "metadata": metadata,
            "nodes": nodes,
            "manifests": counts,
        }
        return json.dumps(whole, sort_keys=True)

    def documents(self, snapshot_id: str) -> dict[str, bytes]:
        """Return the metadata documents of a snapshot."""
        from zarr.core.buffer import default_buffer_prototype
        from zarr.core.sync import sync

        store = self.repository.readonly_session(snapshot_id=snapshot_id).store
        paths = [node["path"] for node in self.repository.inspect_snapshot(snapshot_id)["nodes"]]
        keys = [f"{path}/zarr.json".lstrip("/") for path in paths]
        return {key: sync(store.get(key, default_buffer_prototype())).to_bytes() for key in keys}

    def log(self, snapshot_id: str) -> str:
        """Return a transaction log as text, by paths; the order of nodes is that of their random ids."""
        if not (self.folder / "transactions" / snapshot_id).exists():
            return ""
        told = self.repository.inspect_transaction_log(snapshot_id)
        paths = {
            node["id"]: node["path"]
            for node in self.repository.inspect_snapshot(snapshot_id)["nodes"]
        }
        named = {}
        for kind, entries in told.items():
            if kind == "header":
                continue
            if kind == "updated_chunks":
                named[kind] = sorted(
                    [paths.get(entry["node_id"], "removed"), entry["chunks"]] for entry in entries
                )
            elif kind == "moved_nodes":
                named[kind] = entries
            else:
                named[kind] = sorted(paths.get(entry, "removed") for entry in entries)
        return json.dumps(named)

    def manifests(self, snapshot_id: str) -> dict[str, bytes]:
        """Return the content of a snapshot's manifests, ids blanked, by array and place."""
        told = self.repository.inspect_snapshot(snapshot_id)
        names = self._names(told)
        nodes = [node["id"] for node in told["nodes"]]
        found = {}
        for manifest_id, name in names.items():
            content = Zstd().decode((self.folder / "manifests" / manifest_id).read_bytes()[HEADER:])
            for one in (manifest_id, *nodes):
                content = content.replace(bytes_of(one), bytes(len(bytes_of(one))))
            found[name] = content
        return found

    @staticmethod
    def _names(told: Any) -> dict[str, str]:
        """Name every manifest by its array and extents."""
        return {
            ref["id"]: f"{node['path']} {ref['extents']}"
            for node in told["nodes"]
            for ref in node.get("manifest_refs", [])
        }


def in_any_order(batches: dict[str, Any]) -> dict[str, Any]:
    """Return what a commit completes without what depends on which of several listings was faster."""
    arrays = [
        {name: value for name, value in one.items() if name != "sample"}
        for one in batches.get("arrays", [])
    ]
    return {**batches, "manifest_bytes": 0, "arrays": sorted(arrays, key=str)}


def bytes_of(text: str) -> bytes:
    """Return the bytes of an id of Icechunk's, which are written in base 32."""
    number = 0
    for digit in text:
        number = number * 32 + DIGITS[digit]
    bits = 5 * len(text)
    return (number >> bits % 8).to_bytes(bits // 8, "big")


def without_ids(text: str, report: dict[str, Any]) -> str:
    """Return a text without the ids that a report names, and without its target."""
    for name in ("run_id", "snapshot_id", "previous_snapshot_id", "target"):
        if report.get(name):
            text = text.replace(str(report[name]), name)
    return text


def shortest_difference(before: Any, after: Any) -> str:
    """Return where two values begin to differ."""
    one, other = (
        value if isinstance(value, str | bytes) else str(value) for value in (before, after)
    )
    at = next(
        (at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b),
        min(len(one), len(other)),
    )
    around = slice(max(0, at - 60), at + 60)
    return f"{one[around]!r} became {other[around]!r}"


def run(comparison: Comparison, builds: tuple[Build, Build], work: Path, server: S3Server) -> None:
    """Run every case with both builds, on local disk and then with sources and targets on S3."""
    for place in ("local", "s3"):
        bucket = server.new_bucket()
        for number, (case, steps) in enumerate(cases(work / place)):
            where = f"{place}: {case}"
            targets = {build.name: f"{build.name}-{number}" for build in builds}
            for step in steps:
                call = dict(step)
                if change := call.pop("change", None):
                    change()
                    continue
                verb, stop = call.pop("verb", "ingest"), call.pop("stop", 0)
                sources = call.pop("source", None)
                if place == "s3" and sources is not None:
                    sources = uploaded(server, bucket, sources, work / place)
                places = [] if sources is None else [as_text(sources)]
                roots = {"local": f"{work}/targets", "s3": f"s3://{bucket}"}
                urls = [f"{roots[place]}/{targets[build.name]}" for build in builds]
                reports = [
                    build.call(verb, *places, url, stop=stop, **call)
                    for build, url in zip(builds, urls, strict=True)
                ]
                comparison.reports(where, *reports, targets=urls)
            folders = {"local": work / "targets", "s3": server.root / bucket}
            opened = [Repository.open(folders[place] / targets[build.name]) for build in builds]
            comparison.repositories(where, *opened)
            print(f"{where}: {len(comparison.differences)} differences so far", file=sys.stderr)


def uploaded(server: S3Server, bucket: str, sources: Any, root: Path) -> Any:
    """Copy sources to S3 as they are now; return their URLs."""
    if isinstance(sources, list):
        return [uploaded(server, bucket, one, root) for one in sources]
    url = f"s3://{bucket}/{sources.relative_to(root)}"
    target = server.root / bucket / sources.relative_to(root)
    for file in sorted(sources.rglob("*")):
        copy = target / file.relative_to(sources)
        if file.is_file() and not (copy.exists() and copy.read_bytes() == file.read_bytes()):
            upload_one(
                server, bucket, file, f"{sources.relative_to(root)}/{file.relative_to(sources)}"
            )
    return url


def upload_one(server: S3Server, bucket: str, file: Path, key: str) -> None:
    """Put a file with its own time."""
    import obstore

    obstore.put(server.store(bucket), key, file.read_bytes())
    os.utime(server.root / bucket / key, (file.stat().st_mtime,) * 2)


def as_text(sources: Any) -> Any:
    """Return what JSON can hold of paths."""
    return [str(one) for one in sources] if isinstance(sources, list) else str(sources)


def main() -> int:
    """Compare, print the differences and the counts."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument(
        "--plans-differ",
        action="store_true",
        help="leave out fingerprints and the names of chunk keys",
    )
    arguments = parser.parse_args()
    comparison = Comparison(arguments.plans_differ)
    with ExitStack() as open_until_the_end:
        work = Path(open_until_the_end.enter_context(tempfile.TemporaryDirectory()))
        server = open_until_the_end.enter_context(run_s3_server())
        if server.kind != "versitygw":
            print(
                "versitygw is needed, whose objects are files: run `make servers`", file=sys.stderr
            )
            return 2
        builds = tuple(
            open_until_the_end.enter_context(Build(name, package.resolve(), server.environment))
            for name, package in (("before", arguments.before), ("after", arguments.after))
        )
        run(comparison, (builds[0], builds[1]), work, server)
    for difference in comparison.differences:
        print(difference)
    counts = ", ".join(f"{count} {kind}" for kind, count in comparison.counted.items())
    print(f"compared {counts}: {len(comparison.differences)} differences")
    return 1 if comparison.differences else 0


if __name__ == "__main__":
    sys.exit(main())
