"""What becomes of the attributes of groups and arrays in every mode; `docs/attributes.md` says the same."""

import numpy as np
import pytest
import zarr

import refreeze
from refreeze.exceptions import ConflictError, MismatchError
from scenarios import foreign_commit, group, local_repository

DAYS = "days since 2000-01-01"


def write(folder, start, stop, *, title, long_name="temperature", units=DAYS, nested=True):
    """Write a store of `time`, `air` and `nested/deep`, whose attributes say which one it is."""
    root = zarr.open_group(folder, mode="w", zarr_format=3, attributes={"title": title, title: 1})
    for name, values, attributes in (
        ("time", np.arange(start, stop), {"units": units, "standard_name": "time"}),
        ("air", np.arange(start, stop) + 0.5, {"long_name": long_name}),
    ):
        array = root.create_array(
            name,
            shape=values.shape,
            chunks=(3,),
            dtype=values.dtype,
            dimension_names=("time",),
            attributes=attributes,
        )
        array[:] = values
    if nested:
        below = root.create_group("nested", attributes={"title": title})
        below.create_array("deep", data=np.arange(4.0), chunks=(2,))
    return folder


@pytest.fixture
def target(tmp_path):
    return tmp_path / "target.icechunk"


@pytest.fixture
def first(tmp_path, target):
    """Return a store that has been ingested."""
    source = write(tmp_path / "first.zarr", 0, 6, title="first")
    refreeze.ingest(source, target)
    return source


@pytest.fixture
def second(tmp_path):
    return write(tmp_path / "second.zarr", 6, 12, title="second", long_name="other")


def attributes(target, path=""):
    return dict(group(local_repository(target), path=path).attrs)


def array_attributes(target, path):
    return dict(group(local_repository(target))[path].attrs)


def told(report, what):
    return [text for text in report.warnings if what in text]


# -- overwrite ------------------------------------------------------------------------------------


def test_overwrite_replaces_those_of_groups(target, first, second):
    """Regression: those of the target group stayed. In one publication, and history keeps the old ones."""
    base = local_repository(target).lookup_branch("main")
    seen = []
    report = refreeze.ingest(
        second,
        target,
        mode="overwrite",
        progress=lambda event: seen.append((event["stage"], attributes(target))),
    )
    assert attributes(target) == {"title": "second", "second": 1}
    assert attributes(target, "nested") == {"title": "second"}
    assert array_attributes(target, "air") == {"long_name": "other"}
    assert not told(report, "attributes")
    before = [found for stage, found in seen if stage != "done"]
    assert before == [{"title": "first", "first": 1}] * len(before)
    assert report.previous_snapshot_id == base
    old = local_repository(target).readonly_session(snapshot_id=base).store
    assert dict(zarr.open_group(old, mode="r").attrs) == {"title": "first", "first": 1}


def test_overwrite_of_a_group_leaves_its_parents(target, first, second):
    """Only what is at the target group, and below it, is replaced."""
    refreeze.ingest(second, target, target_group="nested", mode="overwrite")
    assert attributes(target) == {"title": "first", "first": 1}
    assert attributes(target, "nested") == {"title": "second", "second": 1}
    assert attributes(target, "nested/nested") == {"title": "second"}
    assert "deep" not in group(local_repository(target), path="nested")


@pytest.mark.parametrize(
    "selection", [{"arrays": ["air"]}, {"skip_variables": ["time"]}], ids=["array", "skip"]
)
def test_overwrite_of_arrays_keeps_those_of_groups(target, first, second, selection):
    """With a warning where they differ; those of the arrays are replaced."""
    report = refreeze.ingest(second, target, mode="overwrite", **selection)
    assert attributes(target) == {"title": "first", "first": 1}
    assert told(report, "group / has other attributes")
    assert array_attributes(target, "air") == {"long_name": "other"}
    assert array_attributes(target, "time")["standard_name"] == "time"
    if "skip_variables" in selection:
        assert attributes(target, "nested") == {"title": "first"}
        assert told(report, "group /nested has other attributes")
    again = refreeze.ingest(first, target, mode="overwrite", **selection)
    assert not told(again, "other attributes")


def test_overwrite_is_kept_by_a_rebase(target, first, second):
    """The new attributes are published with the arrays, on a tip that has moved too."""
    refreeze.ingest(second, target, target_group="nested", mode="overwrite", no_publish=True)
    assert attributes(target, "nested") == {"title": "first"}
    foreign_commit(target)
    assert refreeze.publish(target, rebase=True).rebased
    assert attributes(target, "nested") == {"title": "second", "second": 1}


def test_overwrite_conflicts_with_other_attributes(target, first, second):
    """Attributes that somebody else has written meanwhile are not overwritten unseen."""
    refreeze.ingest(second, target, mode="overwrite", no_publish=True)
    session = local_repository(target).writable_session("main")
    zarr.open_group(session.store, mode="a").attrs["by"] = "them"
    session.commit("attributes")
    with pytest.raises(ConflictError):
        refreeze.publish(target, rebase=True)
    assert attributes(target)["by"] == "them"


def test_overwrite_of_an_array_by_a_group(tmp_path, target, first, second):
    """And of a group by an array: what stood at the path is gone."""
    refreeze.ingest(second, target, target_group="air", mode="overwrite")
    assert attributes(target, "air") == {"title": "second", "second": 1}
    source = tmp_path / "arrays.zarr"
    zarr.open_group(source, mode="w").create_array("air", data=np.arange(5.0), chunks=(2,))
    refreeze.ingest(source, target, arrays=["air"], mode="overwrite")
    np.testing.assert_array_equal(group(local_repository(target))["air"][:], np.arange(5.0))
    assert attributes(target) == {"title": "first", "first": 1}


# -- the other modes ------------------------------------------------------------------------------


def test_create_in_a_group_that_is_there(tmp_path, target, first):
    """The group keeps its attributes, with a warning; new groups and arrays bring their own."""
    source = write(tmp_path / "more.zarr", 0, 6, title="more", nested=False)
    zarr.open_group(source, mode="a").create_group("fresh", attributes={"a": 1})
    for name in ("time", "air"):
        (source / name).rename(source / f"more_{name}")
    report = refreeze.ingest(source, target)
    assert attributes(target) == {"title": "first", "first": 1}
    assert told(report, "group / has other attributes")
    assert attributes(target, "fresh") == {"a": 1}
    assert array_attributes(target, "more_air") == {"long_name": "temperature"}


def test_sources_that_are_merged_or_follow_each_other(tmp_path, target, second):
    """The first one's count, with a warning that names what differs."""
    source = write(tmp_path / "first.zarr", 0, 6, title="first")
    report = refreeze.ingest([source, second], target, concat_dim="time")
    assert attributes(target) == {"title": "first", "first": 1}
    assert attributes(target, "nested") == {"title": "first"}
    assert told(report, "group /: the attributes of")
    assert array_attributes(target, "air") == {"long_name": "temperature"}
    assert told(report, "array /air of")
    more = write(tmp_path / "more.zarr", 0, 6, title="more", nested=False)
    for name in ("time", "air"):
        (more / name).rename(more / f"more_{name}")
    report = refreeze.ingest([source, more], tmp_path / "merged.icechunk")
    assert attributes(tmp_path / "merged.icechunk") == {"title": "first", "first": 1}
    assert told(report, "group /: the attributes of")


def grow(source):
    """Append to a store, and give it other attributes."""
    root = zarr.open_group(source, mode="a")
    for name in ("time", "air"):
        root[name].resize((9,))
        root[name][6:] = np.arange(6, 9)
    root.attrs["title"] = "grown"
    root["air"].attrs["long_name"] = "grown"


def test_append_keeps_those_of_the_target(target, first):
    """Those of arrays with a warning where they differ; groups are not looked at."""
    grow(first)
    report = refreeze.ingest(first, target, mode="append", append_dim="time")
    assert group(local_repository(target))["air"].shape == (9,)
    assert attributes(target) == {"title": "first", "first": 1}
    assert array_attributes(target, "air") == {"long_name": "temperature"}
    assert told(report, "array /air of")


def test_appending_another_store_keeps_those_of_the_target(target, first, second):
    """As when the recorded source has grown."""
    report = refreeze.ingest(
        second, target, mode="append", concat_dim="time", skip_variables=["deep"]
    )
    assert attributes(target) == {"title": "first", "first": 1}
    assert array_attributes(target, "air") == {"long_name": "temperature"}
    assert told(report, "array /air of")


def test_update_keeps_those_of_the_target(target, first):
    """Also where the source has others by now."""
    root = zarr.open_group(first, mode="a")
    root["air"][:3] = 9
    root.attrs["title"] = "updated"
    root["air"].attrs["long_name"] = "updated"
    report = refreeze.ingest(first, target, mode="update", region={"time": slice(0, 3)})
    assert group(local_repository(target))["air"][:3].tolist() == [9, 9, 9]
    assert attributes(target) == {"title": "first", "first": 1}
    assert array_attributes(target, "air") == {"long_name": "temperature"}
    assert told(report, "array /air of")


@pytest.mark.parametrize(
    "options",
    [
        {"mode": "append", "append_dim": "time"},
        {"mode": "update", "region": {"time": slice(0, 3)}},
    ],
    ids=["append", "update"],
)
def test_attributes_that_change_numbers_are_refused(target, first, options):
    """Of referenced arrays; those of copied coordinates are converted instead."""
    grow(first)
    zarr.open_group(first, mode="a")["air"].attrs["scale_factor"] = 0.5
    with pytest.raises(MismatchError, match="scale_factor"):
        refreeze.ingest(first, target, **options)
    assert array_attributes(target, "air") == {"long_name": "temperature"}


def test_units_of_a_coordinate_are_converted(tmp_path, target, first):
    """The target keeps its units and gets the other store's values in them."""
    later = write(
        tmp_path / "later.zarr", 0, 6, title="later", units="days since 2000-01-07", nested=False
    )
    refreeze.ingest(later, target, mode="append", concat_dim="time")
    time = group(local_repository(target))["time"]
    assert time.attrs["units"] == DAYS
    assert time[:].tolist() == list(range(12))
