"""What is wrong with a certificate or its key is told by the name of the setting."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import PrivateFormat

from rangeserver.errors import ConfigError
from rangeserver.process.certificates import load_context
from tests.tls import certificate_pem, key_pem, new_key

NO_CERTIFICATE = (
    "server.tls_certificate: the file must hold a certificate in PEM, and after it those that lead "
    "to its issuer"
)
NO_KEY = "server.tls_key: the file must hold a private key in PEM"
ENCRYPTED = (
    "server.tls_key: the key is encrypted: it must be stored without a password, which nobody "
    "could give"
)
KEY = new_key()
CERTIFICATE = certificate_pem(KEY)


def load(directory: Path, certificate: bytes = CERTIFICATE, key: bytes = b"") -> ssl.SSLContext:
    paths = directory / "certificate", directory / "key"
    paths[0].write_bytes(certificate)
    paths[1].write_bytes(key or key_pem(KEY))
    return load_context(*map(str, paths))


def problems(directory: Path, certificate: bytes = CERTIFICATE, key: bytes = b"") -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(directory, certificate, key)
    return caught.value.problems


@pytest.mark.parametrize(
    "written",
    [
        lambda key: key_pem(key),
        lambda key: key_pem(key, form=PrivateFormat.TraditionalOpenSSL),
        lambda key: "Schlüssel\n".encode() + key_pem(key),
    ],
    ids=["PKCS 8", "SEC 1", "with words around it"],
)
def test_what_can_be_used(tmp_path: Path, written: Callable[[object], bytes]) -> None:
    context = load(tmp_path, "Prüfstelle\n".encode() + CERTIFICATE, written(KEY))
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.options & ssl.OP_NO_RENEGOTIATION


def test_an_rsa_key_and_a_chain(tmp_path: Path) -> None:
    key = rsa.generate_private_key(65537, 2048)
    load(tmp_path, certificate_pem(key) + CERTIFICATE, key_pem(key))


def test_both_may_be_in_one_file(tmp_path: Path) -> None:
    path = tmp_path / "both"
    path.write_bytes(key_pem(KEY) + CERTIFICATE)
    load_context(str(path), str(path))


def test_missing_files_are_told_together(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_context(str(tmp_path / "hunter2"), str(tmp_path / "hunter3"))
    assert caught.value.problems == [
        "server.tls_certificate: the file cannot be read: No such file or directory",
        "server.tls_key: the file cannot be read: No such file or directory",
    ]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_is_not_ours(tmp_path: Path) -> None:
    load(tmp_path)
    (tmp_path / "key").chmod(0)
    with pytest.raises(ConfigError, match="tls_key: the file cannot be read: Permission"):
        load_context(str(tmp_path / "certificate"), str(tmp_path / "key"))


@pytest.mark.parametrize("kind", ["directory", "pipe", "NUL"])
def test_what_is_no_file(tmp_path: Path, kind: str) -> None:
    load(tmp_path)
    path = tmp_path / "other"
    if kind == "directory":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    name = "a\0b" if kind == "NUL" else str(path)
    with pytest.raises(ConfigError) as caught:
        load_context(str(tmp_path / "certificate"), name)
    assert caught.value.problems == ["server.tls_key: must be the path of a regular file"]


def test_one_in_the_place_of_the_other(tmp_path: Path) -> None:
    assert problems(tmp_path, key_pem(KEY), CERTIFICATE) == [
        "server.tls_certificate: the file has a private key and no certificate, which must be "
        "there: is it in the place of tls_key?",
        "server.tls_key: the file has a certificate and no private key, which must be there: "
        "is it in the place of tls_certificate?",
    ]


@pytest.mark.parametrize("content", [b"", b"hunter2", b"\xff\x30\x82", CERTIFICATE[:200]])
def test_no_certificate(tmp_path: Path, content: bytes) -> None:
    assert problems(tmp_path, certificate=content) == [NO_CERTIFICATE]


def test_a_damaged_one_behind_a_good_one(tmp_path: Path) -> None:
    damaged = CERTIFICATE.replace(b"\nMI", b"\nMX")
    assert problems(tmp_path, certificate=CERTIFICATE + damaged) == [NO_CERTIFICATE]


@pytest.mark.parametrize("content", [b"hunter2", b"\xff\x30\x82"])
def test_no_key(tmp_path: Path, content: bytes) -> None:
    assert problems(tmp_path, key=content) == [NO_KEY]


def test_a_damaged_key(tmp_path: Path) -> None:
    damaged = key_pem(KEY).replace(b"\nMI", b"\nMX")
    assert problems(tmp_path, key=damaged) == [f"{NO_KEY}, and what it holds is damaged"]


@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
def test_an_encrypted_key_asks_nobody(tmp_path: Path, form: PrivateFormat) -> None:
    assert problems(tmp_path, key=key_pem(KEY, b"hunter2", form)) == [ENCRYPTED]


@pytest.mark.parametrize("other", [new_key(), rsa.generate_private_key(65537, 2048)])
def test_a_key_of_another_certificate(tmp_path: Path, other: rsa.RSAPrivateKey) -> None:
    assert problems(tmp_path, key=key_pem(other)) == [
        "server.tls_key: must belong to the first certificate in tls_certificate, and does not"
    ]


def test_a_key_that_is_too_short_to_be_safe(tmp_path: Path) -> None:
    key = rsa.generate_private_key(65537, 1024)
    assert problems(tmp_path, certificate_pem(key), key_pem(key)) == [
        "server.tls_certificate: OpenSSL takes only what is safe by its settings, and says: "
        "ee key too small"
    ]
