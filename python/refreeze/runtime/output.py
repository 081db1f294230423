"""Files that a command writes whole or not at all. What is in them is the caller's business."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from refreeze.exceptions import RefreezeError, TargetError
from refreeze.runtime import command

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["whole_or_absent"]


@contextmanager
def whole_or_absent(output: Path) -> Iterator[Path]:
    """Give a path beside the file's place; what is written there is moved to its place at the end.

    When the block raises, or a signal ends the command, no unfinished file is left.

    Raises
    ------
    TargetError
        The block, or the move, raised an `OSError`.
    """
    unfinished = output.with_name(f".{output.name}.unfinished")
    command.unfinished.add(str(unfinished))
    try:
        yield unfinished
        unfinished.replace(output)
    except OSError as error:
        if isinstance(error, RefreezeError):
            raise
        raise TargetError(f"cannot write {output}: {error}", "choose another --output") from error
    finally:
        unfinished.unlink(missing_ok=True)
        command.unfinished.discard(str(unfinished))
