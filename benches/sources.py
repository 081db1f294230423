"""Stores of other kinds: services that list in their own way, many small arrays, local disk."""

from __future__ import annotations

from math import prod

from comparisons import ingests
from harness import Bench, Endpoint, Subject, chunk_files, dense
from limits import least_seconds
from sections import Check, Section, limit, workspace


def clouds(bench: Bench, full: bool) -> Section:
    """Google Cloud Storage and Azure, as the endpoint models them: listing and ingest.

    Pages are of 5,000 keys where the service gives as many: Google's JSON API, and Azure.
    """
    columns = ["runs", "wall", "cpu", "us_per_key", "rss", "list_requests"]
    title = "Google Cloud Storage and Azure, as the endpoint models them"
    section = Section("clouds", title, columns)
    array = dense([bench.steps(1_000), 10, 100])
    chunks = prod(array["grid"])
    services = {"S3": "s3", "Google": "gs", "Azure": "az"}
    for latency in (0, 50):
        for service, scheme in services.items():
            case = f"{service}: list {chunks:,} chunks, {latency} ms a page"
            arguments = {"array": "store.zarr/t2m", "scheme": scheme}
            subjects = [Subject("refreeze", "refreeze_list", arguments)]
            if latency:
                subjects.append(Subject("obstore", "obstore_list", arguments, runs=1))
            with Endpoint([array], latency, page_size=5_000) as endpoint:
                section.rows += bench.compare(endpoint, case, subjects)
            if latency:
                section.ratio("wall", case, "obstore", 1, "wall")
    rows = {row["case"].partition(":")[0]: row for row in section.rows[: len(services)]}
    for service, most in (("Google", 1.5), ("Azure", 3)):
        ratio = rows[service]["us_per_key"] / rows["S3"]["us_per_key"]
        what = f"{service}: CPU a key, against S3"
        section.checks.append(Check(what, ratio, most, at_least=False))
    for service, least in (("Google", 40), ("Azure", 25)):
        case = f"{service}: ingest {chunks:,} chunks, 50 ms a page"
        with Endpoint([array], 50, page_size=5_000) as endpoint:
            runs = None if full else 1
            section.rows += ingests(bench, endpoint, case, runs, services[service])
        refreeze, other = (section.of(case, tool) for tool in ("refreeze", "VirtualiZarr"))
        if not refreeze["references"] == other["references"] == chunks:
            raise SystemExit(f"{case}: references are missing")
        section.ratio("wall", case, "VirtualiZarr", least, "wall")
    for row in section.rows:
        row.setdefault("us_per_key", None)
    return section


def many_arrays(bench: Bench, _: bool) -> Section:
    """Many small arrays in many groups, as of a plate: documents, listings and reads in parallel."""
    columns = ["runs", "wall", "cpu", "rss", "requests_per_array", "commits", "limit_s", "share"]
    section = Section("many", "Ten thousand arrays of 16 chunks in 200 groups", columns)
    count = bench.steps(10_000)
    groups = max(2, count // 50)
    arrays = [
        dense([4, 2, 2], f"store.zarr/g{number % groups:03}/a{number // groups:03}")
        for number in range(count)
    ]
    # One workspace: ext4 is slow for a minute where many files were deleted.
    with workspace() as fresh:
        for latency, seconds in ((0, None), (50, 20)):
            case = f"{count:,} arrays, {latency} ms a request"
            target = fresh()
            subject = Subject("refreeze", "refreeze_ingest", {"target": str(target), "options": {}})
            with Endpoint(arrays, latency, groups=["store.zarr"]) as endpoint:
                endpoint.set(object_latency_ms=latency)
                row = bench.once(endpoint, case, subject)
                asked = endpoint.stats()
                requests = asked["list"] + asked["get"] + asked["head"]
                limit(row, least_seconds(endpoint, requests, target))
            row["requests_per_array"] = requests / count
            section.rows.append(row)
            for what, value, most in (
                ("requests an array", row["requests_per_array"], 2.2),
                ("commits", row["commits"], 3),
            ):
                section.checks.append(Check(f"{case}: {what}", value, most, at_least=False))
            if seconds is not None:
                section.checks.append(Check(f"{case}: wall", row["wall"], seconds, at_least=False))
    section.notes = [
        (
            "Requests are those to the source: a document and a reference that is read back of each "
            "array, and pages that several share. The repository is on local disk."
        )
    ]
    return section


def files(bench: Bench, _: bool) -> Section:
    """Local stores of a million files, beside `find`, which looks at the same files."""
    columns = ["runs", "wall", "cpu", "rss", "limit_s", "share"]
    title = "A million files on local disk: listing and ingest, beside `find DIR -printf '%s %T@'`"
    section = Section("files", title, columns)
    leading = bench.steps(1_000)
    for case, separator in (("in nested folders", "/"), ("in one folder", ".")):
        named = f"{leading * 1_000:,} files {case}"
        with workspace() as fresh, Endpoint([]) as endpoint:
            store = fresh()
            chunk_files(store, (leading, 1_000), separator)
            found = {"folder": str(store)}
            subjects = [
                Subject("find", "find_files", found),
                Subject("refreeze list", "refreeze_list_folder", found),
            ]
            section.rows += bench.compare(endpoint, named, subjects)
            made = {**found, "target": str(fresh())}
            ingested = Subject("refreeze ingest", "refreeze_ingest_folder", made)
            section.rows.append(bench.once(endpoint, named, ingested))
        find = section.of(named, "find")["wall"]
        for tool in ("find", "refreeze list", "refreeze ingest"):
            limit(section.of(named, tool), find)
        for tool in ("refreeze list", "refreeze ingest"):
            ratio = section.of(named, tool)["wall"] / find
            what = f"{named}: wall of {tool} over that of find"
            section.checks.append(Check(what, ratio, 3, at_least=False))
    return section
