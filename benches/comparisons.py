"""What is compared with what, on which data, and what the ratios must be.

Each scenario yields a `Section`: rows of medians, and checks of ratios against their targets.
How a process is measured is `harness`'s business, how tables look `tables`'s. Other kinds of stores
are in `sources`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import prod
from pathlib import Path
from typing import Any

from harness import Bench, Endpoint, Subject, dense, folder_bytes, median_row
from limits import least_seconds
from sections import MIB, Check, Section, limit, workspace


def listing(bench: Bench, _: bool) -> Section:
    """`list_chunks` against `obstore.list`."""
    columns = ["wall", "cpu", "rss", "list_requests", "keys_per_s"]
    section = Section("listing", "Listing one array: `list_chunks` against `obstore.list`", columns)
    grid = [bench.steps(1_000), 1_000]
    for latency, runs in ((0, None), (50, 1)):
        case = f"{prod(grid):,} chunks, {latency} ms a page"
        array = {"array": "store.zarr/t2m"}
        subjects = [
            Subject("refreeze", "refreeze_list", array),
            Subject("obstore", "obstore_list", array, runs=runs),
        ]
        with Endpoint([dense(grid)], latency) as endpoint:
            section.rows += bench.compare(endpoint, case, subjects)
        limit = 1.01 * prod(grid) / 1_000 + 3
        section.ratio("wall", case, "obstore", 1, "wall")
        requests = section.of(case, "refreeze")["list_requests"]
        section.checks.append(Check(f"{case}: LIST requests", requests, limit, at_least=False))
    for row in section.rows:
        row["keys_per_s"] = row["keys"] / row["wall"]
    return section


def parsing(bench: Bench, full: bool) -> Section:
    """`refreeze.ZarrParser` against VirtualiZarr's, whole and with a region."""
    columns = ["references", "wall", "cpu", "rss", "list_requests"]
    title = "A ManifestStore: `refreeze.ZarrParser`, whole and of a region, against VirtualiZarr's"
    section = Section("parser", title, columns)
    steps = bench.steps(1_000)
    grid = [steps, 10, 100]
    for latency in (0, 50) if full else (0,):
        case = f"{prod(grid):,} chunks, {latency} ms a page"
        region = {"stop": steps // 10}
        subjects = [
            Subject("refreeze", "refreeze_parse"),
            Subject("refreeze, a tenth", "refreeze_parse", region),
            Subject("VirtualiZarr", "virtualizarr_parse", runs=1),
        ]
        with Endpoint([dense(grid)], latency) as endpoint:
            section.rows += bench.compare(endpoint, case, subjects)
        if (
            section.of(case, "refreeze")["references"]
            != section.of(case, "VirtualiZarr")["references"]
        ):
            raise SystemExit("the parsers disagree")
        section.ratio("wall", case, "VirtualiZarr", 1, "wall")
        section.ratio("wall, a tenth", case, "VirtualiZarr", 1, "wall", tool="refreeze, a tenth")
    return section


def ingest(bench: Bench, full: bool) -> Section:
    """`refreeze.ingest` against VirtualiZarr and Icechunk."""
    columns = ["runs", "wall", "cpu", "rss", "list_requests", "repo_bytes", "limit_s", "share"]
    title = "Ingest: `refreeze.ingest` against `ZarrParser` → `to_icechunk` → `commit`"
    section = Section("ingest", title, columns)
    grid = [bench.steps(1_000), 10, 100]
    for latency, runs, wall in ((0, None, 12), (50, None if full else 1, 40)):
        case = f"{prod(grid):,} chunks, {latency} ms a page"
        with Endpoint([dense(grid)], latency) as endpoint:
            section.rows += ingests(bench, endpoint, case, runs)
        refreeze, other = (section.of(case, tool) for tool in ("refreeze", "VirtualiZarr"))
        if not refreeze["references"] == other["references"] == prod(grid):
            raise SystemExit(f"{case}: references are missing")
        section.ratio("wall", case, "VirtualiZarr", wall, "wall")
        section.ratio("CPU", case, "VirtualiZarr", 15, "cpu")
        section.ratio("peak RSS", case, "VirtualiZarr", 4, "rss")
        limit = 1.01 * prod(grid) / 1_000 + 3
        requests = refreeze["list_requests"]
        section.checks.append(Check(f"{case}: LIST requests", requests, limit, at_least=False))
    return section


def ingests(
    bench: Bench, endpoint: Endpoint, case: str, runs: int | None, scheme: str = "s3"
) -> Iterator[dict[str, Any]]:
    """Alternate like `Bench.compare`, each run into a repository of its own."""
    tasks: dict[str, dict[str, Any]] = {"refreeze": {"options": {}}, "VirtualiZarr": {}}
    for options in tasks.values():
        options["scheme"] = scheme
    rows: dict[str, list[dict[str, Any]]] = {tool: [] for tool in tasks}
    for turn in range(bench.runs):
        for tool, options in tasks.items():
            if tool == "VirtualiZarr" and runs is not None and turn >= runs:
                continue
            with workspace() as fresh:
                target = fresh()
                arguments = {"target": str(target), **options}
                subject = Subject(tool, f"{tool.lower()}_ingest", arguments)
                row = bench.once(endpoint, case, subject)
                row["repo_bytes"] = folder_bytes(target).total()
                row["references"] = _live(target)[0]
                row["limit_s"] = row["share"] = None
                if tool == "refreeze":
                    limit(row, least_seconds(endpoint, row["list_requests"], target))
                rows[tool].append(row)
    for measured in rows.values():
        yield median_row(measured)


def _live(target: Path) -> tuple[int, int]:
    """Return references and bytes of the manifests that the tip of main needs."""
    import icechunk

    repository = icechunk.Repository.open(icechunk.local_filesystem_storage(str(target)))
    files = repository.list_manifest_files(repository.lookup_branch("main"))
    return sum(f.num_chunk_refs for f in files), sum(f.size_bytes for f in files)


def scale(bench: Bench, _: bool) -> Section:
    """Ingests of growing size, and the shape of the UFS replay."""
    columns = ["runs", "wall", "cpu", "us_per_ref", "us_cpu", "rss", "list_requests", "commits"]
    columns += ["manifests", "amplification", "limit_s", "share"]
    section = Section("scale", "Ingests of growing size, 0 ms a page", columns)
    large = {f"large{n}": [bench.steps(11_000), 10, 100] for n in range(10)}
    replay = large | {f"small{n}": [100, 10] for n in range(100)}
    shapes: dict[str, dict[str, list[int]]] = {
        f"{millions} M": {"t2m": [bench.steps(millions * 1_000), 10, 100]}
        for millions in (1, 10, 100)
    } | {"10 × 11 M + 100 small": replay}
    for case, grids in shapes.items():
        arrays = [dense(grid, f"store.zarr/{name}") for name, grid in grids.items()]
        with Endpoint(arrays) as endpoint:
            # Peak memory differs by a tenth from run to run.
            turns = range(1 if len(grids) > 1 else bench.runs)
            rows = [_scaled(bench, endpoint, case, grids) for _ in turns]
        section.rows.append(median_row(rows))
    one, ten, hundred, many = section.rows
    section.checks = [
        Check(
            "100 M against 1 M: time a reference",
            hundred["us_per_ref"] / one["us_per_ref"],
            1.2,
            at_least=False,
        ),
        Check("100 M against 10 M: RSS", hundred["rss"] / ten["rss"], 1.1, at_least=False),
        Check(
            "write amplification",
            max(row["amplification"] for row in section.rows),
            1.05,
            at_least=False,
        ),
        Check("100 M: CPU µs a reference", hundred["us_cpu"], 0.55, at_least=False),
        Check("10 × 11 M + 100 small: seconds", many["wall"], 300, at_least=False),
        Check("10 × 11 M + 100 small: peak MB", many["rss"] / 1e6, 352, at_least=False),
    ]
    return section


def _scaled(
    bench: Bench, endpoint: Endpoint, case: str, grids: dict[str, list[int]]
) -> dict[str, Any]:
    """Ingest once into a repository of its own, and look at what it has become."""
    with workspace() as fresh:
        target = fresh()
        arguments = {"target": str(target), "options": {}}
        row = bench.once(endpoint, case, Subject("refreeze", "refreeze_ingest", arguments))
        references, live = _live(target)
        written = folder_bytes(target)["manifests"]
        limit(row, least_seconds(endpoint, row["list_requests"], target))
    if references != sum(prod(grid) for grid in grids.values()):
        raise SystemExit(f"{case}: references are missing")
    each = {"us_per_ref": row["wall"] / references * 1e6, "us_cpu": row["cpu"] / references * 1e6}
    return row | each | {"amplification": written / live}


def append(bench: Bench, full: bool) -> Section:
    """One time step of a thousand chunks appended, again and again."""
    columns = ["appends", "first_s", "median_s", "last_s", "first_bytes", "last_bytes", "rss"]
    title = "A day appended to a large array, again and again"
    section = Section("append", title, [*columns, "list_requests"])
    steps = bench.steps(10_000)
    cases = [("refreeze", 10, 100)]
    cases += [("VirtualiZarr", 1, 5), ("VirtualiZarr", 10, 3)] if full else [("VirtualiZarr", 1, 5)]
    for tool, millions, often in cases:
        appends = bench.times(often)
        begin = steps * millions // 10
        case = f"onto {begin * 1_000:,} references"
        arrays = [dense([begin, 10, 100]), dense([1, 10, 100], "day.zarr/t2m")]
        with Endpoint(arrays) as endpoint, workspace() as fresh:
            target = str(fresh())
            if tool == "refreeze":
                begun = Subject(tool, "refreeze_ingest", {"target": target, "options": {}})
                more = {"steps": begin, "grid": [begin, 10, 100]}
            else:
                begun = Subject(
                    tool, "virtualizarr_ingest", {"target": target, "parser": "refreeze"}
                )
                more = {}
            bench.measure(endpoint, begun)
            arguments = {"target": target, "appends": appends, **more}
            subject = Subject(tool, f"{tool.lower()}_append", arguments)
            row = bench.once(endpoint, case, subject)
            section.rows.append(row)
    ours, theirs = section.rows[0], section.rows[-1]
    growth = ours["last_s"] / ours["first_s"]
    bytes_growth = ours["last_bytes"] / ours["first_bytes"]
    section.checks = [
        Check("refreeze: seconds of the last append over the first", growth, 1.5, at_least=False),
        Check(
            "refreeze: bytes of the last append over the first", bytes_growth, 1.5, at_least=False
        ),
        Check("seconds an append, against VirtualiZarr", theirs["median_s"] / ours["median_s"], 1),
        Check(
            "bytes an append, against VirtualiZarr",
            theirs["median_bytes"] / ours["median_bytes"],
            1,
        ),
    ]
    section.notes = [
        "VirtualiZarr cannot open a part of a store, so it gets one that holds only the day.",
        'Each append opens the repository again; "first" is the second append, "last" the median of the last ten.',
    ]
    return section


def reading(bench: Bench, _: bool) -> Section:
    """Time a fresh process, from opening the repository to the bytes of the first chunk."""
    columns = ["seconds", "get_requests", "get_bytes", "cpu", "rss"]
    title = "Reading the result: from `Repository.open` to the first chunk's bytes"
    section = Section("reading", title, columns)
    for millions in (1, 10):
        array = dense([bench.steps(millions * 1_000), 10, 100])
        with Endpoint([array]) as endpoint:
            targets = {"refreeze": "s3://bucket/refreeze", "VirtualiZarr": "s3://bucket/other"}
            made = [
                Subject("refreeze", "refreeze_ingest", {"options": {}}),
                Subject("VirtualiZarr", "virtualizarr_ingest", {"parser": "refreeze"}),
            ]
            containers = {"VirtualiZarr": "s3://bucket/"}
            for subject in made:
                subject.arguments["target"] = targets[subject.tool]
                said = bench.measure(endpoint, subject).said
                containers.setdefault(subject.tool, said.get("container", ""))
            for latency in (0, 50):
                case = f"{prod(array['grid']):,} references, {latency} ms a request"
                endpoint.set(object_latency_ms=latency)
                subjects = [
                    Subject(
                        tool,
                        "read_first_chunk",
                        {"target": target, "container": containers[tool]},
                    )
                    for tool, target in targets.items()
                ]
                section.rows += bench.compare(endpoint, case, subjects)
                if millions == 10 and latency == 0:  # noqa: PLR2004 (the case that has a target)
                    section.ratio("seconds", case, "VirtualiZarr", 5, "seconds")
                    section.ratio("bytes fetched", case, "VirtualiZarr", 5, "get_bytes")
    section.notes = [
        "The endpoint's network is this machine's memory, so bytes cost next to nothing."
    ]
    return section


def checking(bench: Bench, full: bool) -> Section:
    """`refreeze.verify`, and a `refreeze.sync` that finds no change, beside the ingest."""
    columns = ["runs", "wall", "cpu", "rss", "list_requests"]
    section = Section(
        "checking", "Comparing a store with its repository, beside ingesting it", columns
    )
    for millions in (1, 10, 100) if full else (1,):
        grid = [bench.steps(millions * 1_000), 10, 100]
        case = f"{prod(grid):,} chunks"
        with Endpoint([dense(grid)]) as endpoint, workspace() as fresh:
            target = {"target": str(fresh())}
            made = Subject("ingest", "refreeze_ingest", {**target, "options": {}})
            section.rows.append(bench.once(endpoint, case, made))
            subjects = [
                Subject("verify", "refreeze_verify", target),
                Subject("sync", "refreeze_sync", target),
            ]
            section.rows += bench.compare(endpoint, case, subjects)
        verified, synced = (section.of(case, tool) for tool in ("verify", "sync"))
        if not (verified["equal"] and synced["unchanged"]):
            raise SystemExit(f"{case}: the repository differs from its source")
        section.ratio("wall", case, "ingest", 1, "wall", tool="verify")
        limit = 150 + 192 * MIB / 1e6
        section.checks.append(
            Check(f"{case}: peak MB", verified["rss"] / 1e6, limit, at_least=False)
        )
    return section


def choices(bench: Bench, _: bool) -> Section:
    """Leave the parts of refreeze out, one at a time."""
    title = "What each design choice brings"
    section = Section("choices", title, ["wall", "cpu", "rss", "list_requests", "manifest_bytes"])
    array = dense([bench.steps(1_000), 10, 100])
    listed = {"array": "store.zarr/t2m"}
    with Endpoint([array], 50) as endpoint:
        subjects = [
            Subject("ranked pages, 64 in flight", "refreeze_list", listed),
            Subject("one page at a time", "refreeze_list", {**listed, "concurrency": 1}, runs=1),
        ]
        section.rows += bench.compare(endpoint, "list 1 M chunks, 50 ms a page", subjects)
    with Endpoint([array]) as endpoint:
        subjects = [
            Subject("own page reader", "refreeze_list", listed),
            Subject(
                "object_store's parser", "refreeze_list", listed, {"REFREEZE_PAGE_PARSER": "xml"}
            ),
        ]
        section.rows += bench.compare(endpoint, "list 1 M chunks, 0 ms a page", subjects)
    ways: dict[str, dict[str, dict[str, Any]]] = {
        "locations": {"relative": {}, "absolute": {"locations": "absolute"}},
        "references a manifest": {
            "250,000": {},
            "1,000,000": {"refs_per_manifest": 1_000_000},
            "25,000": {"refs_per_manifest": 25_000},
        },
    }
    for case, variants in ways.items():
        with Endpoint([array]) as endpoint:
            for name, options in variants.items():
                target = f"s3://bucket/{name.replace(',', '')}"
                arguments = {"target": target, "options": options}
                subject = Subject(name, "refreeze_ingest", arguments)
                row = bench.once(endpoint, f"{case}: ingest 1 M", subject)
                section.rows.append(row)
                arguments = {"target": target, "container": row["container"]}
                subject = Subject(name, "read_first_chunk", arguments)
                section.rows += bench.compare(endpoint, f"{case}: read a chunk", [subject])
    for row in section.rows:
        row.setdefault("manifest_bytes", row.get("get_bytes"))
    section.notes = ["The last column of the rows that read a chunk is what was fetched for it."]
    return section


Scenario = Callable[[Bench, bool], Section]
QUICK: dict[str, Scenario] = {
    "ingest": ingest,
    "listing": listing,
    "parser": parsing,
    "append": append,
    "scale": scale,
}
FULL: dict[str, Scenario] = QUICK | {
    "reading": reading,
    "checking": checking,
    "choices": choices,
}
