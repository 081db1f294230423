"""Where sources and targets are: URLs, settings, registries, and reading objects of a source."""
