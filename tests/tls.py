"""Certificates that are made when they are needed, and a client that sees how TLS ends."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from tests.support import RawClient

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: Key, password: bytes = b"", form: PrivateFormat = PrivateFormat.PKCS8) -> bytes:
    encryption = BestAvailableEncryption(password) if password else NoEncryption()
    return key.private_bytes(Encoding.PEM, form, encryption)


def certificate_pem(
    key: Key, name: str = "test", *, address: str = "127.0.0.1", days: tuple[int, int] = (-1, 1)
) -> bytes:
    """A certificate for loopback that its key has signed, valid between two days from now."""
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + datetime.timedelta(days=days[0]))
        .not_valid_after(now + datetime.timedelta(days=days[1]))
        .add_extension(names, critical=False)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(Encoding.PEM)


def tls_files(directory: Path, name: str = "test", **certificate: Any) -> dict[str, str]:
    """A new certificate and its key in files, and the settings that name them."""
    key = new_key()
    paths = {
        "tls_certificate": directory / "certificate.pem",
        "tls_key": directory / "key.pem",
    }
    paths["tls_certificate"].write_bytes(certificate_pem(key, name, **certificate))
    paths["tls_key"].write_bytes(key_pem(key))
    return {setting: str(path) for setting, path in paths.items()}


def trusting(settings: Mapping[str, object]) -> ssl.SSLContext:
    """A client's context that trusts the certificate in ``tls_files``, and nothing else."""
    return ssl.create_default_context(cafile=str(settings["tls_certificate"]))


def server_tls() -> ssl.SSLContext:
    """A server's context with a certificate that it gave itself."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as directory:
        files = tls_files(Path(directory))
        context.load_cert_chain(files["tls_certificate"], files["tls_key"])
    return context


def client_tls() -> ssl.SSLContext:
    """A client's context that believes every server."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@dataclass(slots=True, eq=False)
class TlsClient(RawClient):
    """A connection over TLS. ``ended_well``: the server said close_notify."""

    tls: ssl.SSLObject = field(init=False)
    incoming: ssl.MemoryBIO = field(default_factory=ssl.MemoryBIO)
    outgoing: ssl.MemoryBIO = field(default_factory=ssl.MemoryBIO)
    ended_well: bool = False

    @classmethod
    async def open(
        cls, port: int, context: ssl.SSLContext, *, receive_buffer: int | None = None
    ) -> Self:
        """Connect and shake hands. Raises ``SSLError``, ``EOFError`` when the server hangs up."""
        client = await cls.connect(port, receive_buffer=receive_buffer)
        try:
            await client.shake_hands(context)
        except BaseException:
            client.close()
            raise
        return client

    async def shake_hands(self, context: ssl.SSLContext) -> None:
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname="127.0.0.1")
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                await self.flush()
                data = await RawClient.receive_more(self)
                if not data:
                    raise EOFError from None
                self.incoming.write(data)
            except ssl.SSLError:
                await self.flush()  # the alert
                raise
            else:
                await self.flush()
                return

    async def flush(self) -> None:
        """Send what TLS has to say."""
        await RawClient.send(self, self.outgoing.read())

    async def send(self, data: bytes) -> None:
        while data:
            data = data[self.tls.write(data) :]
        await self.flush()

    async def receive_more(self, at_most: int = 65536) -> bytes:
        while True:
            try:
                data = self.tls.read(at_most)
            except ssl.SSLWantReadError:
                more = await RawClient.receive_more(self)
                if not more:
                    return b""
                self.incoming.write(more)
            except ssl.SSLZeroReturnError:  # both have said close_notify
                self.ended_well = True
                return b""
            else:
                self.ended_well = self.ended_well or not data
                return data

    async def end(self) -> None:
        """Say close_notify and nothing more, but listen on."""
        try:
            self.tls.unwrap()
        except ssl.SSLWantReadError:
            await self.flush()
