"""Reads of sources and targets that go wrong: what is published is right, or it is an error that names the key."""

from datetime import timedelta

import numpy as np
import obstore
import pytest
import zarr
from obstore.store import S3Store

import refreeze
from fault_proxy import OF_READS, Fault, fault_proxy
from refreeze.exceptions import ListingError, RefreezeError
from refreeze.stores.reading import Folder, Reader
from refreeze.stores.resolve import store_source
from scenarios import s3_repository

LENGTH, CHUNK = 2_000, 1_000
"""Of the coordinate: two chunks, too large to be carried inline."""

REPAIRED = OF_READS - {Fault.REFUSED}
"""Faults that asking again gets over; a refusal is believed."""


def values(length):
    return np.random.default_rng(1).random(length)


def write_source(store, length=LENGTH):
    """Write a group with an array by reference and a coordinate that is copied, as bytes that any number may be."""
    root = zarr.create_group(store, overwrite=True)
    options = {"dimension_names": ["time"], "compressors": None, "fill_value": 0.0}
    for name in ("sst", "time"):
        array = root.create_array(name, shape=(length,), chunks=(CHUNK,), dtype="<f8", **options)
        array[:] = values(length)
    return root


@pytest.fixture
def place(s3_bucket):
    """Return a bucket with a source, seen directly and through a proxy that can fail."""
    server, bucket = s3_bucket
    with fault_proxy(server) as (seen, faults):
        place = Place(server, bucket, seen, faults)
        write_source(place.zarr_store())
        yield place


def impatient(server, bucket):
    """Return a store that asks again soon."""
    backoff = {"init_backoff": timedelta(milliseconds=5), "max_backoff": timedelta(milliseconds=20)}
    return S3Store(
        bucket,
        endpoint=server.endpoint,
        access_key_id=server.access_key_id,
        secret_access_key=server.secret_access_key,
        region=server.region,
        client_options={"allow_http": True},
        retry_config={"max_retries": 5, "backoff": {**backoff, "base": 2}},
    )


class Place:
    def __init__(self, server, bucket, seen, faults):
        self.server, self.bucket, self.seen, self.faults = server, bucket, seen, faults
        self.source, self.target = (
            (impatient(seen, bucket), "source.zarr"),
            f"s3://{bucket}/repository",
        )

    def zarr_store(self):
        from zarr.storage import ObjectStore

        return ObjectStore(self.server.store(self.bucket, "source.zarr"))

    def ingest(self, **options):
        return refreeze.ingest(
            self.source,
            self.target,
            target_options=self.seen.options,
            **options,
        )

    def heal(self):
        struck = list(self.faults.struck)
        self.faults.heal()
        return struck

    def published(self):
        """Return the coordinate of the published branch; None when nothing is."""
        session = s3_repository(self.server, self.bucket, "repository").readonly_session("main")
        try:
            return zarr.open_group(session.store, mode="r")["time"][:]
        except (FileNotFoundError, KeyError):
            return None


def is_get(request):
    return request.method == "GET" and request.listed is None


@pytest.mark.parametrize("most", [1, None])
@pytest.mark.parametrize("fault", sorted(OF_READS, key=str))
def test_a_copied_chunk(place, fault, most):
    """Once: got over. For ever: an error that names the key, and nothing is published."""
    place.faults.begin(
        lambda request: is_get(request) and request.path.endswith("time/c/1"), fault, most=most
    )
    check(place, "source.zarr/time/c/1", repaired=most == 1 and fault in REPAIRED)


@pytest.mark.parametrize("most", [1, None])
@pytest.mark.parametrize("fault", [Fault.ERROR_DOCUMENT, Fault.GARBAGE, Fault.SHORT, Fault.EMPTY])
def test_a_copied_chunk_without_digests(place, fault, most, monkeypatch):
    """Where no ETag says what the bytes are, their length and their decoding do."""
    # Garbage of the right length needs a codec that notices it.
    root = zarr.open_group(place.zarr_store(), mode="r+")
    time = root.create_array(
        "time",
        shape=(LENGTH,),
        chunks=(CHUNK,),
        dtype="<f8",
        dimension_names=["time"],
        compressors=zarr.codecs.GzipCodec(),
        overwrite=True,
    )
    time[:] = values(LENGTH)
    for key in ("time/c/0", "time/c/1"):
        # Uploaded in parts: its ETag is no digest.
        store = place.server.store(place.bucket, "source.zarr")
        data = bytes(store.get(key).bytes())
        obstore.put(store, key, data, use_multipart=True, chunk_size=5 << 20)
    place.faults.begin(
        lambda request: is_get(request) and request.path.endswith("time/c/1"), fault, most=most
    )
    check(place, "source.zarr/time/c/1", repaired=most == 1)


@pytest.mark.parametrize("most", [1, None])
@pytest.mark.parametrize("fault", sorted(OF_READS, key=str))
def test_a_folder(place, fault, most):
    """An answer to the LIST of a folder that is no listing is asked for again, and never an empty folder."""
    reader = Reader(store_source(impatient(place.seen, place.bucket), "source.zarr"))
    place.faults.begin(lambda request: request.listed == "source.zarr/", fault, most=most)
    if most == 1 and fault not in (Fault.REFUSED, Fault.MISSING):
        assert reader.folder("") == Folder(["sst", "time"], ["zarr.json"])
    else:
        with pytest.raises(RefreezeError, match=r"source\.zarr"):
            reader.folder("")
    assert place.heal()


def test_a_folder_that_lacks_what_is_there(place):
    """A listing without an object that was read before is not believed."""
    reader = Reader(store_source(impatient(place.seen, place.bucket), "source.zarr"))
    assert reader.documents(["sst/zarr.json"]) != [None]
    (place.server.root / place.bucket / "source.zarr" / "sst" / "zarr.json").unlink()
    with pytest.raises(ListingError, match=r"source\.zarr/sst/.*lacks 'zarr\.json'"):
        reader.folder("sst")


@pytest.mark.parametrize("most", [1, None])
@pytest.mark.parametrize("fault", sorted(OF_READS - {Fault.MISSING}, key=str))
def test_a_document(place, fault, most):
    """The metadata of an array: got over, or an error that names it."""
    reader = Reader(store_source(impatient(place.seen, place.bucket), "source.zarr"))
    (right,) = reader.documents(["time/zarr.json"])
    place.faults.begin(is_get, fault, most=most)
    if most == 1 and fault in REPAIRED:
        assert reader.documents(["time/zarr.json"]) == [right]
    else:
        with pytest.raises(RefreezeError, match=r"source\.zarr/time/zarr\.json"):
            reader.documents(["time/zarr.json"])
    assert place.heal()


def check(place, named, *, repaired):
    """Ingest, and hold what is published against what is right."""
    if repaired:
        place.ingest()
    else:
        with pytest.raises(RefreezeError) as raised:
            place.ingest()
        assert named in str(raised.value)
        assert place.server.secret_access_key not in str(raised.value)
    assert place.heal()
    if not repaired:
        if obstore.list(place.server.store(place.bucket), "repository").collect():
            assert place.published() is None
        place.ingest()
    np.testing.assert_array_equal(place.published(), values(LENGTH))


@pytest.mark.parametrize(
    ("fault", "most"),
    [
        *((fault, 1) for fault in sorted(OF_READS, key=str)),
        (Fault.MISSING, None),
        (Fault.GARBAGE, None),
    ],
)
def test_a_native_chunk_of_the_target(place, fault, most):
    """Appending reads the coordinate that stands; what cannot be read of it is never taken for fill values."""
    # A ragged end, which an append encodes again.
    write_source(place.zarr_store(), LENGTH - 500)
    place.ingest()
    before = place.published()
    write_source(place.zarr_store(), LENGTH + 700)
    place.faults.begin(
        lambda request: is_get(request) and "repository/chunks/" in request.path, fault, most=most
    )
    if most == 1 and fault in REPAIRED:
        place.ingest(mode="append", append_dim="time")
    else:
        with pytest.raises(RefreezeError, match="time"):
            place.ingest(mode="append", append_dim="time")
        np.testing.assert_array_equal(place.published(), before)
    assert place.heal()
    place.ingest(mode="append", append_dim="time")
    np.testing.assert_array_equal(place.published(), values(LENGTH + 700))


def test_tags_that_only_look_like_digests(place):
    """A gateway that makes up its ETags is read all the same."""
    root = place.server.root / place.bucket / "source.zarr"
    if place.server.kind != "versitygw":
        pytest.skip("the server's files are needed")
    import os

    for path in root.rglob("*"):
        if path.is_file():
            os.setxattr(path, "user.etag", b'"0123456789abcdef0123456789abcdef"')
    place.ingest()
    np.testing.assert_array_equal(place.published(), values(LENGTH))


def test_values_of_a_region(place):
    """The coordinate of a region that cuts its chunks is read with the same care."""
    place.faults.begin(
        lambda request: is_get(request) and request.path.endswith("time/c/0"),
        Fault.GARBAGE,
        most=1,
    )
    place.ingest(region={"time": slice(0, CHUNK)}, arrays=["time"])
    assert place.heal()
    np.testing.assert_array_equal(place.published(), values(LENGTH)[:CHUNK])
