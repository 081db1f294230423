"""The task of a Dask cluster, as it travels and as it is carried out; who hands it out is not known here.

What travels is made of Python's own types alone. Dask unpickles tasks on the scheduler and, before it
has one to blame, on the worker: where refreeze is missing there, a class of refreeze's in them would end
the worker without a word. So the task is a line of source, which fails where it can be told.
"""

from __future__ import annotations

import io
import logging
import pickle
from dataclasses import asdict, replace

from refreeze import _refreeze
from refreeze.distributed.crew import Share, carry_out_unit
from refreeze.work import Secrets

__all__ = ["BARE", "LINE", "VERSION", "arguments_of", "carry_out"]

_log = logging.getLogger("refreeze")

LINE = "__import__('refreeze.distributed.dask_task', fromlist=['carry_out']).carry_out(*arguments)"
"""What a worker evaluates, with ``arguments`` among its names."""

BARE = {"__builtins__": {"__import__": __import__}}
"""The other names in it. Without these Python adds all that it has, and Dask's logs show them."""

VERSION = "__import__('importlib.metadata', fromlist=['version']).version('refreeze')"
"""What tells which refreeze a worker has."""


def arguments_of(
    plan: str, unit: str, secrets: Secrets, share: Share
) -> tuple[str, str, io.BytesIO | None, dict[str, int]]:
    """Return what `carry_out` takes; secrets as a pickle in a buffer, which never shows its content."""
    packed = io.BytesIO(pickle.dumps((secrets.source, secrets.target))) if secrets else None
    return plan, unit, packed, asdict(share)


def carry_out(plan: str, unit: str, secrets: io.BytesIO | None, share: dict[str, int]) -> bytes:
    """Carry out a unit with this thread's share of the worker's memory."""
    from distributed import get_worker

    own = Share(**share)
    threads = max(1, int(getattr(get_worker().state, "nthreads", 1)))
    own = replace(own, memory=max(_refreeze.LEAST_MEMORY, own.memory // threads))
    unpacked = Secrets(*pickle.loads(secrets.getvalue())) if secrets else None  # noqa: S301 our own
    try:
        return carry_out_unit(plan, unit, unpacked, own)
    except Exception as error:  # noqa: BLE001 whatever it is
        _log.debug("a unit failed", exc_info=True)
        # A traceback that cannot be pickled never arrives, and Dask's client waits for it.
        raise error.with_traceback(None) from None
