"""One file into one session: what a call of `write_region` does for each of its files.

Runs in the caller's process or in a worker's; everything it needs is in a `Job`, which can be sent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import xarray as xr

from refreeze.exceptions import MismatchError, TargetNotFoundError
from refreeze.writer.checked_array import stored_array
from refreeze.writer.input_files import chosen, opened, shown_input, times_as_numbers
from refreeze.writer.region_blocks import copy_variable, same_everywhere
from refreeze.writer.region_checks import check_variable, times_of
from refreeze.writer.region_lanes import Copy, Transfer
from refreeze.writer.region_places import Place, place_of

if TYPE_CHECKING:
    import icechunk

__all__ = ["Done", "FilePlan", "Job", "plan_file", "template_of", "write_file"]


@dataclass(frozen=True)
class Job:
    """The options of `write_region`, checked."""

    group: str
    region: dict[str, slice] | None
    references: bool
    attempts: int
    check: frozenset[str] | None
    cast: bool
    action: str
    variables: list[str] | None
    drop_variables: list[str] | None
    memory: int
    source_options: dict[str, Any]

    @property
    def copy(self) -> Copy:
        """Return how values are copied."""
        return Copy(self.cast, self.action, self.attempts, self.check, self.memory)


@dataclass(frozen=True)
class FilePlan:
    """What of a file goes where."""

    place: Place
    moving: tuple[str, ...]
    """Variables of which the file has a part, or everything if the file has all of the template."""
    shared: tuple[str, ...]
    """Variables that every file has in full."""
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Done:
    """What was done with a file."""

    file: str
    region: dict[str, list[int]]
    arrays: tuple[str, ...]
    """Paths of the arrays of which the file has a part of its own."""
    shared: tuple[str, ...]
    """Paths of those that every file has in full."""
    bytes: int
    warnings: tuple[str, ...]


def template_of(session: icechunk.Session, job: Job) -> xr.Dataset:
    """Open the template as a session sees it, decoded and lazy.

    Raises
    ------
    TargetNotFoundError
        There is none.
    """
    try:
        found: xr.Dataset = xr.open_zarr(
            session.store,
            group=job.group or None,
            consolidated=False,
            chunks=None,
            decode_times=False,
        )
    except FileNotFoundError:
        found = xr.Dataset()
    if not found.variables:
        raise TargetNotFoundError(
            f"there is no template in /{job.group} of the target",
            "make one: refreeze create-template TEMPLATE TARGET",
        )
    for name in sorted(job.check or ()):
        if name not in found.variables:
            raise MismatchError(
                f"missing_check_vars: the template has no variable {name!r}",
                f"it has {', '.join(map(str, found.data_vars))}",
            )
    return times_as_numbers(found)


def plan_file(data: xr.Dataset, template: xr.Dataset, job: Job, where: str) -> FilePlan:
    """Decide what of a data set goes where.

    Raises
    ------
    RegionError, MismatchError
        It does not go into the template.
    """
    warnings = []
    for name in map(str, data.variables):
        if name in template.variables or name in data.dims:
            continue
        if name not in data.coords:
            raise MismatchError(
                f"{where} has a variable {name!r}, which the template does not have",
                f"leave it out: drop_variables={name} (--drop-variables {name}); the template has "
                f"{', '.join(map(str, template.data_vars))}",
            )
        warnings.append(f"coordinate {name} of {where} is not in the template: left out")
        data = data.drop_vars(name)
    names = [str(name) for name in data.variables if name not in data.dims]
    if not names:
        raise MismatchError(
            f"{where} has no variable of the template",
            f"the template has {', '.join(map(str, template.data_vars))}",
        )
    place = place_of(data, template, job.region, where)
    for name in names:
        check_variable(name, data, template, where, cast=job.cast)
    whole = {
        dim for dim, part in place.region.items() if part == slice(0, int(template.sizes[dim]))
    }
    if whole == set(place.region):
        return FilePlan(place, tuple(names), (), tuple(warnings))
    shared = tuple(name for name in names if set(map(str, data[name].dims)) <= whole)
    moving = tuple(name for name in names if name not in shared)
    return FilePlan(place, moving, shared, tuple(warnings))


def write_file(
    session: Any,
    source: Any,
    job: Job,
    *,
    template: xr.Dataset | None = None,
    dry_run: bool = False,
    part: str = "all",
) -> Done:
    """Write a file into a session.

    Parameters
    ----------
    session
        Or a fork of one.
    template
        As `template_of` opens it in the same session, for whoever writes several files.
    dry_run
        Only find and check the region.
    part
        ``moving`` or ``shared``: only those variables, as `FilePlan` has them; ``all``.
    """
    where = shown_input(source)
    template = template_of(session, job) if template is None else template
    size = 0
    with opened(source, job.source_options) as whole:
        data = chosen(whole, job.variables, job.drop_variables, where)
        plan = plan_file(data, template, job, where)
        moving, shared = (
            [] if part not in (kind, "all") else list(names)
            for kind, names in (("moving", plan.moving), ("shared", plan.shared))
        )
        if not dry_run:
            virtual = None
            if job.references:
                from refreeze.writer.reference_files import refer, virtual_file

                virtual = virtual_file(source, job.source_options)
            store = session.store
            for name in (*moving, *shared):
                transfer = Transfer(
                    name,
                    data[name].variable,
                    template[name].variable,
                    store,
                    stored_array(store, f"{job.group}/{name}".strip("/")),
                    plan.place,
                    where,
                    times_of(name, data),
                    times_of(name, template),
                )
                if name in shared and same_everywhere(transfer, job.copy):
                    continue
                if virtual is not None and name in moving and name not in data.coords:
                    size += refer(transfer, virtual, job.copy)
                else:
                    size += copy_variable(transfer, job.copy)
    prefix = f"/{job.group}/" if job.group else "/"
    return Done(
        where,
        plan.place.shown(),
        tuple(f"{prefix}{name}" for name in moving),
        tuple(f"{prefix}{name}" for name in shared),
        size,
        plan.warnings,
    )
