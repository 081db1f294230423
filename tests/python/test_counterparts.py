"""What counts as the same in two documents, and which arrays that no source has were a source's."""

import math

import pytest

from refreeze.planning.counterparts import Gone, _same, gone_from_sources


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (math.nan, math.nan, True),
        (1.0, math.nan, False),
        (math.nan, 1.0, False),
        (1.0, 1.0, True),
        (1, True, False),
        (None, [], True),
        (0, None, False),
    ],
)
def test_values_of_documents(one, other, same):
    """Not-a-number is itself here, and nothing else is it."""
    assert _same(one, other) is same


def test_native_arrays_are_the_sources_unless_one_beside_them_is_not():
    """What was copied bears no source's name: those beside it tell, group by group."""
    kinds = {
        "/a/air": "virtual",
        "/a/time": "native",
        "/a/none": "empty",
        "/b/sea": "elsewhere",
        "/b/time": "native",
    }
    found = [Gone(path, b"", kind, None) for path, kind in kinds.items()]
    assert [one.path for one in gone_from_sources(found)] == ["/a/air", "/a/time", "/a/none"]
