"""Ingests on many threads, processes and machines: crews that carry out units of a plan."""
