"""What Python writes into repositories, held against a file of what it wrote before."""

from pathlib import Path

from refreeze.metadata.region import bounds_of
from refreeze.planning.request import Request

GOLDEN = Path(__file__).parents[1] / "golden"

REQUESTS = [
    Request(),
    Request(mode="append", append_dim="time"),
    Request(concat_dim="time", region=bounds_of({"time": slice(0, 240), "dim_1": slice(None, -5)})),
    Request(
        mode="update",
        region=bounds_of({'z "é"': slice(None), "a": slice(3, 7, 1)}),
        target_group="/part",
        selective=True,
    ),
]


def test_requests_are_recorded_as_they_were():
    """Plan fingerprints and run records hold a request's text: another one would refuse every resume."""
    written = "".join(f"{request.fingerprint}\n" for request in REQUESTS)
    assert written == (GOLDEN / "requests.txt").read_text(encoding="utf-8")
