"""TLS before a server that has none: certificates of ours, and a port that passes on what it decrypts."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class Authority:
    """Who signs certificates; ``file`` is its own, for those who shall trust it."""

    file: Path
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


@dataclass(frozen=True)
class Identity:
    """A certificate and its key, as files."""

    certificate: Path
    key: Path


def authority(folder: Path, name: str = "ca") -> Authority:
    """A new one, whose file is in ``folder``."""
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _signed(name, key, name, key, x509.BasicConstraints(ca=True, path_length=0))
    file = folder / f"{name}.pem"
    file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return Authority(file, certificate, key)


def identity(folder: Path, host: str, by: Authority) -> Identity:
    """A certificate for ``host`` that ``by`` signed."""
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = by.certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
    certificate = _signed(host, key, str(issuer), by.key, x509.SubjectAlternativeName([x509.DNSName(host)]))
    found = Identity(folder / f"{host}.pem", folder / f"{host}.key")
    found.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    found.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return found


def _signed(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: str,
    by: ec.EllipticCurvePrivateKey,
    extension: x509.ExtensionType,
) -> x509.Certificate:
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
        .add_extension(_usage(signs=isinstance(extension, x509.BasicConstraints)), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(by.public_key()), critical=False)
    )
    return builder.sign(by, hashes.SHA256())


def _usage(*, signs: bool) -> x509.KeyUsage:
    """What a key is for; newer releases of Python refuse an authority that does not say so."""
    return x509.KeyUsage(
        digital_signature=not signs,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


@contextmanager
def tls_front(port: int, who: Identity, clients: Authority | None = None) -> Iterator[int]:
    """A port of 127.0.0.1 that speaks TLS as ``who`` and passes on to ``port``. With ``clients`` only those
    are let in that have a certificate which it signed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(who.certificate, who.key)
    if clients is not None:
        context.load_verify_locations(clients.file)
        context.verify_mode = ssl.CERT_REQUIRED
    with socket.create_server(("127.0.0.1", 0)) as listening:
        accepting = threading.Thread(target=_accept, args=(listening, context, port), daemon=True)
        accepting.start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)  # closing it alone would not wake who accepts
        accepting.join(10)


def _accept(listening: socket.socket, context: ssl.SSLContext, port: int) -> None:
    while True:
        try:
            incoming, _ = listening.accept()
        except OSError:
            return
        threading.Thread(target=_serve, args=(incoming, context, port), daemon=True).start()


def _serve(incoming: socket.socket, context: ssl.SSLContext, port: int) -> None:
    with (
        suppress(OSError),  # a handshake that fails is one, too
        incoming,
        context.wrap_socket(incoming, server_side=True) as secure,
        socket.create_connection(("127.0.0.1", port)) as behind,
    ):
        back = threading.Thread(target=_pump, args=(behind, secure), daemon=True)
        back.start()
        _pump(secure, behind)
        back.join(10)


def _pump(source: socket.socket, into: socket.socket) -> None:
    with suppress(OSError):
        while piece := source.recv(65536):
            into.sendall(piece)
    with suppress(OSError):
        into.shutdown(socket.SHUT_RDWR)
