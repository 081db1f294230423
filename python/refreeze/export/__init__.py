"""Other formats than Icechunk: what they need of a listing and of metadata."""
