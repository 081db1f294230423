"""Sources and targets on a local disk and on S3, for tests that go from each to each."""

import os

import icechunk
import obstore

from stores_for_tests import open_result


class Place:
    """A server with a bucket, and how to read from it with the icechunk wheel."""

    def __init__(self, server, bucket):
        self.server, self.bucket = server, bucket
        self.options = server.options
        self.credentials = icechunk.s3_credentials(
            access_key_id=server.access_key_id, secret_access_key=server.secret_access_key
        )

    def url(self, key):
        return f"s3://{self.bucket}/{key}"

    def storage(self, prefix):
        """Storage of the AWS SDK, as users make it."""
        return icechunk.s3_storage(
            bucket=self.bucket,
            prefix=prefix,
            region=self.server.region,
            endpoint_url=self.server.endpoint,
            allow_http=True,
            force_path_style=True,
            access_key_id=self.server.access_key_id,
            secret_access_key=self.server.secret_access_key,
        )

    def write(self, files):
        """Put objects: as files, where the server keeps them so.

        In whole seconds, as S3 has them.
        """
        if self.server.kind == "versitygw":
            for key, content in files.items():
                path = self.server.root / self.bucket / key
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
                seconds = int(path.stat().st_mtime)
                os.utime(path, (seconds, seconds))
        else:
            for key, content in files.items():
                obstore.put(self.server.store(self.bucket), key, content)

    def upload(self, folder, prefix):
        """Copy a folder and return its URL."""
        start = f"{prefix}/" if prefix else ""
        files = (file for file in folder.rglob("*") if file.is_file())
        self.write(
            {f"{start}{file.relative_to(folder).as_posix()}": file.read_bytes() for file in files}
        )
        return self.url(prefix)

    def read(self, report, target):
        """Open a result whose source is on this server."""
        storage = self.storage(target) if report.target.startswith("s3://") else None
        return open_result(report, storage, self.credentials)
