"""An S3-compatible server on loopback: moto's, in a thread of the test process."""

from __future__ import annotations

import itertools
import logging
import urllib.request
from types import TracebackType
from typing import Self

SECRET = "planted-secret-3f9c1e"
"""The secret key of every test: no log, command line or report may hold it."""


def credentials() -> dict[str, str]:
    """Environment of whoever talks to the server; the machine's own role is not asked for."""
    return {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


class S3Server:
    """The server; buckets are made by plain HTTP requests, which it doesn't check."""

    def __enter__(self) -> Self:
        from moto.server import ThreadedMotoServer

        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        self._server.start()
        self._names = itertools.count()
        _, self.port = self._server.get_host_and_port()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.stop()

    def new_bucket(self) -> str:
        """Make an empty bucket; returns a prefix in it, as a study's ``storage`` names it."""
        name = f"bucket-{next(self._names)}"
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/{name}", method="PUT")
        urllib.request.urlopen(request).close()
        return self.address(name)

    def address(self, bucket: str) -> str:
        """A prefix in a bucket that need not exist."""
        options = f"scheme=http&endpoint_override=127.0.0.1:{self.port}&region=us-east-1"
        return f"s3://{bucket}/studies/of/mine?{options}"
