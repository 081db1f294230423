"""The drop-in for VirtualiZarr: a parser with regions, on top of the verbs."""
