"""The modes on the command line and in the examples; which arguments go together; units."""

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

import refreeze
from modes_for_tests import grow, rewrite, write
from refreeze.exceptions import MismatchError
from refreeze.metadata.chunk_codec import decoded_values, encoded_chunks
from refreeze.metadata.time_units import in_units_of
from refreeze.planning.dispatch import several
from scenarios import cli

EXAMPLES = Path(__file__).parents[2] / "examples"


# -- arguments ------------------------------------------------------------------------------------

REGION = {"time": slice(0, 12)}


@pytest.mark.parametrize(
    ("options", "error", "named"),
    [
        ({"mode": "update"}, ValueError, "region"),
        ({"mode": "append"}, ValueError, "append_dim"),
        ({"mode": "replace"}, ValueError, "known: create, append, overwrite, update"),
        ({"append_dim": "time"}, ValueError, "mode append"),
        ({"mode": "append", "append_dim": "a", "concat_dim": "b"}, ValueError, "give one"),
        ({"mode": "update", "region": REGION, "concat_dim": "time"}, ValueError, "concat_dim"),
        ({"mode": "append", "append_dim": "time", "source": ["a", "b"]}, ValueError, "concat_dim"),
        ({"mode": "update", "region": REGION, "source": ["a", "b"]}, ValueError, "one source"),
        ({"source": []}, ValueError, "empty"),
        ({"source": ["a", 5]}, TypeError, "int"),
        ({"source": [("a", "b")]}, TypeError, "tuple"),
        ({"mode": 5}, TypeError, "mode"),
        ({"mode": "append", "append_dim": 5}, TypeError, "append_dim"),
        ({"concat_dim": ["time"]}, TypeError, "concat_dim"),
        ({"region": {"time": 5}}, TypeError, "slice"),
        ({"region": {"time": slice("a", 5)}}, TypeError, "start"),
        ({"region": [("time", slice(0, 5))]}, TypeError, "maps"),
        ({"region": {}}, ValueError, "no dimension"),
        ({"dry_run": 1}, TypeError, "dry_run"),
    ],
    ids=str,
)
def test_arguments_that_do_not_go_together(tmp_path, options, error, named):
    """Refused by type or value, before anything is read."""
    options = {"source": tmp_path / "nothing"} | options
    with pytest.raises(error, match=named):
        refreeze.ingest(options.pop("source"), tmp_path / "target", **options)


def test_one_source_or_several():
    """A pair of a store and a path is one; a list or tuple of anything else is several."""
    from obstore.store import MemoryStore

    store = MemoryStore()
    assert several("a") == ["a"]
    assert several((store, "a")) == [(store, "a")]
    assert several(("a", "b")) == several(["a", "b"]) == ["a", "b"]
    assert several([(store, "a")]) == [(store, "a")]
    assert several(((store, "a"), (store, "b"))) == [(store, "a"), (store, "b")]
    assert several((Path("a"), Path("b"))) == [Path("a"), Path("b")]


# -- units and chunks -----------------------------------------------------------------------------


@given(
    days=st.lists(st.integers(-100_000, 100_000), min_size=1, max_size=5),
    shift=st.integers(-10_000, 10_000),
    calendar=st.sampled_from([None, "standard", "noleap", "360_day", "proleptic_gregorian"]),
    dtype=st.sampled_from(["i4", "i8", "f8"]),
)
def test_units_are_converted_exactly(days, shift, calendar, dtype):
    """Days since one date are days since another, in every calendar."""
    pytest.importorskip("cftime")
    import cftime

    begin = cftime.datetime(2000, 1, 1, calendar=calendar or "standard")
    other = cftime.num2date(shift, "days since 2000-01-01", calendar or "standard")
    given_units, wanted = (
        {"units": f"days since {date.strftime('%Y-%m-%d')}"}
        | ({"calendar": calendar} if calendar else {})
        for date in (other, begin)
    )
    values = np.array(days, dtype)
    converted = in_units_of(values, given_units, wanted, where="array /time of a.zarr")
    assert converted.dtype == values.dtype
    np.testing.assert_array_equal(converted, values + shift)


def test_units_of_times_that_are_far_apart():
    """Further than nanoseconds in 64 bits reach, although each of them is a date."""
    units = [{"units": f"days since 2000-01-0{day}"} for day in (2, 1)]
    for dtype in ("i4", "f8"):
        days = np.array([6752, -100_000], dtype)
        np.testing.assert_array_equal(in_units_of(days, *units, where="x"), days + 1)
    with pytest.raises(MismatchError, match="exactly"):
        in_units_of(np.array([6752.3, -100_000]), *units, where="x")


@pytest.mark.parametrize(
    ("of", "to", "shift"),
    [
        ("hours since 2024-01-11 00:00:00", "hours since 2024-01-01 00:00:00", 240),
        ("hours since 2024-01-01T12:00:00", "Hours since 2024-1-1", 12),
        ("hour since 2024-01-02", "hours since 2024-01-01 00:00", 24),
    ],
)
def test_units_that_xarray_spells_otherwise(of, to, shift):
    """Regression: "hours since 2024-01-01 00:00:00" was called too coarse for hours."""
    values = np.array([0, 5], "i8")
    converted = in_units_of(values, {"units": of}, {"units": to}, where="x")
    np.testing.assert_array_equal(converted, values + shift)


def test_missing_values_stay_missing():
    """A number that is masked is not a time."""
    units = [{"units": f"days since {year}-01-01", "_FillValue": -9} for year in (2001, 2000)]
    converted = in_units_of(np.array([0, -9, 2]), *units, where="x")
    np.testing.assert_array_equal(converted, [366, -9, 368])
    with pytest.raises(MismatchError, match="missing"):
        in_units_of(np.array([-9]), units[0], {"units": units[1]["units"]}, where="x")


@pytest.mark.parametrize(
    ("values", "of", "to"),
    [
        (np.array([1], "i8"), "hours since 2000-01-01", "days since 2000-01-01"),
        (np.array([100], "i1"), "days since 2001-01-01", "days since 2000-01-01"),
        (np.array([0.1], "f4"), "days since 2001-01-01", "days since 1700-01-01"),
        (np.array([1.0]), "m", "km"),
        (np.array([1]), "days since 2000-13-01", "days since 2000-01-01"),
    ],
    ids=str,
)
def test_what_cannot_be_exact_is_refused(values, of, to):
    """By array and store, with both units."""
    with pytest.raises(MismatchError) as raised:
        in_units_of(values, {"units": of}, {"units": to}, where="array /time of a.zarr")
    for named in ("array /time of a.zarr", of, to):
        assert named in str(raised.value)


@given(shape=st.lists(st.integers(1, 7), max_size=3), data=st.data())
def test_chunks_and_back(shape, data):
    """Values survive encoding, in chunks and in shards; chunks of fill values are left out."""
    chunks = [data.draw(st.integers(1, 4)) for _ in shape]
    shards = data.draw(st.sampled_from([None, [2 * chunk for chunk in chunks]]))
    array = zarr.create_array(
        {}, shape=shape, chunks=chunks or "auto", shards=shards if shape else None, dtype="i4"
    )
    document = json.dumps(array.metadata.to_dict()).encode()
    values = np.arange(np.prod(shape, dtype=int), dtype="i4").reshape(shape)
    encoded = encoded_chunks(document, values)
    assert all(len(at) == len(shape) for at in encoded)
    np.testing.assert_array_equal(decoded_values(document, encoded), values)
    assert encoded_chunks(document, np.zeros_like(values)) == {}


# -- the command line -----------------------------------------------------------------------------


def test_append_on_the_command_line(tmp_path, capsys):
    """Dry run, append, nothing new: in words and as JSON."""
    store, target = write(tmp_path / "a.zarr", 0, 12), tmp_path / "repo"
    assert cli(capsys, "ingest", store, target, "--dry-run").code == 0
    assert not target.exists()
    assert cli(capsys, "ingest", store, target).code == 0
    grow(store, 0, 12, 14)
    command = ("ingest", store, target, "--mode", "append", "--append-dim", "time")
    dry = cli(capsys, *command, "--dry-run")
    assert (dry.code, "LIST request" in dry.out) == (0, True)
    document = cli(capsys, *command, "--dry-run", "--json").document
    assert set(document) == {"arrays", "estimate", "totals", "warnings"}
    done = cli(capsys, *command)
    assert (done.code, "Appended" in done.out, "Open it" in done.out) == (0, True, True)
    again = cli(capsys, *command)
    assert (again.code, "Nothing new" in again.out) == (0, True)
    assert "nothing is new" in again.err
    report = cli(capsys, *command, "--json").document
    assert (report["commits"], report["mode"], report["added"]) == (0, "append", 0)


def test_several_sources_on_the_command_line(tmp_path, capsys):
    """They follow each other along `--concat-dim`; the lines that open the result name them all."""
    stores = [write(tmp_path / f"{n}.zarr", 12 * n, 12 * n + 12) for n in range(3)]
    target = tmp_path / "repo"
    done = cli(capsys, "ingest", *stores[:2], target, "--concat-dim", "time")
    assert done.code == 0
    lines = done.out.partition("Open it:\n")[2]
    scope: dict = {}
    exec(lines, scope)  # noqa: S102 what a user would paste
    assert scope["ds"].sizes["time"] == 24
    assert float(scope["ds"]["air"].sum()) > 0
    more = cli(
        capsys, "ingest", stores[2], target, "--mode", "append", "--concat-dim", "time", "--json"
    )
    assert more.code == 0
    assert more.document["sources"] == [str(stores[2])]


def test_overwrite_on_the_command_line(tmp_path, capsys):
    """The former snapshot is named, and the line that goes back to it works."""
    target = tmp_path / "repo"
    first = cli(capsys, "ingest", write(tmp_path / "a.zarr", 0, 12), target, "--json").document
    store = write(tmp_path / "b.zarr", 0, 24)
    done = cli(capsys, "ingest", store, target, "--mode", "overwrite", "--region", "time=0:12")
    assert done.code == 0
    assert first["snapshot_id"] in done.out
    scope: dict = {}
    exec(done.out.partition("Open it:\n")[2], scope)  # noqa: S102 what a user would paste
    line = next(line for line in done.out.splitlines() if "reset_branch" in line)
    exec(line.partition("as below: ")[2], scope)  # noqa: S102 as above
    assert scope["repo"].lookup_branch("main") == first["snapshot_id"]


def test_update_on_the_command_line(tmp_path, capsys):
    """Figures in words; without a region it is wrong usage."""
    store, target = write(tmp_path / "a.zarr", 0, 12), tmp_path / "repo"
    cli(capsys, "ingest", store, target)
    rewrite(store, "air", slice(0, 3), 5.0)
    done = cli(capsys, "ingest", store, target, "--mode", "update", "--region", "time=0:12")
    assert done.code == 0
    assert "0 references added, 2 changed, 0 removed" in done.out
    wrong = cli(capsys, "ingest", store, target, "--mode", "update")
    assert (wrong.code, "region" in wrong.err) == (2, True)
    missing = cli(
        capsys,
        "ingest",
        store,
        tmp_path / "x",
        "--mode",
        "update",
        "--region",
        "time=0:1",
        "--json",
    )
    assert missing.code == 1
    assert missing.document["error"]["type"] == "TargetNotFoundError"


# -- examples -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("append", ["day 14: ", "commits when nothing is new: 0", "identical: True"]),
        ("concatenate", ["(1095, 4)", "containers: 2", "identical: True"]),
        ("overwrite", ["readers see 2.0", "after going back they see 1.0"]),
        ("update", ["1 added, 1 changed, 1 removed", "identical: True"]),
    ],
)
def test_the_examples(tmp_path, monkeypatch, capsys, name, said):
    """They run as they stand there."""
    monkeypatch.setattr(sys, "argv", [f"{name}.py", str(tmp_path)])
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    printed = capsys.readouterr().out
    for text in said:
        assert text in printed
