"""Answers for single objects straight from disk, in front of the embedded S3.

moto reads the whole object for every range of it, which a film does not survive.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from werkzeug.exceptions import RequestedRangeNotSatisfiable
from werkzeug.http import parse_etags
from werkzeug.wrappers import Response
from werkzeug.wsgi import FileWrapper

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

READ_BYTES = 64 * 1024
"""One read of the file; the most that is read beyond a range."""


class FilesOnDisk:
    """A WSGI application that serves some paths from files and leaves the others to ``app``."""

    def __init__(self, app: WSGIApplication, files: Mapping[str, Path]) -> None:
        self._app = app
        self._files = files

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer GET and HEAD of a known path; pass on everything else."""
        # WSGI hands over the bytes of the path as if they were Latin-1 (PEP 3333).
        target = environ["PATH_INFO"].encode("latin-1").decode("utf-8", "replace")
        path = self._files.get(target)
        if path is None or environ["REQUEST_METHOD"] not in {"GET", "HEAD"}:
            return self._app(environ, start_response)
        return _answer(path, environ)(environ, start_response)


class _ClosedFile(FileWrapper):
    """A file that is closed also where werkzeug forgets: when a client leaves with an error."""

    def __del__(self) -> None:
        self.close()


def _answer(path: Path, environ: WSGIEnvironment) -> Response:
    try:
        file = path.open("rb")
    except OSError:
        return Response(status=404)
    facts = os.fstat(file.fileno())
    if environ["REQUEST_METHOD"] == "HEAD":
        file.close()  # of what is not sent, werkzeug closes nothing
    etag = f"{facts.st_mtime_ns:x}-{facts.st_size:x}"
    # werkzeug does not look at If-Match when there is a Range.
    wanted = parse_etags(environ.get("HTTP_IF_MATCH"))
    if wanted and not wanted.contains(etag):
        file.close()
        return Response(status=412)
    response = Response(
        _ClosedFile(file, READ_BYTES), content_type="binary/octet-stream", direct_passthrough=True
    )
    response.content_length = facts.st_size
    response.last_modified = int(facts.st_mtime)  # type: ignore[assignment]
    response.set_etag(etag)
    try:
        return response.make_conditional(environ, accept_ranges=True, complete_length=facts.st_size)
    except RequestedRangeNotSatisfiable:
        file.close()
        return Response(status=416)
