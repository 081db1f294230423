"""``python -m refreeze`` is the command ``refreeze``."""

from refreeze.cli.app import main

if __name__ == "__main__":
    main()
