"""The process of the command line: its signals, from the first line to the last, and its end.

The command works in a thread of its own; the main thread waits for it or for a signal. Python
calls signal handlers in the main thread only, so that no import, no native call and no destructor
ever meets an exception that a signal has raised. A signal asks the work to stop, gives it a moment
to put things in order, says one line and ends the process.

What the command does is `refreeze.cli.app`'s business; how calls notice that they should stop is that
of `refreeze.runtime.interruption` and of the core. Nothing is imported here before the handlers stand but what the
interpreter has built in.
"""

import _signal  # type: ignore[import-not-found] # what `signal` wraps, without 3 ms of imports
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

__all__ = ["begin", "begin_result", "printing", "run", "stopping", "unfinished", "working_thread"]

GRACE = 1.6
"""Seconds that the work may take to stop; the core takes up to 1.5."""

_FAILED = 1
_STOPPED = 128
"""Codes from here on say that a signal has ended the command."""

unfinished: "set[str]" = set()
"""Files that are being written; they are removed when a signal ends the process before their writer could."""

_UNHURT = "nothing was changed; run the same command again"
_SIGNALS = {
    int(_signal.SIGINT): ("KeyboardInterrupt", "interrupted"),
    int(_signal.SIGTERM): ("Terminated", "terminated"),
}


class _Command:
    """The one command of this process. Each field is written by one thread, in one step."""

    worker: int | None = None
    """Identifier of the thread that works; none in a process that only uses the library."""
    begun = False
    """There is work that may want to put things in order."""
    printing = False
    """The result is being printed: it is too late to stop."""
    code: int | None = None
    """How the work has ended."""
    signal = 0
    """The first signal that arrived."""

    @staticmethod
    def hint() -> str:
        return _UNHURT


_command = _Command()


def run(main: "Callable[[], object]") -> "NoReturn":
    """Call ``main`` in a thread, and end the process with the code with which it exits.

    SIGINT and SIGTERM end the process with 130 and 143 and one line on standard error, at any
    time before the result is printed. A signal that the process was started to ignore stays
    ignored.
    """
    for number in _SIGNALS:
        if _signal.getsignal(number) is not _signal.SIG_IGN:
            _signal.signal(number, _on_signal)
    import _thread

    # The byte that a signal writes wakes the main thread, even when the signal comes just before
    # it begins to wait.
    ended, write = os.pipe()
    os.set_blocking(write, False)
    _signal.set_wakeup_fd(write, warn_on_full_buffer=False)

    def work() -> None:
        _command.worker = _thread.get_ident()
        _command.code = _work(main)
        os.write(write, b"\0")

    import threading

    threading.Thread(target=work, name="refreeze-command", daemon=True).start()
    while _command.code is None:
        os.read(ended, 1)
    # Without tearing the interpreter down: the runtimes of three libraries have threads that nobody
    # can join, and one that comes back to Python in the middle of that aborts the process.
    os._exit(_command.code)


def begin(hint: "Callable[[], str]") -> None:
    """Say that work begins which a signal must not cut off, and what to say when one stops it."""
    _command.hint = hint  # type: ignore[method-assign]
    _command.begun = True


def begin_result() -> None:
    """Say that the result, or the error, is printed from here on; signals come too late then.

    Raises
    ------
    SystemExit
        One has come before.
    """
    if _command.worker is None or _command.printing:
        return
    # In this order: either this sees the signal, or the signal sees this.
    _command.printing = True
    if _command.signal:
        _command.printing = False
        raise SystemExit(_STOPPED)


def printing() -> bool:
    """Whether the result is being printed."""
    return _command.printing


def stopping() -> bool:
    """Whether a signal has asked the command to stop."""
    return _command.signal != 0


def working_thread() -> int | None:
    """Return the thread in which the command works; none outside of the command line."""
    return _command.worker


def _work(main: "Callable[[], object]") -> int:
    try:
        if "--help" in sys.argv:
            # All that it does is to print.
            begin_result()
        try:
            main()
            code = 0
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 0
        begin_result()
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    except BrokenPipeError:
        # Whoever read the result has had enough of it.
        return _FAILED
    except OSError as error:
        _write(2, f"error: cannot write the result: {error.strerror}\n")
        return _FAILED
    except BaseException:  # noqa: BLE001 the process ends here, whatever it was
        if not stopping():
            begin_result()
            sys.excepthook(*sys.exc_info())
            return _FAILED
        return _STOPPED
    return code


def _on_signal(number: int, _frame: object) -> None:
    """Stop the command; runs in the main thread, which has nothing else to do."""
    again = _command.signal != 0
    _command.signal = _command.signal or number
    if not again and (_command.begun or _command.printing):
        # The module may be half imported.
        stop_calls = getattr(sys.modules.get("refreeze._refreeze"), "stop_calls", None)
        if stop_calls is not None:
            stop_calls()
        from time import monotonic, sleep

        deadline = monotonic() + GRACE
        while _command.code is None and monotonic() < deadline:
            sleep(0.01)
    if _command.code is not None and _command.code < _STOPPED:
        os._exit(_command.code)
    for path in tuple(unfinished):
        try:
            os.unlink(path)  # noqa: PTH108 without an import
        except OSError:
            continue
    kind, word = _SIGNALS[_command.signal]
    hint = _command.hint()
    # A live display may have hidden the cursor.
    terminal = "\r\x1b[K\x1b[?25h" if os.isatty(2) else ""
    _write(2, f"{terminal}error: {word}: {hint}\n")
    if "--json" in sys.argv and not _command.printing:
        # The module json may be half imported by the other thread.
        said = {"type": kind, "message": word, "hint": hint}
        members = ", ".join(f'"{name}": {_json_text(text)}' for name, text in said.items())
        _write(1, f'{{"error": {{{members}}}}}\n')
    os._exit(128 + _command.signal)


def _json_text(text: str) -> str:
    """Return a text as JSON has it; without the module that does."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c >= " " else f"\\u{ord(c):04x}" for c in escaped) + '"'


def _write(descriptor: int, text: str) -> None:
    """Write past Python's buffers, whose locks another thread may hold."""
    try:
        os.write(descriptor, text.encode(errors="backslashreplace"))
    except OSError:
        return
