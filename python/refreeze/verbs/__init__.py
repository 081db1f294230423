"""What users call, from Python and from the command line: one module a verb."""
