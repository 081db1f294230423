"""The proxy of the tests does what its faults say, and nothing else."""

import urllib.request
from http.client import HTTPException, IncompleteRead
from urllib.error import HTTPError, URLError

import pytest

from fault_proxy import NOT_EXECUTED, OF_READS, Fault, fault_proxy

DATA = bytes(range(200))


@pytest.fixture
def proxied(s3_bucket):
    server, bucket = s3_bucket
    with fault_proxy(server) as (seen, faults):
        store = seen.store(bucket)
        store.put("a/b", DATA)
        signed = sign(store, "GET")
        yield store, faults, signed


def sign(store, method, key="a/b"):
    from datetime import timedelta

    import obstore

    return obstore.sign(store, method, key, timedelta(minutes=5))


def fetch(url, data=None, method="GET"):
    """Return status and bytes of one request, or what it raises."""
    request = urllib.request.Request(url, data, method=method)  # noqa: S310 (http on loopback)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310 (as above)
            return answer.status, answer.read()
    except HTTPError as error:
        return error.code, error.read()
    except (OSError, HTTPException) as error:
        return type(error), error


STATUS = {
    Fault.ERROR: 500,
    Fault.LOST_ERROR: 500,
    Fault.THROTTLED: 503,
    Fault.REFUSED: 403,
    Fault.MISSING: 404,
    Fault.RESET: ConnectionResetError,
    Fault.LOST: ConnectionResetError,
    Fault.CUT: IncompleteRead,
    Fault.CUT_BY_RESET: ConnectionResetError,
    Fault.UNREACHABLE: ConnectionResetError,
    Fault.TOO_MANY: 429,
}
"""Or what a client raises; of the others 200."""


@pytest.mark.parametrize("fault", sorted(OF_READS, key=str))
def test_a_read_goes_wrong_as_it_is_said(proxied, fault):
    """The second read gets the fault, the first and the third are well."""
    _, faults, url = proxied
    faults.begin(lambda request: request.path.endswith("a/b"), fault, skip=1, most=1)
    before, (status, body), after = fetch(url), fetch(url), fetch(url)
    while fault is Fault.UNREACHABLE and after[0] is URLError:
        after = fetch(url)
    assert before == after == (200, DATA)
    assert len(faults.seen) == 3
    assert [request.method for request in faults.struck] == ["GET"]
    assert status == STATUS.get(fault, 200)
    if fault in (Fault.ERROR_DOCUMENT, Fault.HTML):
        assert body.startswith(b"<")
    elif fault is Fault.GARBAGE:
        assert (len(body), body == DATA) == (len(DATA), False)
    elif status == 200:
        assert body == {Fault.EMPTY: b"", Fault.SHORT: DATA[:100]}[fault]


@pytest.mark.parametrize("fault", [Fault.RESET, Fault.LOST, Fault.ERROR, Fault.LOST_ERROR])
def test_a_write_is_executed_or_not(proxied, fault):
    """A lost answer is that of a write that was executed."""
    store, faults, _ = proxied
    url = sign(store, "PUT", "a/new")
    faults.begin(lambda request: request.method == "PUT", fault)
    fetch(url, b"new", "PUT")
    faults.heal()
    listed = [one["path"] for page in store.list("a") for one in page]
    assert ("a/new" in listed) is (fault not in NOT_EXECUTED)


def test_what_is_seen_of_a_request(proxied):
    """Method, path, prefix of a listing, and whether it has a condition."""
    store, faults, _ = proxied
    faults.begin(lambda _: False)
    list(store.list("a"))
    store.put("a/c d", b"", mode="create")
    listing, put = faults.seen
    assert (listing.method, listing.listed, listing.conditional) == ("GET", "a/", False)
    assert (put.method, put.listed, put.conditional) == ("PUT", None, True)
    assert put.path.endswith("/a/c d")
