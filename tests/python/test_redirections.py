"""Credentials stay with the host that they are meant for, wherever a server sends a request."""

import pytest

import refreeze
from bucket_server import Bucket, running
from refreeze.exceptions import ListingError, RefreezeError, TargetError
from scenarios import write_store

SECRETS = {"session_token": "session-token-0123456789"}
REDIRECTIONS = [301, 302, 307, 308]

REQUESTS = {
    "a document": lambda request: request.path.endswith("zarr.json"),
    "a folder": lambda request: request.is_list and "delimiter" in request.path,
    "a page": lambda request: request.is_list and "delimiter" not in request.path,
    "a coordinate": lambda request: "/time/c/" in request.path,
    "a chunk": lambda request: "/air/c/" in request.path,
}


@pytest.fixture
def other():
    """Another host: it answers everything well, and remembers what it was asked."""
    with running(Bucket()) as other:
        yield other


@pytest.fixture
def local(tmp_path):
    return write_store(tmp_path / "air.zarr")


def redirect(bucket, chosen, status, to):
    bucket.answers = lambda request: (
        (status, {"Location": f"{to}{request.path}"}, b"") if chosen(request) else None
    )


@pytest.mark.parametrize("status", REDIRECTIONS)
@pytest.mark.parametrize("asked", REQUESTS)
def test_a_source_that_redirects(bucket, other, local, status, asked):
    """No request of an ingest follows to another host; the error names the region to check."""
    bucket.upload(local, "air.zarr")
    other.objects = dict(bucket.objects)
    redirect(bucket, REQUESTS[asked], status, other.url)
    with pytest.raises(RefreezeError) as raised:
        refreeze.ingest(
            "s3://bucket/air.zarr",
            local.parent / "repo",
            source_options={**bucket.options, **SECRETS},
        )
    assert other.requests == []
    assert str(status) in str(raised.value)
    assert "region" in raised.value.hint


@pytest.mark.parametrize("status", REDIRECTIONS)
@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_a_target_that_redirects(bucket, other, local, status, method):
    """Neither what is read nor what is written goes to another host."""
    redirect(bucket, lambda request: request.method == method, status, other.url)
    with pytest.raises(TargetError) as raised:
        refreeze.ingest(local, "s3://bucket/repo", target_options={**bucket.options, **SECRETS})
    assert other.requests == []
    assert str(status) in str(raised.value)
    assert "region" in raised.value.hint


def test_the_region_of_a_bucket_is_told(bucket, local):
    """S3 answers 301 without a place when the region is wrong, and says the right one."""
    bucket.upload(local, "air.zarr")
    region = {"x_amz_bucket_region": "eu-west-3"}
    body = b"<Error><Code>PermanentRedirect</Code></Error>"
    bucket.answers = lambda request: (301, region, body) if request.is_list else None
    with pytest.raises(ListingError, match="eu-west-3"):
        list_air(bucket)


@pytest.mark.parametrize("status", REDIRECTIONS)
def test_a_redirection_within_the_host_is_followed(bucket, local, status):
    """A gateway may move things about on its own host and port."""
    bucket.upload(local, "air.zarr")
    bucket.objects = {f"moved/{key}": body for key, body in bucket.objects.items()}

    def answer(request):
        if request.is_list or "/moved/" in request.path:
            return None
        return status, {"Location": request.path.replace("/bucket/", "/bucket/moved/")}, b""

    bucket.answers = answer
    read = refreeze.list_chunks(
        resolved(bucket, "moved/air.zarr").store, "moved/air.zarr/air", concurrency=1
    )
    assert sum(batch.num_rows for batch in read) > 0


def resolved(bucket, path):
    from refreeze.stores.resolve import resolve_source

    return resolve_source(f"s3://bucket/{path}", {**bucket.options, **SECRETS})


def list_air(bucket):
    return list(refreeze.list_chunks(resolved(bucket, "air.zarr").store, "air.zarr/air"))
