"""`refreeze.regions`: aligned to every array's chunks, in order, covering the dimension, within `max_refs`."""

import itertools
import math
import re
import subprocess
import sys

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

import refreeze
from parser_stores import SLASH, add_array, registry_of, write_climate
from refreeze.exceptions import RegionError, SourceNotFoundError


def group_of(*arrays):
    """Make a group in memory of (name, shape, chunks, dimension names)."""
    group = zarr.open_group(zarr.storage.MemoryStore(), mode="w")
    for name, shape, chunks, dims, *shards in arrays:
        options = {"shards": shards[0]} if shards else {}
        add_array(
            group, name, np.broadcast_to(np.int8(0), shape), chunks, dims, write=False, **options
        )
    return group


def bounds(regions, dim="time"):
    found = []
    for region in regions:
        assert set(region) == {dim}
        assert region[dim].step is None
        found.append((region[dim].start, region[dim].stop))
    return found


def test_the_least_common_multiple_of_all_chunk_lengths():
    """4 and 6 go together every 12 steps; 12 steps hold 3 + 2 chunks."""
    group = group_of(("a", (100,), (4,), ["time"]), ("b", (100,), (6,), ["time"]))
    expected = [(start, min(start + 12, 100)) for start in range(0, 100, 12)]
    assert bounds(refreeze.regions(group, dim="time", max_refs=5)) == expected
    assert bounds(refreeze.regions(group, dim="time", max_refs=9)) == expected
    expected = [(start, min(start + 24, 100)) for start in range(0, 100, 24)]
    assert bounds(refreeze.regions(group, dim="time", max_refs=10)) == expected
    assert bounds(refreeze.regions(group, dim="time", max_refs=10**9)) == [(0, 100)]


def test_coordinates_do_not_count_for_alignment():
    """`time` in one chunk, and `month` that an attribute names: regions follow the data."""
    group = group_of(
        ("air", (100, 3), (10, 3), ["time", "x"]),
        ("time", (100,), (100,), ["time"]),
        ("month", (100,), (7,), ["time"]),
    )
    group["air"].attrs["coordinates"] = "month"
    assert bounds(refreeze.regions(group, dim="time", max_refs=4))[:2] == [(0, 10), (10, 20)]


def test_a_one_dimensional_variable_that_is_no_coordinate_counts():
    """Its slices cannot be told from data: 10 and 4 go together every 20 steps."""
    group = group_of(("air", (100,), (10,), ["time"]), ("co2", (100,), (4,), ["time"]))
    assert bounds(refreeze.regions(group, dim="time", max_refs=7))[0] == (0, 20)


def test_a_dimension_of_coordinates_alone():
    """Then they are what there is to align with."""
    group = group_of(("time", (100,), (30,), ["time"]))
    assert bounds(refreeze.regions(group, dim="time", max_refs=1))[-1] == (90, 100)


def test_shards_are_what_is_stored():
    """A shard of 20 steps with chunks of 2 is one reference."""
    group = group_of(("air", (100,), (2,), ["time"], (20,)))
    assert bounds(refreeze.regions(group, dim="time", max_refs=2))[0] == (0, 40)


def test_arrays_without_the_dimension_count_in_every_region():
    """They are taken whole each time: 5 of 6 references are theirs."""
    group = group_of(("air", (40,), (10,), ["time"]), ("map", (5,), (1,), ["x"]))
    assert bounds(refreeze.regions(group, dim="time", max_refs=7)) == [(0, 20), (20, 40)]
    with pytest.raises(RegionError, match="6"):
        refreeze.regions(group, dim="time", max_refs=5)


def test_the_smallest_possible_value_is_stated_and_works():
    """One less is refused, with that number in the message; the error comes at the call."""
    group = group_of(
        ("a", (100, 30), (4, 3), ["time", "x"]),
        ("b", (100, 30), (6, 7), ["time", "x"]),
        ("c", (30,), (7,), ["x"]),
    )
    with pytest.raises(RegionError) as raised:
        refreeze.regions(group, dim="time", max_refs=1)
    smallest = int(re.search(r"set max_refs to (\d+)", str(raised.value))[1])
    assert smallest == 3 * 10 + 2 * 5 + 5
    assert bounds(refreeze.regions(group, dim="time", max_refs=smallest))[0] == (0, 12)
    with pytest.raises(RegionError):
        refreeze.regions(group, dim="time", max_refs=smallest - 1)


def test_a_step_longer_than_the_dimension():
    """365 and 24 do not meet within 100 steps: everything is one region."""
    group = group_of(("a", (100,), (365,), ["time"]), ("b", (100,), (24,), ["time"]))
    assert bounds(refreeze.regions(group, dim="time", max_refs=6)) == [(0, 100)]


def test_an_empty_dimension_has_no_regions():
    """A store that has been created and not yet filled."""
    group = group_of(("a", (0, 4), (5, 2), ["time", "x"]))
    assert bounds(refreeze.regions(group, dim="time", max_refs=1)) == []


def test_it_is_an_iterator():
    """`next` works, and millions of regions are not made at once."""
    group = group_of(("a", (10**12,), (1,), ["time"]))
    regions = refreeze.regions(group, dim="time", max_refs=1)
    assert next(regions) == {"time": slice(0, 1)}
    assert next(regions) == {"time": slice(1, 2)}


def test_an_opened_array_and_dimensions_without_names():
    """A single array; its dimensions are dim_0 and dim_1."""
    array = group_of(("a", (10, 10), (2, 5), None))["a"]
    assert bounds(refreeze.regions(array, dim="dim_0", max_refs=4), "dim_0")[0] == (0, 4)
    assert bounds(refreeze.regions(array, dim="dim_1", max_refs=5), "dim_1") == [(0, 5), (5, 10)]


def test_a_url_a_group_and_skipped_variables(tmp_path):
    """As for an opened group; what the parser leaves out does not count."""
    write_climate(tmp_path / "climate.zarr", SLASH)
    nested = zarr.open_group(tmp_path / "climate.zarr", mode="a").create_group("nested")
    add_array(nested, "air", np.zeros((50, 2)), (25, 2), ("time", "x"))
    registry = registry_of(tmp_path)
    url = str(tmp_path / "climate.zarr")
    options = {"dim": "time", "max_refs": 100}
    opened = zarr.open_group(url, mode="r")
    with pytest.raises(RegionError, match=r"different lengths: 50 in /nested/air, 105 in /"):
        refreeze.regions(url, registry, **options)
    nested = list(refreeze.regions(url, registry, group="nested", dim="time", max_refs=1))
    assert bounds(nested) == [(0, 25), (25, 50)]
    assert bounds(refreeze.regions(opened["nested"], dim="time", max_refs=1)) == bounds(nested)
    assert bounds(refreeze.regions(opened, group="nested", dim="time", max_refs=1)) == bounds(
        nested
    )
    skipping = {"skip_variables": ["nested/*", "t2m", "pressure"], "dim": "time", "max_refs": 8}
    assert bounds(refreeze.regions(url, registry, **skipping))[0] == (0, 3)
    assert bounds(refreeze.regions(opened, **skipping))[0] == (0, 3)


def test_wrong_arguments(tmp_path):
    """Types and values are looked at before any store is."""
    group = group_of(("a", (10,), (2,), ["time"]))
    with pytest.raises(RegionError, match="no array has the dimension lat\nhint: dimensions: time"):
        refreeze.regions(group, dim="lat", max_refs=1)
    with pytest.raises(TypeError, match="dim"):
        refreeze.regions(group, dim=0, max_refs=1)
    for wrong in (1.5, "9", True, None):
        with pytest.raises(TypeError, match="max_refs"):
            refreeze.regions(group, dim="time", max_refs=wrong)
    with pytest.raises(ValueError, match="at least 1"):
        refreeze.regions(group, dim="time", max_refs=0)
    with pytest.raises(TypeError, match="registry"):
        refreeze.regions(str(tmp_path), dim="time", max_refs=1)
    with pytest.raises(TypeError, match="needs no registry"):
        refreeze.regions(group, registry_of(tmp_path), dim="time", max_refs=1)
    with pytest.raises(SourceNotFoundError):
        refreeze.regions(str(tmp_path / "absent"), registry_of(tmp_path), dim="time", max_refs=1)


@given(
    length=st.integers(1, 60),
    arrays=st.lists(
        st.tuples(st.integers(1, 8), st.integers(1, 9), st.integers(1, 4)), min_size=1, max_size=3
    ),
    max_refs=st.integers(1, 200),
)
def test_against_counting(length, arrays, max_refs):
    """Aligned, in order, covering, bounded; and refused only when a single step is too much."""
    group = group_of(
        *(
            (f"a{i}", (length, other), (chunk, part), ["time", f"x{i}"])
            for i, (chunk, other, part) in enumerate(arrays)
        ),
        ("time", (length,), (length,), ["time"]),
    )
    step = math.lcm(*(chunk for chunk, _, _ in arrays))

    def references(start, stop):
        """Count the chunks that the region touches, one by one."""
        return 1 + sum(
            len(
                {
                    (t // chunk, x // part)
                    for t, x in itertools.product(range(start, stop), range(other))
                }
            )
            for chunk, other, part in arrays
        )

    try:
        found = bounds(refreeze.regions(group, dim="time", max_refs=max_refs))
    except RegionError:
        assert references(0, min(step, length)) > max_refs
        return
    assert [start for start, _ in found] == [0, *(stop for _, stop in found[:-1])]
    assert found[-1][1] == length
    for start, stop in found:
        assert start % step == 0
        assert stop % step == 0 or stop == length
        assert references(start, stop) <= max_refs
    if len(found) > 1:
        # No longer ones were possible.
        longer = min(found[0][1] + step, length)
        assert references(0, longer) > max_refs


def test_regions_is_the_function_after_its_module_was_imported():
    """The submodule of the same name does not take the function's place."""
    code = "import refreeze.metadata.region, refreeze; assert callable(refreeze.regions), refreeze.regions"
    subprocess.run([sys.executable, "-c", code], check=True)
