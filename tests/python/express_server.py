"""A model of a directory bucket of S3 Express: pages in no order, prefixes that end in a slash, no start-after.

Objects are those of `bucket_server`; only what its listings are like is here.
"""

from __future__ import annotations

from contextlib import contextmanager
from hashlib import sha256
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit
from xml.sax.saxutils import escape

from bucket_server import LONG_AGO, Bucket, running, tag

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bucket_server import Request

__all__ = ["DIRECTORY_BUCKET", "express"]

DIRECTORY_BUCKET = "data--use1-az4--x-s3"
_PAGE = 1000


@contextmanager
def express() -> Iterator[Bucket]:
    """Serve an empty directory bucket until the context is left."""
    bucket = Bucket(DIRECTORY_BUCKET)
    bucket.answers = lambda request: _answer(bucket, request)
    with running(bucket):
        yield bucket


def _answer(bucket: Bucket, request: Request) -> tuple[int, dict[str, str], bytes] | None:
    query = urlsplit(request.path).query
    if not request.is_list:
        return None
    asked = {name: values[0] for name, values in parse_qs(query).items()}
    prefix = asked.get("prefix", "")
    if (prefix and not prefix.endswith("/")) or "start-after" in asked:
        return 400, {}, b"<Error><Code>InvalidRequest</Code></Error>"
    found: dict[str, str] = {}
    for key, body in bucket.objects.items():
        if not key.startswith(prefix):
            continue
        head, between, _ = key[len(prefix) :].partition(asked.get("delimiter", "\0"))
        if between:
            folder = f"{prefix}{head}{between}"
            found[folder] = f"<CommonPrefixes><Prefix>{escape(folder)}</Prefix></CommonPrefixes>"
        else:
            found[key] = (
                f"<Contents><Key>{escape(key)}</Key><Size>{len(body)}</Size><ETag>{tag(body)}</ETag>"
                f"<LastModified>{bucket.times.get(key, LONG_AGO)}</LastModified></Contents>"
            )
    unordered = sorted(found, key=lambda key: sha256(key.encode()).digest())
    start = int(asked.get("continuation-token", 0))
    page = "".join(found[key] for key in unordered[start : start + _PAGE])
    more = start + _PAGE < len(unordered)
    token = f"<NextContinuationToken>{start + _PAGE}</NextContinuationToken>" if more else ""
    listing = (
        f"<ListBucketResult><IsTruncated>{str(more).lower()}</IsTruncated>{token}{page}"
        "</ListBucketResult>"
    )
    return 200, {}, listing.encode()
