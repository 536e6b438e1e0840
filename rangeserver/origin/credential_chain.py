"""One lookup of credentials through AWS's whole chain, away from the event loop.

The chain reads files, runs programs, asks the metadata service and makes STS clients; much of that
blocks, and any of it may hang. So each lookup has a thread and an event loop of its own, and no
state of earlier ones: it finds what a rotated file or STS says now. The thread is a daemon: if it
hangs, neither requests nor the end of the process wait for it. There is never a second one.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from json import JSONDecodeError
from typing import Any, NoReturn

from aiobotocore.session import AioSession
from botocore import exceptions as boto
from botocore.credentials import ReadOnlyCredentials

from rangeserver.errors import ConfigError, NoCredentials, NoneFound
from rangeserver.origin.identity import principal

_THREAD = "credentials"

_GRACE_SECONDS = 1.0
"""For a stopped lookup to close what it has open."""

_MAX_REASON = 300
"""Characters of a foreign message that may reach the log."""

_NONE_FOUND = (
    "no credentials found: environment, profile, web identity, container and instance role "
    "give none"
)

# Waiting does not help: a file or a variable has to be changed.
_UNUSABLE = (
    boto.ProfileNotFound,
    boto.ConfigParseError,
    boto.InvalidConfigError,
    boto.PartialCredentialsError,
    boto.UnknownCredentialError,
    boto.MissingDependencyException,
    boto.InvalidIMDSEndpointError,
    boto.InvalidIMDSEndpointModeError,
    ValueError,
)


@dataclass(frozen=True, slots=True)
class FoundCredentials:
    """What a lookup found. ``expires`` is in seconds since 1970, ``None`` for never."""

    keys: ReadOnlyCredentials
    expires: float | None
    method: str
    """Botocore's name of the source: ``env``, ``iam-role``, ..."""
    whose: str = ""
    """Whose they are, the same when keys rotate (:mod:`rangeserver.origin.identity`)."""


class CredentialChain:
    """AWS's chain for one profile (empty: the default one).

    ``region`` is for STS, if neither environment nor profile name one. A lookup may take
    ``seconds``. How long it waits for a service, and how often it tries, is left to AWS's settings
    (``AWS_METADATA_SERVICE_TIMEOUT`` and others).
    """

    def __init__(self, profile: str, region: str, seconds: float) -> None:
        self._profile = profile
        self._region = region
        self._seconds = seconds
        self._models: Any = None
        self._last: _Lookup | None = None

    async def resolve(self) -> FoundCredentials:
        """Look for credentials.

        Raises :class:`ConfigError` when the configuration cannot be used, and
        :class:`NoCredentials` when there are none now. No secret is in their texts.
        """
        if self._last is not None and not self._last.ended.done():
            msg = "the look-up of credentials before this one still hangs"
            raise NoCredentials(msg)
        self._last = lookup = _Lookup(self._find, self._seconds)
        try:
            async with asyncio.timeout(self._seconds + _GRACE_SECONDS):
                lookup.start()
                return await asyncio.wrap_future(lookup.ended)
        except (ConfigError, NoCredentials):
            raise
        except TimeoutError:
            msg = f"the look-up of credentials took more than {self._seconds:g} s"
            raise NoCredentials(msg) from None
        except Exception as error:  # noqa: BLE001 (whatever a source raises)
            _refuse(error)

    async def _find(self) -> FoundCredentials:
        session: Any = AioSession(profile=self._profile or None)  # type: ignore[no-untyped-call]
        # botocore's description of STS is megabytes of JSON. Parsing it stops the main event loop
        # too (17 to 90 ms, measured), so it is read once: unlike all else it never changes.
        if self._models is None:
            self._models = session.get_component("data_loader")
        session.register_component("data_loader", self._models)
        if self._region:
            session.set_config_variable("region", self._region)
        for provider in session.get_component("credential_provider").providers:
            if hasattr(provider, "_prompter"):  # getpass: a server has no terminal
                provider._prompter = _no_prompt  # noqa: SLF001 (set by no public way)
        credentials = await session.get_credentials()
        if credentials is None:
            raise NoneFound(_NONE_FOUND)
        # Keys that were fetched just now are used as they are: the public way would fetch them
        # again if they live for less than 15 minutes. Those of roles are not fetched yet.
        keys = getattr(credentials, "_frozen_credentials", None)
        if keys is None:
            keys = await credentials.get_frozen_credentials()
        expiry = getattr(credentials, "_expiry_time", None)  # there is no public way to it
        expires = expiry.timestamp() if expiry is not None else None
        method = str(credentials.method)
        settings = session.get_scoped_config()
        whose = principal(method, keys.access_key, self._profile, settings)
        return FoundCredentials(keys, expires, method, whose)

    async def close(self) -> None:
        """End a running lookup. One that hangs in a blocking call is left behind."""
        if self._last is None or self._last.ended.done():
            return
        self._last.stop()
        ended = asyncio.wrap_future(self._last.ended)
        await asyncio.wait([ended], timeout=_GRACE_SECONDS)
        if ended.done():
            ended.exception()  # retrieved, so that asyncio does not report it
        else:
            ended.cancel()


def _refuse(error: Exception) -> NoReturn:
    reason = _reason(error)
    # Not chained: the traceback is of no use, and the text may hold a secret.
    if isinstance(error, _UNUSABLE) and not isinstance(error, (JSONDecodeError, UnicodeError)):
        raise ConfigError([f"origin: {reason}"]) from None
    raise NoCredentials(reason) from None


def _reason(error: Exception) -> str:
    if isinstance(error, (JSONDecodeError, UnicodeError)):
        return "a source of credentials gave something that is not JSON"
    if isinstance(error, boto.CredentialRetrievalError):
        provider = error.kwargs.get("provider")
        if provider == "custom-process":  # the text is what the program wrote
            return "credential_process failed: run it by hand to see what it says"
    return " ".join(f"no credentials: {error}".split())[:_MAX_REASON]


class _Lookup:
    """A thread for one lookup. ``ended`` is done when it has closed all it opened."""

    def __init__(
        self, find: Callable[[], Coroutine[Any, Any, FoundCredentials]], seconds: float
    ) -> None:
        self.ended: Future[FoundCredentials] = Future()
        self.ended.set_running_or_notify_cancel()  # not cancellable: see stop()
        self._find = find
        self._seconds = seconds
        self._stopped = False
        self._cancel: Callable[[], object] | None = None

    def start(self) -> None:
        try:
            threading.Thread(target=self._run, name=_THREAD, daemon=True).start()
        except RuntimeError as error:  # no more threads
            self.ended.set_exception(error)

    def stop(self) -> None:
        """Make it end soon. Can be called at any time."""
        self._stopped = True
        if self._cancel is not None:
            with suppress(RuntimeError):  # its loop has just been closed
                self._cancel()

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=_Loop) as runner:
                found = runner.run(self._bounded())
        except asyncio.CancelledError:
            self.ended.set_exception(NoCredentials("the look-up of credentials was stopped"))
        except BaseException as error:  # noqa: BLE001 (raised again where it is waited for)
            self.ended.set_exception(error)
        else:
            self.ended.set_result(found)

    async def _bounded(self) -> FoundCredentials:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, _Loop)
        task = asyncio.current_task()
        assert task is not None
        self._cancel = lambda: loop.call_soon_threadsafe(task.cancel)
        if self._stopped:  # before there was a task to cancel
            raise asyncio.CancelledError
        try:
            async with asyncio.timeout(self._seconds):
                return await self._find()
        finally:
            await loop.end_children()


def _no_prompt(*_: object) -> NoReturn:
    raise ConfigError(["origin: the profile asks for an MFA code, and a server has none to give"])


class _Loop(asyncio.SelectorEventLoop):
    """An event loop that can kill the programs it has started (``credential_process``)."""

    def __init__(self) -> None:
        super().__init__()
        self._children: list[asyncio.SubprocessTransport] = []

    async def subprocess_exec(self, *args: Any, **options: Any) -> Any:
        transport, protocol = await super().subprocess_exec(*args, **options)
        self._children.append(transport)
        return transport, protocol

    async def end_children(self) -> None:
        """Kill those that still run, and wait until they have ended."""
        for transport in self._children:
            transport.close()  # kills
        with suppress(TimeoutError):
            async with asyncio.timeout(_GRACE_SECONDS):
                while any(  # noqa: ASYNC110 (there is no public event)
                    child.get_returncode() is None for child in self._children
                ):
                    await asyncio.sleep(0.005)


@contextmanager
def mute_aiobotocore_log() -> Iterator[None]:
    """Stop aiobotocore from logging a failed lookup, with a traceback: we log it ourselves."""
    logger = logging.getLogger("aiobotocore.credentials")

    def from_elsewhere(record: logging.LogRecord) -> bool:
        return record.threadName != _THREAD

    logger.addFilter(from_elsewhere)
    try:
        yield
    finally:
        logger.removeFilter(from_elsewhere)
