"""Zarr metadata: reading hierarchies, choosing nodes, converting documents to version 3, decoding chunks."""
