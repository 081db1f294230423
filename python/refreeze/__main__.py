"""``python -m refreeze`` is the command ``refreeze``."""

from refreeze.cli import main

if __name__ == "__main__":
    main()
