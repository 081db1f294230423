"""Nothing that a server repeats, and no secret that a user gives, is printed, logged or raised."""

import json
import logging
from urllib.parse import quote

import pytest
from obspec_utils.registry import ObjectStoreRegistry
from obstore.store import S3Store

import refreeze
from refreeze.exceptions import AccessError, RefreezeError
from refreeze.stores.resolve import resolve_source
from refreeze.stores.s3_settings import SECRET_SETTINGS, SETTINGS
from scenarios import run, write_store

SECRETS = {
    "access_key_id": "AKIAHOSTILE/EXAMPLE",
    "secret_access_key": "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
    "session_token": "IQoJb3JpZ2luX2VjE/with+odd=characters&more",
}
BODY_MARK = "only-in-the-body"

VERBS = [
    ("plan", "{source}"),
    ("list", "{source}/air"),
    ("ingest", "{source}", "{target}"),
    ("ingest", "{local}", "{target}"),
    ("status", "{target}"),
    ("publish", "{target}"),
]


def echo_text(request):
    """Repeat the request in plain text, head and all."""
    head = "\n".join(f"{name}: {value}" for name, value in request.headers.items())
    return f"Bad request\n\n{BODY_MARK} {request.method} {request.path}\n\n{head}\n".encode()


def echo_json(request):
    """Repeat the request in a document of JSON."""
    document = {"request": {"headers": request.headers, "path": request.path, "mark": BODY_MARK}}
    return json.dumps(document).encode()


def echo_html(request):
    """Repeat the request in a page."""
    return f"<html><body><pre>{echo_text(request).decode()}</pre></body></html>".encode()


def echo_message(request):
    """Repeat the token in the message of an error document."""
    token = request.headers.get("x-amz-security-token", "")
    escaped = token.replace("&", "&amp;")
    return (
        "<Error><Code>InvalidToken</Code>"
        f"<Message>The token {escaped} is malformed: {quote(token, safe='')}</Message>"
        f"<Token>{BODY_MARK}</Token></Error>"
    ).encode()


ANSWERS = {
    "text": (400, "text/plain", echo_text),
    "json": (403, "application/json", echo_json),
    "html": (401, "text/html", echo_html),
    "message": (400, "application/xml", echo_message),
}


@pytest.fixture
def local(tmp_path):
    return write_store(tmp_path / "air.zarr")


def hostile(bucket, kind):
    status, content_type, body = ANSWERS[kind]
    bucket.answers = lambda request: (status, {"Content_Type": content_type}, body(request))


def assert_silent(text, mark=BODY_MARK):
    """Assert that no secret is in a text, however it may have been written."""
    assert mark not in text, text
    for secret in SECRETS.values():
        for spelling in (secret, quote(secret, safe=""), secret.replace("&", "&amp;"), secret[:14]):
            assert spelling not in text, text


@pytest.mark.parametrize(
    ("verb", "kind"),
    [(verb, "text") for verb in VERBS] + [(verb, kind) for verb in VERBS[2:4] for kind in ANSWERS],
    ids=lambda part: part if isinstance(part, str) else " ".join(part),
)
def test_what_a_server_says_is_not_printed(bucket, local, verb, kind):
    """Whatever body an error has: of all that is printed, code and message of known documents."""
    hostile(bucket, kind)
    places = {"source": "s3://bucket/air.zarr", "target": "s3://bucket/repo", "local": local}
    options = {**bucket.options, **SECRETS}
    arguments = [part.format(**places) for part in verb]
    for name, value in options.items():
        if verb[1].startswith("{source"):
            arguments += ["--source-option", f"{name}={value}"]
        if "{target}" in verb:
            arguments += ["--target-option", f"{name}={value}"]
    done = run(*arguments, "--json", "--log-level", "debug")
    assert done.code == 1, done
    error = json.loads(done.out)["error"]
    assert error["type"] != "InternalError"
    assert_silent(done.out + done.err)
    assert bucket.requests
    if kind == "message":
        assert "InvalidToken: The token *** is malformed" in error["message"]
    else:
        assert str(ANSWERS[kind][0]) in error["message"]


@pytest.mark.parametrize("kind", ANSWERS)
@pytest.mark.parametrize("side", ["source", "target"])
def test_what_a_server_says_is_not_raised(bucket, local, caplog, kind, side):
    """Neither an exception, nor any of its causes, nor a log record holds a body or a secret."""
    caplog.set_level(logging.DEBUG)
    hostile(bucket, kind)
    options = {f"{side}_options": {**bucket.options, **SECRETS}}
    source = "s3://bucket/air.zarr" if side == "source" else str(local)
    target = "s3://bucket/repo" if side == "target" else local.parent / "repo"
    with pytest.raises(RefreezeError) as raised:
        refreeze.ingest(source, target, **options)
    error, texts = raised.value, [caplog.text]
    while error is not None:
        texts += [str(error), repr(error), repr(vars(error))]
        error = error.__cause__ or error.__context__
    assert_silent("\n".join(texts))


def test_retried_answers_are_not_printed_either(bucket, local):
    """A page of HTML under 500, which is asked for again, from a store with its own retries."""
    bucket.answers = lambda request: (500, {"Content_Type": "text/html"}, echo_html(request))
    store = S3Store(
        "bucket",
        config={name: value for name, value in bucket.options.items() if name != "allow_http"}
        | SECRETS,
        client_options={"allow_http": True},
        retry_config={"max_retries": 1},
    )
    with pytest.raises(RefreezeError) as raised:
        refreeze.ingest((store, "air.zarr"), local.parent / "repo")
    assert "500" in str(raised.value)
    assert_silent(str(raised.value) + repr(raised.value.__cause__))


@pytest.mark.parametrize("setting", ["access_key_id", "secret_access_key", "session_token"])
@pytest.mark.parametrize("value", ["before\nafter", "before-after\n", "before\u00e4after", "a\rb"])
@pytest.mark.parametrize("side", ["source", "target"])
@pytest.mark.parametrize("how", ["option", "environment"])
def test_a_secret_that_no_request_can_carry(local, capfd, monkeypatch, setting, value, side, how):  # noqa: PLR0917 each of them is a way
    """An AccessError that names the setting and not its value; no panic, no internal error."""
    settings = {"region": "x", "access_key_id": "id-0123", "secret_access_key": "key-0123"}
    if how == "option":
        settings[setting] = value
    else:
        settings.pop(setting, None)
        monkeypatch.setenv(f"AWS_{setting.upper()}", value)
    source = "s3://bucket/air.zarr" if side == "source" else str(local)
    target = "s3://bucket/repo" if side == "target" else local.parent / "repo"
    with pytest.raises(AccessError) as raised:
        refreeze.ingest(source, target, **{f"{side}_options": settings})
    assert setting in str(raised.value).lower()
    assert "before" not in str(raised.value)
    assert "before" not in "".join(capfd.readouterr())


def test_a_provider_of_such_a_secret(bucket, local):
    """What a credential provider gives is checked where it is used."""

    def provider():
        return {
            "access_key_id": "id-0123",
            "secret_access_key": "key-0123",
            "token": "before\nafter",
            "expires_at": None,
        }

    bucket.upload(local, "air.zarr")
    store = S3Store(
        "bucket",
        endpoint=bucket.url,
        region="x",
        client_options={"allow_http": True},
        credential_provider=provider,
    )
    with pytest.raises(AccessError) as raised:
        list(refreeze.list_chunks(store, "air.zarr/air"))
    assert "token" in str(raised.value)
    assert "before" not in str(raised.value)


IN_URL = "pw-in-a-url/0123456789"
URLS = [
    f"file://user:{quote(IN_URL, safe='')}@host/store.zarr",
    f"s3://user:{quote(IN_URL, safe='')}@bucket/store.zarr",
    f"s3://bucket/store.zarr?X-Amz-Signature={quote(IN_URL, safe='')}&X-Amz-Expires=60",
    f"https://user:{quote(IN_URL, safe='')}@host/store.zarr?sig={quote(IN_URL, safe='')}",
    f"ftp://user:{quote(IN_URL, safe='')}@host/store.zarr",
]


@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize("side", ["source", "target"])
def test_credentials_in_urls_are_not_repeated(local, url, side):
    """A URL with user information or a signature is refused, without them."""
    pair = (url, local.parent / "repo") if side == "source" else (local, url)
    done = run("ingest", *pair, "--log-level", "debug", "--json")
    assert done.code in {1, 2}, done
    assert "pw-in-a-url" not in done.out + done.err


def test_credentials_in_the_url_of_a_registry(bucket, local, tmp_path):
    """They get into no report, no reference, no commit and no configuration."""
    bucket.upload(local, "air.zarr")
    store = S3Store(
        "bucket", endpoint=bucket.url, region="x", skip_signature=True,
        client_options={"allow_http": True},
    )  # fmt: skip
    url = f"s3://user:{quote(IN_URL, safe='')}@bucket/air.zarr"
    registry = ObjectStoreRegistry({f"s3://user:{quote(IN_URL, safe='')}@bucket": store})
    source = resolve_source((registry, url))
    assert source.url == "s3://bucket/air.zarr"
    report = refreeze.ingest((registry, url), tmp_path / "repo")
    text = json.dumps(report.to_dict())
    assert "pw-in-a-url" not in text
    assert "user:" not in text


def test_secrets_have_names():
    """Every setting of object_store whose name speaks of a secret is remembered as one."""
    named = {name for name in SETTINGS if any(part in name for part in ("secret", "_key", "token"))}
    no_values = {
        "container_authorization_token_file",
        "sse_bucket_key_enabled",
        "sse_kms_key_id",
        "web_identity_token_file",
    }
    assert named - no_values == set(SECRET_SETTINGS)
