"""The server of the other tests does what they, and refreeze, rely on S3 for."""

import obstore
import pytest
from obstore.exceptions import AlreadyExistsError, PermissionDeniedError, PreconditionError
from obstore.store import S3Store


@pytest.fixture
def store(s3_bucket):
    server, bucket = s3_bucket
    return server.store(bucket)


def test_a_bucket_is_empty_and_its_own(s3_server):
    """Tests cannot see each other's objects."""
    first, second = s3_server.new_bucket(), s3_server.new_bucket()
    obstore.put(s3_server.store(first), "key", b"bytes")
    assert obstore.list(s3_server.store(second)).collect() == []


def test_bytes_come_back(store):
    """What was put is got, with a time and an ETag."""
    obstore.put(store, "air/c/0/0", b"chunk")
    got = obstore.get(store, "air/c/0/0")
    assert got.bytes() == b"chunk"
    assert got.meta["e_tag"]
    assert got.meta["last_modified"]


def test_listing_starts_after_any_string_in_byte_order(store):
    """Start-after is exclusive, and need not be a key."""
    for number in (0, 1, 10, 2, 11, 100):
        obstore.put(store, f"a/c/{number}", b"x")

    def keys(offset):
        return [entry["path"] for entry in obstore.list(store, "a/c", offset=offset).collect()]

    assert keys(None) == ["a/c/0", "a/c/1", "a/c/10", "a/c/100", "a/c/11", "a/c/2"]
    assert keys("a/c/10") == ["a/c/100", "a/c/11", "a/c/2"]
    assert keys("a/c/101") == ["a/c/11", "a/c/2"]


def test_more_keys_than_a_page_holds(s3_bucket):
    """A listing of more than 1,000 keys is complete."""
    server, bucket = s3_bucket
    store = server.store(bucket)
    expected = {f"a/c/{number // 50}/{number % 50}" for number in range(1200)}
    for key in expected:
        if server.kind == "versitygw":
            path = server.root / bucket / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x")
        else:
            obstore.put(store, key, b"x")
    listed = [entry["path"] for entry in obstore.list(store).collect()]
    assert len(listed) == len(expected)
    assert set(listed) == expected
    assert listed == sorted(listed)


def test_writes_are_conditional(store):
    """Commits to an Icechunk repository stand on these two refusals."""
    first = obstore.put(store, "ref", b"1", mode="create")
    with pytest.raises(AlreadyExistsError):
        obstore.put(store, "ref", b"2", mode="create")

    obstore.put(store, "ref", b"2", mode={"e_tag": first["e_tag"]})
    with pytest.raises(PreconditionError):
        obstore.put(store, "ref", b"3", mode={"e_tag": first["e_tag"]})
    assert obstore.get(store, "ref").bytes() == b"2"


def test_options_are_object_stores_own(s3_bucket):
    """`options` reaches the server as it stands."""
    server, bucket = s3_bucket
    obstore.put(S3Store(bucket, config=server.options), "key", b"bytes")
    assert obstore.get(server.store(bucket), "key").bytes() == b"bytes"


def test_wrong_credentials_are_refused(s3_bucket):
    """A wrong secret is an error of permission."""
    server, bucket = s3_bucket
    if server.kind == "moto":
        pytest.skip("moto accepts any signature")
    store = S3Store(
        bucket, config={**server.options, "secret_access_key": "not-the-key-of-this-server"}
    )
    with pytest.raises(PermissionDeniedError):
        obstore.put(store, "key", b"bytes")
