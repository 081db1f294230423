"""``refreeze demo``: a real data set, from NetCDF to Zarr to Icechunk, read back and compared."""

from __future__ import annotations

import shlex
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from refreeze.cli.console import Level, LogLevel, Version, run_job
from refreeze.exceptions import AlreadyExistsError, SourceNotFoundError, TargetError

__all__ = ["demo", "run"]

DATASET = "A1B_north_america.nc"
"""Air temperature over North America, 1860 to 2099, scenario A1B; part of iris-sample-data."""


def demo(
    directory: Annotated[
        str | None,
        typer.Argument(metavar="[DIR]", help="Folder that keeps the result [default: temporary]."),
    ] = None,
    *,
    log_level: Level = LogLevel.WARNING,
    version: Version = False,
) -> None:
    """Write a small real Zarr store, ingest it, and read it back with xarray.

    Needs the extra packages of refreeze[demo].
    """

    def job() -> None:
        run(directory)

    run_job(job, log_level, as_json=False)


def run(directory: str | None = None) -> None:
    """Write a Zarr store with xarray, ingest it, read the repository back, and say so.

    Parameters
    ----------
    directory
        Folder that keeps the store and the repository; a temporary one, which is removed, if None.

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
    with tempfile.TemporaryDirectory(prefix="refreeze-demo-") as temporary:
        _demonstrate(Path(temporary))
        print("\nThe folder was temporary and is gone; keep it with: refreeze demo DIR")


def _demonstrate(folder: Path) -> None:
    import refreeze
    from refreeze.cli.snippet import opening_lines

    try:
        import cftime  # noqa: F401 xarray needs it for the data's calendar
        import h5netcdf  # noqa: F401 xarray reads NetCDF with it
        import iris_sample_data
        import xarray as xr
    except ImportError as error:
        raise SourceNotFoundError(
            f"the demo needs the package {error.name}", "pip install 'refreeze[demo]'"
        ) from None

    store, repository = folder / "air.zarr", folder / "air.icechunk"
    for path in (store, repository):
        if path.exists():
            raise AlreadyExistsError(f"{path} exists", "choose another folder for the demo")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TargetError(
            f"cannot use the folder {folder}: {error.strerror}", "choose another folder"
        ) from None

    print(f"1. {DATASET} is written to a Zarr store by xarray:")
    original = Path(iris_sample_data.path) / DATASET
    with xr.open_dataset(original, engine="h5netcdf") as dataset:
        dataset.to_zarr(store, consolidated=False, encoding=_chunks(dataset))
    size = sum(file.stat().st_size for file in store.rglob("*") if file.is_file())
    print(f"   {store} ({size:,} bytes)\n")

    print("2. refreeze ingests it into an Icechunk repository:")
    report = refreeze.ingest(store, repository)
    written = sum(file.stat().st_size for file in repository.rglob("*") if file.is_file())
    print(
        f"   {report.references_written:,} references to {report.bytes_referenced:,} bytes of "
        f"chunks, {report.commits} commits, {report.elapsed_s:.2f} s"
    )
    print(f"   {repository} ({written:,} bytes: metadata, references and coordinates)\n")

    print("3. xarray opens the repository, and it equals the store:")
    code = opening_lines(report)
    names: dict[str, Any] = {}
    exec(code, names)  # noqa: S102 the very lines that are shown to the user
    with xr.open_zarr(store, consolidated=False) as expected:
        xr.testing.assert_identical(names["ds"].load(), expected.load())
    print("   " + str(names["ds"]).replace("\n", "\n   ") + "\n")

    print("What did it, on the command line:\n")
    print(f"   refreeze ingest {shlex.quote(str(store))} {shlex.quote(str(repository))}\n")
    print("and in Python:\n")
    print(f"   import refreeze\n   refreeze.ingest({str(store)!r}, {str(repository)!r})\n")
    print("and what opened it:\n")
    print("   " + code.rstrip().replace("\n", "\n   "))


def _chunks(dataset: Any) -> dict[str, dict[str, tuple[int, ...]]]:
    """Chunks of twelve time steps for every variable that has the dimension and others."""
    return {
        name: {
            "chunks": tuple(min(12, n) if dim == "time" else n for dim, n in variable.sizes.items())
        }
        for name, variable in dataset.data_vars.items()
        if "time" in variable.dims and variable.ndim > 1
    }
