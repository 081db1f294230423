"""Saves the results of a loop into one array: append, overwrite and update, each save one commit.

Run it with a folder to work in, or without for a temporary one. It needs nothing but refreeze.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np

import refreeze

folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())
target = folder / "results.icechunk"

appender = refreeze.ZarrSaver(target, dataset_name="scores", approach="append")
for step in range(3):
    appender.save(np.full((2, 4), step), chunks=(100, 4), compressor=None)
print(f"appended: {appender.open()['scores'].shape}")

updater = refreeze.ZarrSaver(target, dataset_name="scores", approach="update")
updater.save([9, 9, 9, 9], indices=0)
updater.save(7, indices=(slice(None), 3))
print(f"updated: {appender.open()['scores'][0].tolist()}")

refreeze.ZarrSaver(target, dataset_name="scores", approach="overwrite").save([1.5, 2.5])
print(f"overwritten: {appender.open()['scores'][:].tolist()}")
