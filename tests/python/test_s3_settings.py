"""Every setting of object_store is obeyed on its side, or refused by name."""

import base64
import json
from hashlib import md5

import pytest

import refreeze
from refreeze.stores.resolve import resolve_source, resolve_target
from refreeze.stores.s3_settings import CLIENT_SETTINGS, SETTINGS
from scenarios import run, write_store

CUSTOMER_KEY = base64.b64encode(b"a customer's key of 32 bytes....").decode()
CUSTOMER_MD5 = base64.b64encode(
    md5(base64.b64decode(CUSTOMER_KEY), usedforsecurity=False).digest()
).decode()

VALUES = {
    "access_key_id": "another-key",
    "bucket": "another-bucket",
    "checksum_algorithm": "SHA256",
    "conditional_put": "disabled",
    "connect_timeout": "7 seconds",
    "container_authorization_token_file": "/nonexistent",
    "container_credentials_full_uri": "http://127.0.0.1:9/x",
    "container_credentials_relative_uri": "/x",
    "copy_if_not_exists": "multipart",
    "default_content_type": "application/x-chunk",
    "default_region": "eu-west-9",
    "endpoint": None,
    "endpoint_url_s3": None,
    "endpoint_url_sts": "http://127.0.0.1:9",
    "http2_keep_alive_interval": "7 seconds",
    "http2_keep_alive_timeout": "7 seconds",
    "http2_max_frame_size": "32768",
    "metadata_endpoint": "http://127.0.0.1:9",
    "pool_idle_timeout": "7 seconds",
    "pool_max_idle_per_host": "3",
    "proxy_ca_certificate": "",
    "proxy_excludes": "127.0.0.1",
    "proxy_url": "http://127.0.0.1:9",
    "read_timeout": "7 seconds",
    "region": "eu-west-9",
    "role_arn": "arn:aws:iam::1:role/x",
    "role_session_name": "session",
    "secret_access_key": "another-secret",
    "server_side_encryption": "AES256",
    "session_token": "a-session-token",
    "sse_customer_key_base64": CUSTOMER_KEY,
    "sse_kms_key_id": "a-key",
    "timeout": "7 seconds",
    "user_agent": "agent/7",
    "web_identity_token_file": "/nonexistent",
}
"""A value of each setting; those that are not here are flags."""

REFUSED = {
    "source": {
        "bucket",
        "checksum_algorithm",
        "conditional_put",
        "copy_if_not_exists",
        "default_content_type",
        "disable_bulk_delete",
        "disable_tagging",
        "server_side_encryption",
        "sse_bucket_key_enabled",
        "sse_kms_key_id",
    },
    "target": {"bucket", "conditional_put", "copy_if_not_exists"},
}


@pytest.fixture
def local(tmp_path):
    return write_store(tmp_path / "air.zarr")


def resolve(side, options):
    resolver = resolve_source if side == "source" else resolve_target
    return resolver("s3://bucket/x", options)


@pytest.mark.parametrize("side", ["source", "target"])
@pytest.mark.parametrize("name", sorted(SETTINGS | CLIENT_SETTINGS))
def test_every_setting_is_taken_or_refused_by_name(side, name):
    """None is dropped on the way to the client, and none is refused without its name."""
    value = VALUES.get(name, "false")
    value = "http://127.0.0.1:9" if value is None else value
    options = {name: value} | ({"proxy_url": "http://127.0.0.1:9"} if "proxy" in name else {})
    if name in {"access_key_id", "secret_access_key"}:
        options |= {"access_key_id": "another-key", "secret_access_key": "another-secret"}
    if name in REFUSED[side]:
        with pytest.raises(ValueError, match=f"{side} option {name}"):
            resolve(side, options)
        return
    store = resolve(side, options).store
    held = {**store.config, **(store.client_options or {})}
    kept = "region" if name == "default_region" else name
    assert str(held[kept]).lower() == value.lower()


def test_a_name_that_is_not_known_is_refused():
    """A setting of a later version of object_store is not dropped either."""
    with pytest.raises(ValueError, match="source option of_a_later_version: no such"):
        resolve("source", {"of_a_later_version": "x"})


ENCRYPTION = {
    "AES256": ({"server_side_encryption": "AES256"}, {"x-amz-server-side-encryption": "AES256"}),
    "kms": (
        {
            "server_side_encryption": "aws:kms",
            "sse_kms_key_id": "a-key-id",
            "sse_bucket_key_enabled": "true",
        },
        {
            "x-amz-server-side-encryption": "aws:kms",
            "x-amz-server-side-encryption-aws-kms-key-id": "a-key-id",
            "x-amz-server-side-encryption-bucket-key-enabled": "true",
        },
    ),
    "customer": (
        {"server_side_encryption": "sse-c", "sse_customer_key_base64": CUSTOMER_KEY},
        {
            "x-amz-server-side-encryption-customer-algorithm": "AES256",
            "x-amz-server-side-encryption-customer-key": CUSTOMER_KEY,
            "x-amz-server-side-encryption-customer-key-md5": CUSTOMER_MD5,
        },
    ),
    "checksum": ({"checksum_algorithm": "SHA256"}, {"x-amz-checksum-sha256": None}),
    "payer": ({"request_payer": "true"}, {"x-amz-request-payer": "requester"}),
    "unsigned": ({"unsigned_payload": "true"}, {"x-amz-content-sha256": "UNSIGNED-PAYLOAD"}),
    "token": ({"session_token": "a-token"}, {"x-amz-security-token": "a-token"}),
    "agent": ({"user_agent": "agent/7"}, {"user-agent": "agent/7"}),
}


@pytest.mark.parametrize("settings", ENCRYPTION)
@pytest.mark.parametrize("how", ["option", "environment"])
def test_every_put_of_a_target_carries_them(bucket, local, monkeypatch, settings, how):
    """Regression: 35 of 35 PUTs were sent without encryption, because Icechunk's storage knows none."""
    given, headers = ENCRYPTION[settings]
    options = dict(bucket.options)
    if how == "option":
        options |= given
    else:
        for name, value in given.items():
            monkeypatch.setenv(f"AWS_{name.upper()}", value)
    refreeze.ingest(local, "s3://bucket/repo", target_options=options)
    refreeze.status("s3://bucket/repo", target_options=options)
    puts = [request for request in bucket.requests if request.method == "PUT"]
    assert len(puts) > 5
    for put in puts:
        for name, value in headers.items():
            assert put.headers.get(name) == value or (value is None and name in put.headers)


@pytest.mark.parametrize("settings", ["payer", "unsigned", "token", "agent", "customer"])
def test_every_request_for_a_source_carries_them(bucket, local, tmp_path, settings):
    """Documents, listings, coordinates and chunks alike; but for Icechunk's read, which is left out."""
    bucket.upload(local, "air.zarr")
    given, headers = ENCRYPTION[settings]
    refreeze.ingest(
        "s3://bucket/air.zarr",
        tmp_path / "repo",
        source_options={**bucket.options, **given},
        no_read_check=settings in {"unsigned", "agent"},
    )
    chunks = ("/air/c/", "/deep/c/")  # which array is listed first is not fixed
    assert any(chunk in request.path for request in bucket.requests for chunk in chunks)
    for request in bucket.requests:
        for name, value in headers.items():
            if not (request.is_list and "customer" in name):
                assert request.headers.get(name) == value, (request, name)


def test_what_readers_cannot_find_is_warned_about(bucket, local, tmp_path):
    """Icechunk's configuration has no place for a customer's key: the report names the setting."""
    bucket.upload(local, "air.zarr")
    given, _ = ENCRYPTION["customer"]
    options = {**bucket.options, **given}
    report = refreeze.ingest("s3://bucket/air.zarr", tmp_path / "repo", source_options=options)
    assert any("sse_customer_key_base64" in warning for warning in report.warnings)
    assert CUSTOMER_KEY not in json.dumps(report.to_dict())
    report = refreeze.ingest(local, "s3://bucket/repo", target_options=options)
    assert any("readers of the repository" in warning for warning in report.warnings)


def test_an_option_wins_over_the_environment(bucket, local, monkeypatch):
    """Also over variables that object_store prefers, and over client settings, one by one."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_REGION", "nowhere-1")
    monkeypatch.setenv("AWS_USER_AGENT", "from-the-environment")
    options = {name: value for name, value in bucket.options.items() if name != "region"}
    options |= {"default_region": "eu-west-9"}
    refreeze.ingest(local, "s3://bucket/repo", target_options=options)
    for request in bucket.requests:
        assert "/eu-west-9/s3/" in request.headers["authorization"]
        assert request.headers["user-agent"] == "from-the-environment"


@pytest.mark.parametrize("value", ["disabled", "dynamo"])
def test_conditional_writes_cannot_be_switched_off(local, bucket, value):
    """Commits would be lost; refused from the environment too."""
    done = run("ingest", local, "s3://bucket/repo", env={"AWS_CONDITIONAL_PUT": value})
    assert done.code == 2
    assert "AWS_CONDITIONAL_PUT" in done.err
