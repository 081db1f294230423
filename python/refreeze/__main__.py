"""The command ``refreeze``, also as ``python -m refreeze``: its signals first, then the rest."""

from refreeze.runtime.command import run

__all__ = ["main"]


def main() -> None:
    """Run the command line and end the process."""
    run(_command_line)


def _command_line() -> None:
    from refreeze.cli.app import main

    main()


if __name__ == "__main__":
    main()
