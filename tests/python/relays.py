"""What stands between a client and a server in companies: TLS with a certificate authority of their own, and proxies.

Both are relays to a server that is there already, and count what they let pass.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import socket
import ssl
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class Authority:
    """A certificate authority that nobody knows, and a certificate of it for this machine."""

    def __init__(self, folder: Path) -> None:
        own, server = (
            ec.generate_private_key(ec.SECP256R1()),
            ec.generate_private_key(ec.SECP256R1()),
        )
        root = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "An authority of tests")])
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
        names = x509.SubjectAlternativeName(
            [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        )
        certificate = _certificate(root, root, own.public_key(), ca=True).sign(own, hashes.SHA256())
        leaf = _certificate(name, root, server.public_key(), ca=False).add_extension(names, False)
        self.file = folder / "authority.pem"
        """Its certificate, for those who are to trust it."""
        self.file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        self._chain, self._key = folder / "server.pem", folder / "server.key"
        self._chain.write_bytes(
            leaf.sign(own, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        )
        self._key.write_bytes(
            server.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )

    def context(self) -> ssl.SSLContext:
        """Return what a server needs."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._chain, self._key)
        return context


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, *, ca: bool
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    day = dt.timedelta(days=1)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - day)
        .not_valid_after(now + day)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )


class Relay:
    """A relay on a free loopback port."""

    def __init__(self, listener: socket.socket) -> None:
        self.port = listener.getsockname()[1]
        self.passed: list[str] = []
        """Of each connection what was asked of the relay: a method and a target."""
        self.headers: list[str] = []
        """Of each plain request to a proxy its headers, in small letters."""


@contextmanager
def tls(url: str, authority: Authority) -> Iterator[Relay]:
    """Stand before a server of plain HTTP, and speak TLS."""
    there = urlsplit(url)
    context = authority.context()

    def each(relay: Relay, client: socket.socket) -> None:
        with context.wrap_socket(client, server_side=True) as secure:
            relay.passed.append("TLS")
            with socket.create_connection((there.hostname, there.port)) as server:
                _join(secure, server)

    yield from _serving(each)


@contextmanager
def proxy(authority: Authority | None = None) -> Iterator[Relay]:
    """Forward plain requests, and tunnels to what is asked for by CONNECT; with an authority, speak TLS to clients."""
    context = authority.context() if authority else None

    def each(relay: Relay, client: socket.socket) -> None:
        if context:
            with context.wrap_socket(client, server_side=True) as secure:
                forward(relay, secure)
        else:
            forward(relay, client)

    def forward(relay: Relay, client: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            more = client.recv(1 << 16)
            if not more:
                return
            head += more
        method, target, version = head.split(b"\r\n", 1)[0].decode().split()
        relay.passed.append(f"{method} {target}")
        parts = urlsplit(f"//{target}" if method == "CONNECT" else target)
        with socket.create_connection((parts.hostname, parts.port or 80)) as server:
            if method == "CONNECT":
                client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            else:
                # One request a connection, so that each is counted.
                path = target.split("/", 3)[3]
                rest = head.split(b"\r\n", 1)[1]
                relay.headers.append(rest.partition(b"\r\n\r\n")[0].decode().lower())
                server.sendall(
                    f"{method} /{path} {version}\r\nConnection: close\r\n".encode() + rest
                )
            _join(client, server)

    yield from _serving(each)


def _serving(each: Callable[[Relay, socket.socket], None]) -> Iterator[Relay]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        relay = Relay(listener)

        def one(client: socket.socket) -> None:
            with client, suppress(OSError):
                each(relay, client)

        def accept() -> None:
            with suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    threading.Thread(target=one, args=(client,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield relay
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)


def _join(one: socket.socket, other: socket.socket) -> None:
    """Carry bytes both ways until either side has ended."""
    back = threading.Thread(target=_carry, args=(other, one), daemon=True)
    back.start()
    _carry(one, other)
    back.join()


def _carry(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(1 << 16):
            sink.sendall(data)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
