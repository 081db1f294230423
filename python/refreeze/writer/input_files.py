"""Opens what is written into a template: NetCDF, HDF5, GRIB, Zarr, or a data set that is open already.

Nothing is loaded. Variables are decoded by the CF conventions, with one exception: times that are
not labels along a dimension stay the numbers that they are stored as. What was stored stands in
the encoding.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xarray as xr

from refreeze.exceptions import MismatchError, RefreezeError, SourceNotFoundError
from refreeze.shown import cleaned, one_line
from refreeze.stores.resolve import without_credentials

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["GRIB", "chosen", "names_of", "opened", "shown_input", "times_as_numbers"]

GRIB = (".grib", ".grib2", ".grb", ".grb2")
_HDF = (b"\x89HDF\r\n\x1a\n",)
_NETCDF_3 = (b"CDF\x01", b"CDF\x02", b"CDF\x05")


def shown_input(source: Any) -> str:
    """Return how a file or data set is named in reports and errors."""
    if isinstance(source, xr.Dataset | xr.DataArray):
        return str(source.encoding.get("source") or "the given data set")
    return without_credentials(str(os.fspath(source)))


@contextmanager
def opened(source: Any, options: Mapping[str, Any] | None = None) -> Iterator[xr.Dataset]:
    """Open a file or store.

    Raises
    ------
    SourceNotFoundError
        There is nothing.
    MismatchError
        xarray cannot read it, or lacks the library that would.
    """
    if isinstance(source, xr.Dataset):
        yield times_as_numbers(source)
        return
    if isinstance(source, xr.DataArray):
        name = "data" if source.name is None else source.name
        yield times_as_numbers(source.to_dataset(name=name))
        return
    text = os.fspath(source)
    try:
        data: xr.Dataset = _open(text, options)
    except RefreezeError:
        raise
    except FileNotFoundError:
        raise SourceNotFoundError(f"there is no file or store {text}", "check the path") from None
    except Exception as error:  # noqa: BLE001 whatever the libraries below raise
        cleaned(error)
        raise MismatchError(
            f"cannot read {text}: {type(error).__name__}: {one_line(error)}",
            "NetCDF 4, HDF5 and Zarr are read; NetCDF 3 needs scipy, GRIB needs cfgrib",
        ) from None
    with data:
        yield times_as_numbers(data)


def times_as_numbers(data: xr.Dataset) -> xr.Dataset:
    """Return a data set in which times are numbers, but those along a dimension are times."""
    changed: dict[str, Any] = {}
    for each, variable in data.variables.items():
        name = str(each)
        if each in data.dims:
            if " since " in str(variable.attrs.get("units", "")):
                try:
                    changed[name] = xr.conventions.decode_cf_variable(
                        name, variable.to_base_variable()
                    )
                except (ValueError, OverflowError):
                    continue  # units that nobody knows: the numbers are labels too
        elif variable.dtype.kind in "mM" or (
            variable.dtype.kind == "O" and hasattr(_first(variable), "calendar")
        ):
            changed[name] = xr.conventions.encode_cf_variable(variable, name=name)
            for key in ("units", "calendar"):
                changed[name].encoding.pop(key, None)
    return data.assign(changed)


def _first(variable: Any) -> Any:
    return variable[(0,) * variable.ndim].values.item() if variable.size else None


def _open(text: str, options: Mapping[str, Any] | None) -> Any:
    common: dict[str, Any] = {"chunks": None, "cache": False, "decode_times": False}
    if "://" in text and not text.startswith("file://"):
        return _open_remote(text, options, common)
    path = Path(text.removeprefix("file://")).expanduser()
    if not path.exists():
        raise SourceNotFoundError(f"there is no file or store {path}", "check the path")
    if path.is_dir():
        return xr.open_zarr(str(path), consolidated=False, chunks=None, decode_times=False)
    with path.open("rb") as file:
        start = file.read(8)
    if start.startswith(b"GRIB") or path.suffix.lower() in GRIB:
        return xr.open_dataset(path, engine="cfgrib", **common)
    if start in _HDF:
        return xr.open_dataset(path, engine=_hdf_engine(), **common)
    if start.startswith(_NETCDF_3):
        return xr.open_dataset(path, **common)
    raise MismatchError(
        f"{path} is neither NetCDF, HDF5, GRIB nor Zarr",
        "check that it is whole and not compressed",
    )


def _open_remote(text: str, options: Mapping[str, Any] | None, common: Mapping[str, Any]) -> Any:
    from refreeze.stores.resolve import resolve_source

    found = resolve_source(text, options)
    if text.rstrip("/").lower().endswith((".nc", ".nc4", ".h5", ".hdf5", ".hdf", ".cdf")):
        from obspec_utils.readers import BlockStoreReader

        reader: Any = BlockStoreReader(found.store, found.path)
        return xr.open_dataset(reader, engine=_hdf_engine(), **common)
    import zarr.storage

    store = zarr.storage.ObjectStore(found.store, read_only=True)
    return xr.open_zarr(
        store,
        group=found.path or None,
        consolidated=False,
        chunks=None,
        decode_times=False,
    )


def _hdf_engine() -> str:
    """Return what reads HDF5; netCDF4 is preferred by nobody who has both."""
    from importlib.util import find_spec

    if find_spec("h5netcdf") is None and find_spec("netCDF4") is not None:
        return "netcdf4"
    return "h5netcdf"


def chosen(
    data: xr.Dataset, variables: list[str] | None, drop: list[str] | None, where: str
) -> xr.Dataset:
    """Return the data set with some of its variables.

    Raises
    ------
    MismatchError
        It has no variable of a name.
    """
    for name in (*(variables or ()), *(drop or ())):
        if name not in data.variables:
            raise MismatchError(
                f"{where} has no variable {name!r}",
                f"it has {', '.join(map(str, data.data_vars)) or 'none'}",
            )
    if variables is not None:
        data = data[list(variables)]
    return data.drop_vars(list(drop or ()))


def names_of(given: Any, what: str) -> list[str] | None:
    """Read names: ``a,b``, a list of such texts, or None."""
    if given is None:
        return None
    texts = [given] if isinstance(given, str) else list(given)
    names = [name.strip() for text in texts for name in str(text).split(",")]
    if not all(names):
        raise ValueError(f"{what} is a list of names, not {given!r}")
    return names
