"""The loop over regions with VirtualiZarr, xarray and Icechunk, and what else VirtualiZarr does with a region."""

import re
import runpy
import sys
import warnings
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import icechunk
import numpy as np
import pytest
import virtualizarr
import xarray as xr
import zarr
from icechunk import IcechunkError
from obspec_utils.registry import ObjectStoreRegistry

import refreeze
from parser_stores import (
    LAYOUTS,
    OVERSIZED,
    SLASH,
    add_array,
    append_regions,
    new_repository,
    open_repository,
    open_source,
    open_virtual,
    registry_of,
    write_climate,
)

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("loadable", [None, []], ids=["coordinates", "virtual"])
def test_the_loop_gives_the_source(tmp_path, layout, loadable):
    """Values, masks, attributes and coordinates equal the source's, coordinates loaded or referenced."""
    source = write_climate(tmp_path / "climate.zarr", layout)
    repository = new_repository(tmp_path)
    options = {"loadable_variables": loadable}
    rounds = append_regions(repository, source, registry_of(tmp_path), "time", 75, **options)
    assert rounds == 5
    expected = open_source(source)
    assert np.isnan(expected["count"]).any()
    assert np.isnan(expected["t2m"][60]).all()
    xr.testing.assert_identical(open_repository(repository), expected)
    undecoded = {"mask_and_scale": False, "decode_times": False}
    xr.testing.assert_equal(
        open_repository(repository, **undecoded), open_source(source, **undecoded)
    )


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_grids_that_cross_nine_ten_and_a_hundred(tmp_path, layout):
    """A chunk a step and 113 of them: no key is taken for another one, in regions that begin at 7, 14 and so on."""
    group = zarr.open_group(tmp_path / "s.zarr", mode="w", zarr_format=layout.zarr_format)
    data = np.arange(113 * 11, dtype="i4").reshape(113, 11)
    add_array(group, "air", data, (1, 1), ("time", "x"), layout=layout, fill_value=-1)
    repository = new_repository(tmp_path)
    assert append_regions(repository, tmp_path / "s.zarr", registry_of(tmp_path), "time", 77) == 17
    np.testing.assert_array_equal(open_repository(repository)["air"], data)


def test_zarrs_default_fill_values(tmp_path):
    """Version 2 arrays whose fill value is 0 show NaN for it, as xarray shows them in the source."""
    group = zarr.open_group(tmp_path / "s.zarr", mode="w", zarr_format=2)
    for name, dtype in (("f", "f4"), ("i", "i4"), ("c", "c8"), ("b", "bool")):
        add_array(group, name, np.arange(12).astype(dtype), (2,), ("time",), layout=LAYOUTS[0])
    repository = new_repository(tmp_path)
    append_regions(repository, tmp_path / "s.zarr", registry_of(tmp_path), "time", 8)
    expected = open_source(tmp_path / "s.zarr")
    assert np.isnan(expected["f"][0])
    xr.testing.assert_identical(open_repository(repository), expected)


def test_only_dimension_coordinates_and_the_last_round_alone(tmp_path):
    """A store whose last region is less than a chunk: appended after whole ones, it keeps its place."""
    group = zarr.open_group(tmp_path / "s.zarr", mode="w")
    add_array(group, "air", np.arange(50.0), (8,), ("time",), fill_value=np.nan)
    add_array(group, "time", np.arange(50), (50,), ("time",))
    repository = new_repository(tmp_path)
    assert append_regions(repository, tmp_path / "s.zarr", registry_of(tmp_path), "time", 3) == 4
    xr.testing.assert_identical(open_repository(repository), open_source(tmp_path / "s.zarr"))


def test_long_coordinates_are_not_cut_into_many_chunks(tmp_path):
    """A step of one element and 5,000 of them: time comes as one chunk a region, and the loop still works."""
    group = zarr.open_group(tmp_path / "s.zarr", mode="w")
    add_array(group, "air", np.arange(5000, dtype="i4"), (1,), ("time",), fill_value=-1)
    add_array(group, "time", np.arange(5000), (5000,), ("time",))
    url, registry = tmp_path / "s.zarr", registry_of(tmp_path)
    region = {"time": slice(0, 2000)}
    store = refreeze.ZarrParser(region=region)(str(url), registry)
    assert store._group.arrays["time"].metadata.chunks == (2000,)
    repository = new_repository(tmp_path)
    append_regions(repository, url, registry, "time", 2001)
    xr.testing.assert_identical(open_repository(repository), open_source(url))


def test_sharded_arrays_read_right_and_appending_them_fails_loudly(tmp_path):
    """A region of shards reads as in the source; VirtualiZarr's writer refuses the second round with an error."""
    group = zarr.open_group(tmp_path / "s.zarr", mode="w")
    data = np.arange(9 * 4.0).reshape(9, 4)
    add_array(group, "air", data, (1, 2), ("time", "x"), shards=(2, 4), fill_value=np.nan)
    url, registry = tmp_path / "s.zarr", registry_of(tmp_path)
    assert list(refreeze.regions(url, registry, dim="time", max_refs=2))[-1] == {
        "time": slice(8, 9)
    }
    for start in (0, 4, 8):
        region = {"time": slice(start, start + 4)}
        parser = refreeze.ZarrParser(region=region)
        dataset = open_virtual(url, registry, parser, loadable_variables=["air"])
        np.testing.assert_array_equal(dataset["air"], data[start : start + 4])
    repository = new_repository(tmp_path)
    with pytest.raises(IcechunkError, match="invalid chunk index"):
        append_regions(repository, url, registry, "time", 2)
    np.testing.assert_array_equal(open_repository(repository)["air"], data[:4])


def test_scalars_need_the_line_of_the_documentation(tmp_path):
    """Without it VirtualiZarr refuses the second round, by name: nothing is lost in silence."""
    source = write_climate(tmp_path / "s.zarr", SLASH)
    repository, registry = new_repository(tmp_path), registry_of(tmp_path)
    parser = refreeze.ZarrParser(region={"time": slice(0, 6)})
    session = repository.writable_session("main")
    open_virtual(source, registry, parser).vz.to_icechunk(session.store)
    parser = refreeze.ZarrParser(region={"time": slice(6, 12)})
    with pytest.raises(ValueError, match="crs"):
        open_virtual(source, registry, parser).vz.to_icechunk(session.store, append_dim="time")


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_to_icechunk_into_a_region(tmp_path, layout):
    """Regions in any order, written into arrays of the whole shape."""
    source, registry = write_climate(tmp_path / "s.zarr", layout), registry_of(tmp_path)
    repository = new_repository(tmp_path)
    session = repository.writable_session("main")
    open_virtual(source, registry, refreeze.ZarrParser()).vz.to_icechunk(session.store)
    session.commit("all")
    expected = open_repository(repository)
    regions = list(refreeze.regions(source, registry, dim="time", max_refs=75))
    for region in reversed(regions):
        part = open_virtual(source, registry, refreeze.ZarrParser(region=region))
        part = part.drop_vars([n for n, v in part.variables.items() if "time" not in v.dims])
        # Its references are chunks of the region; those of `month` are not, and xarray writes them.
        part = part.drop_vars("month")
        session = repository.writable_session("main")
        part.vz.to_icechunk(session.store, region=region)
        session.commit(str(region))
    xr.testing.assert_identical(open_repository(repository), expected)
    assert len(list(repository.ancestry(branch="main"))) == 2 + len(regions)


def test_to_kerchunk_as_parquet(tmp_path):
    """Region, references and inlined coordinates survive the way through Parquet."""
    source, registry = write_climate(tmp_path / "s.zarr", SLASH), registry_of(tmp_path)
    region = {"time": slice(6, 30)}
    # kerchunk cannot write scalars, whatever parser they come from.
    parser = refreeze.ZarrParser(region=region, skip_variables=["crs"])
    dataset = open_virtual(source, registry, parser)
    refs = tmp_path / "refs.parquet"
    dataset.vz.to_kerchunk(str(refs), format="parquet")
    # Left to itself, fsspec asks any one reference for the protocol, an inlined one as well.
    protocol = {"remote_protocol": "file"}
    back = xr.open_dataset(str(refs), engine="kerchunk", storage_options=protocol)
    expected = open_source(source).isel(**region).drop_vars("crs")
    xr.testing.assert_equal(back.load(), expected)


def test_open_virtual_datatree(tmp_path):
    """A region cuts the arrays of every group that have the dimension."""
    root = zarr.open_group(tmp_path / "s.zarr", mode="w")
    for name in ("", "model", "model/output"):
        group = root.require_group(name) if name else root
        add_array(group, "air", np.arange(12.0) + len(name), (2,), ("time",), fill_value=np.nan)
    add_array(root["model"], "static", np.arange(3.0), (3,), ("x",), fill_value=np.nan)
    parser = refreeze.ZarrParser(region={"time": slice(4, 8)})
    tree = virtualizarr.open_virtual_datatree(
        str(tmp_path / "s.zarr"),
        registry=registry_of(tmp_path),
        parser=parser,
        loadable_variables=[],
    )
    assert tree["model/output/air"].shape == (4,)
    assert tree["model/static"].shape == (3,)
    group = zarr.open_group(parser(str(tmp_path / "s.zarr"), registry_of(tmp_path)), mode="r")
    np.testing.assert_array_equal(
        group["model/output/air"][:], np.arange(4.0, 8) + len("model/output")
    )


@pytest.mark.parametrize("pool", [None, ThreadPoolExecutor, ProcessPoolExecutor])
def test_open_virtual_mfdataset(tmp_path, pool):
    """A parser is sent to workers; regions of several stores are concatenated."""
    for year in (0, 1):
        group = zarr.open_group(tmp_path / f"{year}.zarr", mode="w")
        add_array(group, "air", np.arange(12.0) + 100 * year, (2,), ("time",), fill_value=np.nan)
    urls = [str(tmp_path / f"{year}.zarr") for year in (0, 1)]
    options = {
        "registry": registry_of(tmp_path),
        "parser": refreeze.ZarrParser(region={"time": slice(2, 6)}),
        "concat_dim": "time",
        "combine": "nested",
    }
    if pool is not None:
        options["parallel"] = pool(1) if pool is ThreadPoolExecutor else _forkserver()
    dataset = virtualizarr.open_virtual_mfdataset(urls, **options)
    repository = new_repository(tmp_path)
    session = repository.writable_session("main")
    dataset.vz.to_icechunk(session.store)
    session.commit("both")
    expected = [2.0, 3, 4, 5, 102, 103, 104, 105]
    np.testing.assert_array_equal(open_repository(repository)["air"], expected)


def _forkserver():
    import multiprocessing

    return ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))


def test_the_example(tmp_path, monkeypatch, capsys):
    """`examples/append_loop.py` runs as it stands there and says that the two are equal."""
    monkeypatch.setattr(sys, "argv", ["append_loop.py", str(tmp_path)])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=f".*{OVERSIZED}", category=UserWarning)
        runpy.run_path(str(ROOT / "examples" / "append_loop.py"), run_name="__main__")
    assert re.search(r"identical: True", capsys.readouterr().out)


def test_the_loop_on_s3(s3_bucket):
    """References to objects in a bucket, read back through Icechunk's own client of it."""
    server, bucket = s3_bucket
    store = server.store(bucket)
    group = zarr.open_group(zarr.storage.ObjectStore(store), path="s.zarr", mode="w")
    data = np.arange(1, 106.0).reshape(21, 5)
    add_array(group, "air", data, (2, 5), ("time", "x"), fill_value=np.nan)
    add_array(group, "time", np.arange(21), (21,), ("time",), fill_value=-1)
    prefix = f"s3://{bucket}/"
    client = icechunk.s3_store(
        region=server.region,
        endpoint_url=server.endpoint,
        allow_http=True,
        s3_compatible=True,
        force_path_style=True,
    )
    config = icechunk.RepositoryConfig.default()
    config.set_virtual_chunk_container(icechunk.VirtualChunkContainer(prefix, client))
    credentials = icechunk.s3_credentials(
        access_key_id=server.access_key_id, secret_access_key=server.secret_access_key
    )
    repository = icechunk.Repository.create(
        icechunk.in_memory_storage(),
        config,
        authorize_virtual_chunk_access=icechunk.containers_credentials({prefix: credentials}),
    )
    registry = ObjectStoreRegistry({f"s3://{bucket}": store})
    assert append_regions(repository, f"s3://{bucket}/s.zarr", registry, "time", 5) == 3
    found = open_repository(repository)
    np.testing.assert_array_equal(found["air"], data)
    np.testing.assert_array_equal(found["time"], np.arange(21))
