"""The command ``refreeze``: one module a verb, and what all of them share."""
