"""``refreeze demo``: a real data set, from NetCDF to Zarr to Icechunk, read back, verified, and grown.

Every step is one call of the Python interface; what it prints are that call's own figures.
"""

from __future__ import annotations

import shlex
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from refreeze.cli.console import Level, LogLevel, Version, run_job
from refreeze.exceptions import AlreadyExistsError, SourceNotFoundError, TargetError
from refreeze.stores.icechunk_logs import without_local_warnings

__all__ = ["demo", "run"]

_APPENDED = 12
"""Time steps that the store grows by, one chunk."""

DATASET = "A1B_north_america.nc"
"""Air temperature over North America, 1860 to 2099, scenario A1B; part of iris-sample-data."""


def demo(
    directory: Annotated[
        str | None,
        typer.Argument(
            metavar="[DIR]", help="Folder for the result [default: a new temporary one]."
        ),
    ] = None,
    *,
    log_level: Level = LogLevel.WARNING,
    version: Version = False,
) -> None:
    """Write a small real Zarr store; plan, ingest and verify it, append to it, and draw its coverage.

    The repository is read back with xarray and compared. Needs the extra packages of refreeze[demo].
    """

    def job() -> None:
        run(directory)

    run_job(job, log_level, as_json=False)


def run(directory: str | None = None) -> None:
    """Write a Zarr store with xarray and show on it what refreeze does.

    Parameters
    ----------
    directory
        Folder for the store, the repository and the page; a new temporary one if None.

    Raises
    ------
    SourceNotFoundError
        The packages of ``refreeze[demo]`` are not installed.
    AlreadyExistsError
        The folder holds an earlier demo.
    TargetError
        The folder cannot be made.
    """
    if directory is not None:
        _demonstrate(Path(directory).absolute())
        return
    temporary = tempfile.mkdtemp(prefix="refreeze-demo-")
    _demonstrate(Path(temporary))
    print(f"\nAll of it is in {temporary}; remove it when you are done.")
    print("In a folder of your choice: refreeze demo DIR")


def _demonstrate(folder: Path) -> None:
    import refreeze
    from refreeze.cli.snippet import opening_lines

    xr, original = _imported()
    store, repository = folder / "air.zarr", folder / "air.icechunk"
    page = folder / "coverage.html"
    _prepare(folder, (store, repository, page))

    with xr.open_dataset(original, engine="h5netcdf") as dataset:
        grown = dataset.sizes["time"]
        print(f"1. All but the last {_APPENDED} years of {DATASET} become a Zarr store, by xarray:")
        first = dataset.isel(time=slice(grown - _APPENDED))
        first.to_zarr(store, consolidated=False, encoding=_chunks(dataset))
    print(f"   {store} ({_size(store):,} bytes)\n")

    print("2. What ingesting it will take:")
    totals = refreeze.plan(store).totals
    print(
        f"   {totals.chunks_in_region:,} chunks, {totals.commits} commits, about "
        f"{totals.manifest_bytes:,} bytes of manifests\n"
    )

    print("3. refreeze ingests it into an Icechunk repository:")
    report = refreeze.ingest(store, repository)
    print(
        f"   {report.references_written:,} references to {report.bytes_referenced:,} bytes of "
        f"chunks, {report.commits} commits, {report.elapsed_s:.2f} s"
    )
    print(f"   {repository} ({_size(repository):,} bytes: metadata, references and coordinates)\n")

    print(
        "4. Does it match the store? The store is listed again, and 20 chunks are read both ways:"
    )
    verified = refreeze.verify(store, repository, sample=20)
    print(f"   {'equal' if verified.equal else 'different'}, {verified.checked:,} compared\n")

    print(f"5. The store grows by {_APPENDED} years, and only what is new is listed and written:")
    with xr.open_dataset(original, engine="h5netcdf") as dataset:
        last = dataset.isel(time=slice(grown - _APPENDED, None))
        still = [name for name, variable in last.variables.items() if "time" not in variable.dims]
        last.drop_vars(still).to_zarr(store, append_dim="time", consolidated=False)
    added = refreeze.ingest(store, repository, mode="append", append_dim="time")
    print(f"   {added.references_written:,} references, {added.commits} commits\n")

    print("6. Which chunks exist, on a page to open in a browser:")
    coverage = refreeze.coverage(repository)
    coverage.save(page)
    print("   " + "\n   ".join(coverage.lines()))
    print(f"   {page.as_uri()}\n")

    print("7. xarray opens the repository, and it equals the store:")
    code = opening_lines(report)
    names: dict[str, Any] = {}
    with without_local_warnings():  # nothing is committed
        exec(code, names)  # noqa: S102 the very lines that are shown to the user
    with xr.open_zarr(store, consolidated=False) as expected:
        xr.testing.assert_identical(names["ds"].load(), expected.load())
    print("   " + str(names["ds"]).replace("\n", "\n   ") + "\n")
    _print_commands(store, repository, page)
    print("\nand what opened it:\n")
    print("   " + code.rstrip().replace("\n", "\n   "))


def _print_commands(source: Path, target: Path, page: Path) -> None:
    print("The commands were:\n")
    store, repository = shlex.quote(str(source)), shlex.quote(str(target))
    for words in (
        f"plan {store}",
        f"ingest {store} {repository}",
        f"verify {store} {repository} --sample 20",
        f"ingest {store} {repository} --mode append --append-dim time",
        f"coverage {repository} --output {shlex.quote(str(page))}",
    ):
        print(f"   refreeze {words}")
    print("\nand in Python:\n")
    print(f"   import refreeze\n   refreeze.ingest({str(source)!r}, {str(target)!r})")


def _imported() -> tuple[Any, Path]:
    """Return xarray, and the file of the data set."""
    try:
        import cftime  # noqa: F401 xarray needs it for the data's calendar
        import h5netcdf  # noqa: F401 xarray reads NetCDF with it
        import iris_sample_data
        import xarray as xr
    except ImportError as error:
        raise SourceNotFoundError(
            f"the demo needs the package {error.name}", "pip install 'refreeze[demo]'"
        ) from None
    return xr, Path(iris_sample_data.path) / DATASET


def _prepare(folder: Path, results: tuple[Path, ...]) -> None:
    """Make the folder, which must hold no earlier demo."""
    for path in results:
        if path.exists():
            raise AlreadyExistsError(f"{path} exists", "choose another folder for the demo")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TargetError(
            f"cannot use the folder {folder}: {error.strerror}", "choose another folder"
        ) from None


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _chunks(dataset: Any) -> dict[str, dict[str, tuple[int, ...]]]:
    """Chunks of twelve time steps for every variable that has the dimension and others."""
    return {
        name: {
            "chunks": tuple(min(12, n) if dim == "time" else n for dim, n in variable.sizes.items())
        }
        for name, variable in dataset.data_vars.items()
        if "time" in variable.dims and variable.ndim > 1
    }
