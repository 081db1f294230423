"""`--probe`: chunks of a web server that cannot be listed, found by asking for every predicted key."""

from __future__ import annotations

import json

import numpy as np
import pytest
import xarray as xr
import zarr
from obstore.store import HTTPStore

import refreeze
from refreeze.exceptions import AccessError, ListingError
from scenarios import run
from web_server import serving

MISSING = {(0, 3), (1, 1), (2, 2), (5, 5), (7, 0), (8, 8), (9, 9)}


def write_store(folder, *, zarr_format=3, consolidated=True):
    """Write an array of 10 x 10 chunks, seven of them missing."""
    root = zarr.open_group(folder, mode="w", zarr_format=zarr_format)
    names = {"dimension_names": ("time", "x")} if zarr_format == 3 else {}
    air = root.create_array(
        "air", shape=(20, 30), chunks=(2, 3), dtype="i4", fill_value=-1, **names
    )
    values = np.arange(600, dtype="i4").reshape(20, 30)
    for row in range(10):
        for column in range(10):
            if (row, column) not in MISSING:
                part = np.s_[2 * row : 2 * row + 2, 3 * column : 3 * column + 3]
                air[part] = values[part]
    if zarr_format == 2:
        air.attrs["_ARRAY_DIMENSIONS"] = ["time", "x"]
    if consolidated:
        zarr.consolidate_metadata(folder, zarr_format=zarr_format)
    return folder


@pytest.fixture
def site(tmp_path):
    """Return a folder to be served, with a store in it."""
    write_store(tmp_path / "www" / "air.zarr")
    return tmp_path / "www"


def test_every_predicted_key_is_asked_for_once(site, tmp_path):
    """100 predicted keys of which 7 are absent: 93 references, 100 requests and the control."""
    with serving(site) as web:
        url = f"{web.url}/air.zarr"
        report = refreeze.ingest(url, tmp_path / "target", probe=True)
        assert report.references_written == 93
        assert report.list_requests == 101
        assert len(web.of_chunks("HEAD")) == 100
        assert len({one.path for one in web.of_chunks("HEAD")}) == 100
        assert len(web.controls()) == 1
        again = refreeze.verify(url, tmp_path / "target", probe=True, sample=5)
        assert again.equal
        assert again.sampled == 5


def test_without_probe_nothing_is_asked_of_chunks(site, tmp_path):
    """An error says what --probe would do, and how many requests that is."""
    with serving(site) as web:
        url = f"{web.url}/air.zarr"
        for verb in (
            lambda: refreeze.ingest(url, tmp_path / "target"),
            lambda: refreeze.plan(url),
            lambda: refreeze.list_chunks(HTTPStore(web.url, client_options=PLAIN), "air.zarr/air"),
        ):
            with pytest.raises(ListingError, match="cannot be listed") as failure:
                verb()
            assert "--probe" in failure.value.hint
            assert "100 requests" in failure.value.hint
        outcome = run("ingest", url, tmp_path / "target")
        assert outcome.code == 1
        assert "--probe" in outcome.err
        assert web.of_chunks() == []
        assert web.controls() == []
    assert not (tmp_path / "target").exists()


PLAIN = {"allow_http": True}


def test_the_printed_lines_open_the_repository(site, tmp_path):
    """References to a web server are read through Icechunk as the command says."""
    expected = xr.open_zarr(site / "air.zarr", consolidated=False)
    with serving(site) as web:
        outcome = run("ingest", f"{web.url}/air.zarr", tmp_path / "target", "--probe")
        assert outcome.code == 0, outcome.err
        lines = outcome.out.partition("Open it:\n")[2]
        assert "HttpAccess" in lines
        names = {}
        exec(lines, names)  # noqa: S102 what the command prints is what is tested
        xr.testing.assert_identical(names["ds"].load(), expected.load())


def test_plan_and_list_say_what_it_takes(site, tmp_path):
    """`plan` counts requests without asking for chunks; `list` has the command line's flag too."""
    with serving(site) as web:
        outcome = run("plan", f"{web.url}/air.zarr", "--probe", "--json")
        planned = json.loads(outcome.out)
        assert planned["arrays"][0]["strategy"] == "probe"
        assert planned["totals"]["list_requests"] == 100
        assert web.of_chunks() == []
        outcome = run("list", f"{web.url}/air.zarr/air", "--probe", "--json")
        listed = json.loads(outcome.out)
        assert (listed["chunks"], listed["stats"]["list_requests"]) == (93, 101)
        region = run("list", f"{web.url}/air.zarr/air", "--probe", "--json", "--region", "time=0:4")
        assert json.loads(region.out)["stats"]["list_requests"] == 21


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_server_that_forbids_what_is_absent(tmp_path, zarr_format):
    """403 counts as absent with --yes only; consolidated metadata is read where zarr cannot."""
    site = tmp_path / "www"
    write_store(site / "air.zarr", zarr_format=zarr_format)
    expected = xr.open_zarr(site / "air.zarr", consolidated=False).load()
    with serving(site, absent=403) as web:
        url = f"{web.url}/air.zarr"
        with pytest.raises(ListingError, match="403") as failure:
            refreeze.ingest(url, tmp_path / "target", probe=True)
        assert "--yes" in failure.value.hint
        assert web.of_chunks() == []
        report = refreeze.ingest(url, tmp_path / "target", probe=True, yes=True)
        assert report.references_written == 93
        found = xr.open_zarr(opened(tmp_path / "target"), consolidated=False)
        xr.testing.assert_identical(found.load(), expected)


def opened(target):
    import icechunk

    storage = icechunk.local_filesystem_storage(str(target))
    config = icechunk.Repository.fetch_config(storage)
    containers = dict.fromkeys(config.virtual_chunk_containers, icechunk.credentials.HttpAccess)
    repository = icechunk.Repository.open(
        storage, authorize_virtual_chunk_access=icechunk.containers_credentials(containers)
    )
    return repository.readonly_session("main").store


@pytest.mark.parametrize("status", [405, 403, 501, 400])
def test_a_server_that_refuses_head(site, tmp_path, status):
    """The first byte is asked for instead."""
    with serving(site, head=status) as web:
        report = refreeze.ingest(f"{web.url}/air.zarr", tmp_path / "target", probe=True)
        assert report.references_written == 93
        assert {one.method for one in web.of_chunks()} == {"GET"}
        assert all(one.headers["range"] == "bytes=0-0" for one in web.of_chunks())
        probes = [one for one in web.of_chunks() if not is_conditional(one)]
        assert len({one.path for one in probes}) == 100
        assert len(web.controls()) == 2


def is_conditional(asked):
    return bool(asked.headers.keys() & {"if-unmodified-since", "if-match"})


@pytest.mark.parametrize(
    "switches",
    [{"throttled": 5}, {"throttled": 5, "retry_after": None}, {"failing": 5}],
    ids=["Retry-After", "429", "500"],
)
def test_a_server_that_is_busy(site, tmp_path, switches):
    """What passes is asked again, after a 429 when Retry-After says; nothing is lost."""
    with serving(site, **switches) as web:
        report = refreeze.ingest(f"{web.url}/air.zarr", tmp_path / "target", probe=True)
        assert report.references_written == 93
        assert report.list_requests == 106


def test_a_server_that_wants_a_day(site, tmp_path):
    """A wait of hours is the user's to decide."""
    with (
        serving(site, throttled=1, retry_after="86400") as web,
        pytest.raises(ListingError, match="86400 s"),
    ):
        refreeze.ingest(f"{web.url}/air.zarr", tmp_path / "second", probe=True)


def test_credentials_stay_with_the_host(site, tmp_path):
    """Redirections are followed; headers and passwords do not go to another host."""
    with (
        serving(site) as other,
        serving(site, redirect=other.url, wanted_header=None) as web,
    ):
        url = f"{web.url}/air.zarr".replace("http://", "http://user:secret-of-mine@")
        report = refreeze.ingest(
            url,
            tmp_path / "target",
            probe=True,
            source_options={"header.X-Api-Key": "key-of-mine"},
        )
        assert report.references_written == 93
        assert {one.headers.get("x-api-key") for one in web.of_chunks("HEAD")} == {"key-of-mine"}
        assert all(
            one.headers["authorization"].startswith("Basic ") for one in web.of_chunks("HEAD")
        )
        for one in other.asked:
            assert not one.headers.keys() & {"x-api-key", "authorization"}


def test_references_lead_through_redirections(site, tmp_path):
    """Icechunk follows them too, and still notices changes."""
    with serving(site) as other, serving(site, redirect=other.url) as web:
        refreeze.ingest(f"{web.url}/air.zarr", tmp_path / "target", probe=True)
        array = zarr.open_array(opened(tmp_path / "target"), path="air", mode="r")
        assert array[0, 0] == 0


def test_headers_are_sent_and_never_kept(site, tmp_path, monkeypatch):
    """`header.NAME` opens a server; neither report, repository nor output shows the value."""
    secret = "token-nobody-may-see"
    with serving(site, wanted_header=("X-Api-Key", secret)) as web:
        url = f"{web.url}/air.zarr"
        with pytest.raises(AccessError, match="401") as failure:
            refreeze.ingest(url, tmp_path / "target", probe=True)
        assert "header.NAME" in failure.value.hint
        arguments = ("ingest", url, tmp_path / "target", "--probe", "--log-level", "debug")
        outcome = run(*arguments, "--source-option", f"header.X-Api-Key={secret}")
        assert outcome.code == 0, outcome.err
        assert secret not in outcome.out + outcome.err
        monkeypatch.setenv("X_API_KEY", secret)
        names = {}
        exec(outcome.out.partition("Open it:\n")[2], names)  # noqa: S102 what the command prints
        assert int(names["ds"]["air"][0, 0]) == 0
    for file in (tmp_path / "target").rglob("*"):
        assert file.is_dir() or secret.encode() not in file.read_bytes()


@pytest.mark.parametrize(
    ("switches", "option"),
    [
        ({"no_time": True}, "--checksum etag"),
        ({"no_time": True, "no_tag": True}, "--checksum none"),
        ({"no_time": True, "weak_tag": True}, "--checksum none"),
        ({"ignored": frozenset({"if-unmodified-since"})}, "--checksum etag"),
        ({"ignored": frozenset({"if-unmodified-since", "if-match"})}, "--checksum none"),
    ],
    ids=["no time", "no time, no tag", "weak tag", "ignores times", "ignores all"],
)
def test_changes_that_nobody_would_notice(site, tmp_path, switches, option):
    """The error names the option that helps, which then does."""
    with serving(site, **switches) as web:
        url = f"{web.url}/air.zarr"
        with pytest.raises(ListingError) as failure:
            refreeze.ingest(url, tmp_path / "target", probe=True)
        assert option in failure.value.hint
        checksum = option.split()[1]
        report = refreeze.ingest(
            url, tmp_path / "target", probe=True, checksum=checksum, restart=True
        )
        assert report.references_written == 93
        assert report.published


@pytest.mark.parametrize("switches", [{"no_length": True}, {"no_range": True}])
def test_what_cannot_be_referenced_is_not(site, tmp_path, switches):
    """Answers without a length, and whole answers to ranges: an error, nothing published."""
    with (
        serving(site, **switches) as web,
        pytest.raises(ListingError, match=r"Content-Length|Range"),
    ):
        refreeze.ingest(f"{web.url}/air.zarr", tmp_path / "target", probe=True)
    import icechunk

    storage = icechunk.local_filesystem_storage(str(tmp_path / "target"))
    if icechunk.Repository.exists(storage):
        repository = icechunk.Repository.open(storage)
        assert len(list(repository.ancestry(branch="main"))) == 1


@pytest.mark.parametrize("switch", ["no_length_of_head", "zero_length_of_head"])
def test_a_length_that_only_get_tells(site, tmp_path, switch):
    """HEAD without a length, or with one of zero for everything, is given up for GET."""
    with serving(site, **{switch: True}) as web:
        report = refreeze.ingest(f"{web.url}/air.zarr", tmp_path / "target", probe=True)
        assert report.references_written == 93


def test_a_server_that_answers_everything(site, tmp_path):
    """One that has an answer to what cannot exist says nothing of what does."""
    page = (200, {}, b"<html>welcome</html>")
    with serving(site) as web:
        web.switches.answer = lambda asked: (
            page
            if not (site / asked.path.strip("/")).is_file() and "list-type" not in asked.query
            else None
        )
        with pytest.raises(ListingError, match="cannot exist"):
            refreeze.ingest(f"{web.url}/air.zarr", tmp_path / "target", probe=True)
        assert web.of_chunks() == []


def test_an_object_that_has_changed_is_noticed(site, tmp_path):
    """A reader of the reference gets an error, not other bytes."""
    import os
    import time

    with serving(site) as web:
        refreeze.ingest(f"{web.url}/air.zarr", tmp_path / "target", probe=True)
        chunk = site / "air.zarr" / "air" / "c" / "0" / "0"
        later = time.time() + 10
        os.utime(chunk, (later, later))
        array = zarr.open_array(opened(tmp_path / "target"), path="air", mode="r")
        with pytest.raises(Exception, match=r"(?i)modified|changed"):
            array[0, 0]
        assert array[0, 3] == 3


def test_the_parser_and_list_chunks_take_an_http_store(site):
    """An HTTPStore of obstore is probed where that is asked for."""
    from obspec_utils.registry import ObjectStoreRegistry
    from virtualizarr import open_virtual_dataset

    with serving(site) as web:
        store = HTTPStore(web.url, client_options=PLAIN)
        stream = refreeze.list_chunks(store, "air.zarr/air", probe=True, paths=True)
        batches = list(stream)
        assert sum(batch.num_rows for batch in batches) == 93
        paths = {path for batch in batches for path in batch["path"].to_pylist()}
        assert "air.zarr/air/c/0/0" in paths
        assert stream.stats.list_requests == 101
        registry = ObjectStoreRegistry({web.url: store})
        url = f"{web.url}/air.zarr"
        with pytest.raises(ListingError, match="cannot be listed"):
            refreeze.ZarrParser()(url, registry)
        parser = refreeze.ZarrParser(probe=True)
        assert eval(repr(parser), {"ZarrParser": refreeze.ZarrParser}) == parser  # noqa: S307
        vds = open_virtual_dataset(url, registry=registry, parser=parser)
        manifest = vds["air"].data.manifest
        assert len(manifest.dict()) == 93
        assert manifest.dict()["0.0"]["path"] == f"{url}/air/c/0/0"


def test_more_than_a_million_need_consent(tmp_path):
    """`plan` counts them and says so; an ingest refuses before it asks for any."""
    site = tmp_path / "www"
    root = zarr.open_group(site / "big.zarr", mode="w")
    root.create_array("air", shape=(1_100, 1_000), chunks=(1, 1), dtype="i1")
    zarr.consolidate_metadata(site / "big.zarr")
    with serving(site) as web:
        url = f"{web.url}/big.zarr"
        planned = refreeze.plan(url, probe=True)
        assert planned.totals.list_requests == 1_100_000
        assert any("--yes" in warning for warning in planned.warnings)
        million = refreeze.plan(url, probe=True, region={"dim_0": slice(0, 1_000)})
        assert million.totals.list_requests == 1_000_000
        assert not any("--yes" in warning for warning in million.warnings)
        with pytest.raises(ListingError, match="1,100,000 requests") as failure:
            refreeze.ingest(url, tmp_path / "target", probe=True)
        assert "--yes" in failure.value.hint
        store = HTTPStore(web.url, client_options=PLAIN)
        with pytest.raises(ListingError, match="1100000 requests"):
            refreeze.list_chunks(store, "big.zarr/air", probe=True)
        assert web.of_chunks() == []


def test_requests_are_spread(site, tmp_path):
    """`max_requests_per_second` is checked, and what it bounds still gets all that is there."""
    with serving(site) as web:
        url = f"{web.url}/air.zarr"
        report = refreeze.ingest(url, tmp_path / "target", probe=True, max_requests_per_second=200)
        assert report.references_written == 93
        assert report.elapsed_s > 100 / 200
        for wrong in (0, -1, float("nan")):
            with pytest.raises(ValueError, match="max_requests_per_second"):
                refreeze.ingest(url, tmp_path / "x", probe=True, max_requests_per_second=wrong)


def test_a_store_without_consolidated_metadata(tmp_path):
    """A group cannot be walked; one of its arrays can be named."""
    site = tmp_path / "www"
    write_store(site / "air.zarr", consolidated=False)
    with serving(site) as web:
        with pytest.raises(ListingError, match="no consolidated metadata"):
            refreeze.ingest(f"{web.url}/air.zarr", tmp_path / "target", probe=True)
        report = refreeze.ingest(f"{web.url}/air.zarr/air", tmp_path / "target", probe=True)
        assert report.references_written == 93


def test_growing_and_changing(site, tmp_path):
    """Append, update and sync ask a web server as an ingest does."""
    target = tmp_path / "target"
    with serving(site) as web:
        url = f"{web.url}/air.zarr"
        refreeze.ingest(url, target, probe=True)
        air = zarr.open_array(site / "air.zarr" / "air")
        air.resize((24, 30))
        air[20:] = 7
        zarr.consolidate_metadata(site / "air.zarr")
        web.asked.clear()
        report = refreeze.ingest(url, target, mode="append", append_dim="time", probe=True)
        assert report.added == 20
        assert len(web.of_chunks("HEAD")) == 20
        (site / "air.zarr" / "air" / "c" / "4" / "4").unlink()
        report = refreeze.ingest(
            url, target, mode="update", region={"time": slice(8, 10)}, probe=True
        )
        assert report.removed == 1
        (site / "air.zarr" / "air" / "c" / "4" / "5").unlink()
        assert refreeze.sync(url, target, probe=True).removed == 1
        assert refreeze.verify(url, target, probe=True).equal


def test_workers_ask_too(site, tmp_path):
    """Processes get what may be asked, and headers beside the plan."""
    with serving(site, wanted_header=("X-Api-Key", "key-of-mine")) as web:
        report = refreeze.ingest(
            f"{web.url}/air.zarr",
            tmp_path / "target",
            probe=True,
            workers=1,
            max_refs_per_commit=40,
            source_options={"header.X-Api-Key": "key-of-mine"},
        )
        assert report.references_written == 93
