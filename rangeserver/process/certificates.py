"""The certificate of the public listener and its key: from two PEM files to a TLS context.

OpenSSL says "PEM lib" to nearly everything that is wrong with them. So they are looked at first,
one by one. Neither their paths nor anything they hold is told: one may be in the other's place.
"""

from __future__ import annotations

import ssl
import stat
from pathlib import Path

from rangeserver.errors import ConfigError

_FILE_BYTES = 1 << 20
"""No chain of certificates is longer."""

_MISMATCH = {"KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED"}
"""The last one is OpenSSL's word for a key of another kind."""

_CERTIFICATE = "server.tls_certificate"
_KEY = "server.tls_key"


def load_context(certificate: str, key: str) -> ssl.SSLContext:
    """What a server's handshakes need. Blocks. Raises :class:`ConfigError`, naming the setting.

    TLS 1.2 at least, as RFC 9325 §3.1.1 has it, and no renegotiation, which costs a client nothing.
    """
    problems: list[str] = []
    chain_text = _read(certificate, _CERTIFICATE, problems)
    key_text = _read(key, _KEY, problems)
    problems += [*_wrong_certificate(chain_text), *_wrong_key(key_text)]
    if problems:
        raise ConfigError(problems)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except ssl.SSLError as error:
        raise ConfigError([_refusal(error)]) from None
    except OSError as error:  # gone since it was read
        raise ConfigError([f"{_CERTIFICATE}: the files cannot be read: {error.strerror}"]) from None
    return context


def _read(path: str, setting: str, problems: list[str]) -> str | None:
    """The file's text; ``None`` if there is none and the problem was told."""
    try:
        if stat.S_ISREG(Path(path).stat().st_mode):  # a pipe would be waited for without end
            with Path(path).open("rb") as file:
                return file.read(_FILE_BYTES).decode("latin-1")
    except OSError as error:
        problems.append(f"{setting}: the file cannot be read: {error.strerror}")
        return None
    except ValueError:  # a NUL in the path
        pass
    problems.append(f"{setting}: must be the path of a regular file")
    return None


def _wrong_certificate(text: str | None) -> list[str]:
    if text is None:
        return []
    if "-----BEGIN CERTIFICATE-----" not in text and "PRIVATE KEY-----" in text:
        return [
            f"{_CERTIFICATE}: the file has a private key and no certificate, which must be there: "
            "is it in the place of tls_key?"
        ]
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=_ascii(text))
    except (ssl.SSLError, ValueError):
        return [
            f"{_CERTIFICATE}: the file must hold a certificate in PEM, and after it those that "
            "lead to its issuer"
        ]
    return []


def _wrong_key(text: str | None) -> list[str]:
    if text is None or "PRIVATE KEY-----" in text:
        return []
    if "-----BEGIN CERTIFICATE-----" in text:
        return [
            f"{_KEY}: the file has a certificate and no private key, which must be there: "
            "is it in the place of tls_certificate?"
        ]
    return [f"{_KEY}: the file must hold a private key in PEM"]


def _ascii(text: str) -> str:
    """PEM allows any text around its blocks, which Python's reader does not."""
    return text.encode("ascii", "replace").decode()


def _no_password() -> str:
    """Called for a key that is encrypted; without it OpenSSL would ask the terminal."""
    problem = "the key is encrypted: it must be stored without a password, which nobody could give"
    raise ConfigError([f"{_KEY}: {problem}"])


def _refusal(error: ssl.SSLError) -> str:
    reason = error.reason or ""
    if reason in _MISMATCH:
        return f"{_KEY}: must belong to the first certificate in tls_certificate, and does not"
    if "TOO_SMALL" in reason or "TOO_WEAK" in reason:
        text = reason.lower().replace("_", " ")
        return f"{_CERTIFICATE}: OpenSSL takes only what is safe by its settings, and says: {text}"
    return f"{_KEY}: the file must hold a private key in PEM, and what it holds is damaged"
