"""S3 clients for a twentieth of their cost: what botocore reads from its files, finds out about
its own event handlers, and trusts where nothing else is said, is the same for all of them, and they
share it here.

Commands that tests start as processes of their own do without.
"""

from __future__ import annotations

import functools
import inspect
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch
from weakref import WeakKeyDictionary

from aiobotocore.httpsession import AIOHTTPSession
from botocore.compat import accepts_kwargs
from botocore.hooks import EVENT_ALIASES, BaseEventHooks, EventAliaser
from botocore.httpsession import get_cert_path
from botocore.loaders import create_loader

shared_loader = functools.cache(create_loader)

_takes_keywords: WeakKeyDictionary[Callable[..., Any], object] = WeakKeyDictionary()
"""By function, and not by method: neither a function nor an object stays for having been asked."""


def read_models() -> None:
    """Read what each client would read, so that it is there before anything is counted."""
    for name, kind in (("s3", "service-2"), ("s3", "endpoint-rule-set-1")):
        shared_loader(None).load_service_model(name, kind)
    for name in ("endpoints", "partitions", "sdk-default-configuration", "_retry"):
        shared_loader(None).load_data(name)


@contextmanager
def cheap_clients() -> Iterator[None]:
    """Let all S3 clients of this process share what is the same for each."""
    with (
        patch("botocore.session.create_loader", shared_loader),
        patch("botocore.hooks.accepts_kwargs", _accepts_kwargs),
        patch.object(EventAliaser, "__init__", _share_aliases),
        patch.object(AIOHTTPSession, "_build_ssl_contexts", _trusted),
    ):
        yield


def _accepts_kwargs(handler: Callable[..., Any]) -> object:
    function = getattr(handler, "__func__", handler)
    if not inspect.isfunction(function):
        return accepts_kwargs(handler)
    if function not in _takes_keywords:
        _takes_keywords[function] = accepts_kwargs(function)
    return _takes_keywords[function]


_aliased: dict[str, str] = {}
_new_aliaser = EventAliaser.__init__


def _share_aliases(
    aliaser: Any, emitter: BaseEventHooks, aliases: Mapping[str, str] | None = None
) -> None:
    _new_aliaser(aliaser, emitter, aliases)
    if aliaser._event_aliases == EVENT_ALIASES:
        aliaser._alias_name_cache = _aliased


_Contexts = tuple[ssl.SSLContext, ssl.SSLContext | None]

_new_contexts: Any = AIOHTTPSession._build_ssl_contexts
_contexts: dict[object, _Contexts] = {}


def _trusted(session: Any, proxy_url: str | None) -> _Contexts:
    """Reading the authorities that a machine trusts takes longer than most tests do."""
    path = get_cert_path(session._verify)
    if not path or session._cert_file or proxy_url:
        own: _Contexts = _new_contexts(session, proxy_url)
        return own
    found = Path(path).stat()
    key = path, found.st_ino, found.st_size, found.st_mtime_ns
    if key not in _contexts:
        _contexts[key] = _new_contexts(session, proxy_url)
    return _contexts[key]
