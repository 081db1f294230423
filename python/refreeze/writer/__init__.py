"""Writing data into repositories: saver, safe overwriting, templates and regions."""
