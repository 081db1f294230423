"""The options of an ingest stand in one list; plan and dry run are one path."""

import inspect

import numpy as np
import pytest
import zarr

import refreeze
from refreeze.cli.ingest import ingest as command_ingest
from refreeze.cli.plan import plan as command_plan
from refreeze.planning.options import IngestArguments, IngestOptions
from refreeze.planning.preparation import prepared
from scenarios import run

OF_CREWS = {"executor", "client", "workers", "wait_for_workers", "dask", "scheduler_file"}
NOT_OF_PLANS = {"dry_run", "progress", *OF_CREWS}
CALLED_OTHERWISE = {
    "format_": "format",
    "array": "arrays",
    "skip": "skip_variables",
    "load": "loadable_variables",
    "listing_option": "listing_options",
    "source_option": "source_options",
    "target_option": "target_options",
}
OF_COMMANDS = {"paths", "as_json", "quiet", "log_level", "version", "dry_run", "output", *OF_CREWS}


def options_of(function):
    parameters = inspect.signature(function).parameters.values()
    return {one.name: one.default for one in parameters if one.kind is one.KEYWORD_ONLY}


def test_one_list_of_options():
    """Python's signature, the command line's and the list have the same names and defaults."""
    fields = IngestArguments.__dataclass_fields__
    listed = {name: field.default for name, field in fields.items()}
    of_python = options_of(refreeze.ingest)
    assert {name: of_python[name] for name in of_python if name not in NOT_OF_PLANS} == listed
    for function in (command_ingest, command_plan):
        parameters = inspect.signature(function).parameters
        names = {CALLED_OTHERWISE.get(name, name) for name in parameters} - OF_COMMANDS
        assert names == set(listed)
        for name, parameter in parameters.items():
            if name not in OF_COMMANDS:
                default = getattr(parameter.default, "value", parameter.default)
                assert default == listed[CALLED_OTHERWISE.get(name, name)], name


@pytest.fixture
def source(tmp_path):
    root = zarr.open_group(tmp_path / "air.zarr", mode="w")
    air = root.create_array(
        "air", shape=(24, 4), chunks=(2, 4), dtype="f4", dimension_names=("time", "x")
    )
    air[:] = 1
    time = root.create_array(
        "time", shape=(24,), chunks=(12,), dtype="i8", dimension_names=("time",)
    )
    time[:] = np.arange(24)
    return tmp_path / "air.zarr"


def test_what_the_core_is_told(source):
    """Every option arrives in the form that the core takes, checked."""
    given = IngestArguments(
        branch="b",
        empty_chunks="skip",
        checksum="etag",
        locations="absolute",
        memory="32MiB",
        refs_per_manifest=5,
        max_refs_per_commit=7,
        concurrency=3,
        message="m",
        no_publish=True,
        restart=True,
        expect_complete=True,
        expect_count=9,
        unsafe_target=True,
        no_read_check=True,
        max_requests_per_second=8,
    )
    told = prepared(source, None, given, figures_only=True).options
    defaults = IngestOptions()
    of_the_mode = {"mode", "base", "replaced", "added", "plan", "listing", "keep_checksum"}
    same = {
        name
        for name in IngestOptions.__dataclass_fields__
        if getattr(told, name) == getattr(defaults, name)
    }
    assert same - of_the_mode == set()


CASES = {
    "create": {},
    "region": {"region": {"time": slice(4, 8)}},
    "part": {"arrays": ["air"], "memory": "32MiB", "refs_per_manifest": 3},
    "overwrite": {"mode": "overwrite"},
    "append": {"mode": "append", "append_dim": "time"},
    "update": {"mode": "update", "region": {"time": slice(0, 4)}},
}


@pytest.mark.parametrize("case", CASES)
def test_plan_is_the_dry_run(source, tmp_path, case):
    """With the same options, in every mode."""
    options, target = CASES[case], tmp_path / "target"
    refreeze.ingest(source, target)
    if case == "append":
        for name in ("air", "time"):
            array = zarr.open_array(source / name)
            array.resize((26, *array.shape[1:]))
            array[24:] = 30 if name == "time" else 2
    planned = refreeze.plan(source, target, **options)
    assert planned == refreeze.ingest(source, target, dry_run=True, **options)
    assert planned.totals.chunks_in_region > 0


def test_values_are_not_read_for_figures(source):
    """A coordinate whose chunk is damaged is planned: only ingest reads it."""
    (source / "time" / "c" / "0").write_bytes(b"damaged")
    planned = refreeze.plan(source, region={"time": slice(4, 8)})
    assert {array.path: array.chunks_in_region for array in planned.arrays} == {
        "/air": 2,
        "/time": 1,
    }
    second = refreeze.plan([source, source], concat_dim="time")
    assert {array.path: array.shape for array in second.arrays}["/time"] == (48,)


def test_options_that_plans_refuse(source):
    """Unknown ones, and modes that need the target when there is none."""
    with pytest.raises(TypeError, match="'regions'"):
        refreeze.plan(source, regions={})
    with pytest.raises(ValueError, match="mode append looks at the target"):
        refreeze.plan(source, mode="append", append_dim="time")
    outcome = run("plan", source, "t", "--output", "run.json", "--source-option", "no pair")
    assert outcome.code == 2
    assert "expected KEY=VALUE" in outcome.err
    outcome = run("plan", source, "--mode", "update", "--region", "time=0:4")
    assert outcome.code == 2
    assert "name one" in outcome.err


WRONG = {
    "branch": [5, " "],
    "message": [5],
    "empty_chunks": ["maybe", 5],
    "checksum": ["crc"],
    "locations": ["somewhere"],
    "new_arrays": ["never"],
    "memory": ["much", 5],
    "max_document": [0],
    "concurrency": [0],
    "max_refs_per_commit": ["5"],
    "max_requests_per_second": [0],
    "listing_columns": [{"key": "Key"}],
    "sample_listing": [-1],
    "arrays": ["air"],
    "no_publish": [1],
    "restart": ["no"],
    "unsafe_target": [None],
    "dry_run": [1],
    "probe": [1],
    "workers": [0],
    "source_options": ["endpoint=x"],
    "target_options": [[]],
    "progress": ["bar"],
}
VERBS = {
    "ingest": ("source", "target"),
    "verify": ("source", "target"),
    "sync": ("source", "target"),
    "copy": ("target",),
    "coverage": ("place",),
    "publish": ("target",),
    "gc": ("target",),
    "relocate": ("target", "s3://from/", "s3://to"),
    "status": ("target",),
}


@pytest.mark.parametrize("option", WRONG)
def test_an_option_is_checked_alike_by_all_verbs(option):
    """What one verb says of a wrong value, before it reads anything, every verb says that has the option."""
    for value in WRONG[option]:
        said = set()
        for verb, places in VERBS.items():
            function = getattr(refreeze, verb)
            if option not in options_of(function) or (verb == "coverage" and option == "arrays"):
                continue
            with pytest.raises((TypeError, ValueError)) as caught:
                function(*places, **{option: value})
            assert not isinstance(caught.value, refreeze.exceptions.RefreezeError), verb
            said.add((caught.type, str(caught.value)))
        assert len(said) == 1, said
        assert option in said.pop()[1]
