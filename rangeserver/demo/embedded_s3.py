"""moto's S3 in a thread of this process, on a loopback port."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

from rangeserver.demo.bucket import BUCKET
from rangeserver.demo.files_on_disk import FilesOnDisk
from rangeserver.demo.paced import Paced

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

_STOP_POLL_SECONDS = 0.05
"""How often the server looks whether it should stop; its default of half a second is felt."""

_STOP_SECONDS = 0.5


class _QuietHandler(WSGIRequestHandler):
    """Writes no line per request: the page shows what happens."""

    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002 (werkzeug's signature)
        """Write nothing."""


@contextmanager
def embedded_s3(files: Mapping[str, Path], bytes_per_second: int) -> Iterator[str]:
    """An empty S3; yields its URL. ``files`` are keys of the demo's bucket served from disk.

    What it holds itself is sent at ``bytes_per_second`` a connection; 0 is no limit.
    """
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    moto: WSGIApplication = cast("WSGIApplication", DomainDispatcherApplication(create_backend_app))
    if bytes_per_second:
        moto = Paced(moto, bytes_per_second)
    app = FilesOnDisk(moto, {f"/{BUCKET}/{key}": path for key, path in files.items()})
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=_QuietHandler)
    # A daemon, as its request threads are: a body that nobody reads must not hold up the end.
    thread = threading.Thread(
        target=server.serve_forever, args=(_STOP_POLL_SECONDS,), name="embedded-s3", daemon=True
    )
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        server.shutdown()
        thread.join(_STOP_SECONDS)
