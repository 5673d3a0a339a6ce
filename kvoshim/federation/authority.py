"""The private certificates of a user's hosts: one authority for all, which lies in the home directory that they share, and a
certificate of each host. Whoever can read them is the user; nobody else's certificate is accepted, by servers or by clients.

    ~/.kvoshim/hosts/authority.pem     the authority's key and certificate: made once, by whichever host comes first
    ~/.kvoshim/hosts/ca.pem            its certificate alone
    ~/.kvoshim/hosts/HOST.pem          key and certificate of a host

Directory 0700, files 0600. They are valid for ever: hosts' clocks may be wrong by any amount, and a key that is to be changed is
changed by removing the directory while no registry runs.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import secrets
import ssl
import stat
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kvoshim.errors import HostsError

NAME = "registry.kvoshim"  # in each certificate: hosts have many addresses, and these change
_FOLDER = "hosts"
_FROM = datetime.datetime(1970, 1, 2)
_TO = datetime.datetime(9999, 12, 31, 23, 59, 59)  # RFC 5280: no end
_FILE_MAX = 65536


@dataclass(frozen=True)
class Identity:
    """Paths. own: this host's key and certificate."""

    authority: str
    own: str

    def context(self) -> ssl.SSLContext:
        """For a client that shows who it is and believes only servers of the same authority."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        try:
            context.load_verify_locations(self.authority)
            context.load_cert_chain(self.own)
        except (OSError, ssl.SSLError) as error:
            raise HostsError(f"the certificates {self.authority} and {self.own} cannot be used: {error}") from None
        return context


def prepare(home: str, host: str) -> Identity:
    """Makes what is missing. home: the directory ~/.kvoshim; host: as its port file is called. HostsError."""
    folder = os.path.join(home, _FOLDER)
    try:
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder, 0o700)
        _check(folder, stat.S_ISDIR, 0o077)
        key, certificate = _authority(os.path.join(folder, "authority.pem"))
        identity = Identity(os.path.join(folder, "ca.pem"), os.path.join(folder, f"{host}.pem"))
        if _contents(identity.authority) != certificate:
            _replace(identity.authority, certificate)
        if not _is_ours(identity.own, certificate):
            _replace(identity.own, _issue(host, key, certificate))
    except OSError as error:
        raise HostsError(f"the certificates in {folder} cannot be read or made: {error.strerror or error}") from error
    except ValueError as error:
        raise HostsError(f"a certificate in {folder} is of no use: {error}; remove the directory to have new ones made") from None
    return identity


def _check(path: str, kind, others: int) -> None:
    facts = os.lstat(path)
    if not kind(facts.st_mode) or facts.st_uid != os.geteuid() or facts.st_mode & others:
        raise HostsError(
            f"{path} is not this user's alone (owner {facts.st_uid}, mode {stat.S_IMODE(facts.st_mode):o}): whoever can read it could "
            "be one of the hosts; remove the directory"
        )


def _contents(path: str) -> bytes:
    """b"" if there is none. HostsError if others may use it."""
    try:
        _check(path, stat.S_ISREG, 0o077)
        with open(path, "rb") as file:
            return file.read(_FILE_MAX)
    except FileNotFoundError:
        return b""


def _write(path: str, data: bytes) -> str:
    """A new file beside this one."""
    new = os.path.join(os.path.dirname(path), f".{secrets.token_hex(8)}.new")
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        os.unlink(new)
        raise
    return new


def _replace(path: str, data: bytes) -> None:
    os.rename(_write(path, data), path)


def _authority(path: str) -> tuple[bytes, bytes]:
    """Key and certificate. Several hosts may begin at once: a link is made by one of them only, on a network's file system too."""
    if not (data := _contents(path)):
        new = _write(path, b"".join(_make_authority()))
        try:
            with contextlib.suppress(FileExistsError):
                os.link(new, path)
        finally:
            os.unlink(new)
        data = _contents(path)
    at = data.find(b"-----BEGIN CERTIFICATE-----")
    if at <= 0:
        raise ValueError(f"{path} holds no key and certificate")
    return data[:at], data[at:]


# --- what is in them ---------------------------------------------


def _make_authority() -> tuple[bytes, bytes]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(f"kvoshim hosts {secrets.token_hex(4)}")
    certificate = (
        _builder(name, name, key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return _pem(key), _certificate_pem(certificate)


def _issue(host: str, authority_key: bytes, authority_certificate: bytes) -> bytes:
    signer = serialization.load_pem_private_key(authority_key, None)
    issuer = x509.load_pem_x509_certificate(authority_certificate)
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        _builder(_name(host[:64]), issuer.subject, key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key()), critical=False)
        .sign(signer, hashes.SHA256())
    )
    return _pem(key) + _certificate_pem(certificate)


def _is_ours(path: str, authority: bytes) -> bool:
    """Whether there is a certificate that this authority has signed."""
    data = _contents(path)
    if not data:
        return False
    try:
        own = x509.load_pem_x509_certificate(data[max(0, data.find(b"-----BEGIN CERTIFICATE-----")) :])
        own.verify_directly_issued_by(x509.load_pem_x509_certificate(authority))
    except (ValueError, TypeError, InvalidSignature):
        return False
    return b"PRIVATE KEY" in data


def _name(text: str):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _builder(subject, issuer, public_key):
    return (
        x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(public_key)
        .serial_number(x509.random_serial_number()).not_valid_before(_FROM).not_valid_after(_TO)
    )  # fmt: skip


def _usage(signs_certificates: bool):
    return x509.KeyUsage(
        digital_signature=True, content_commitment=False, key_encipherment=False, data_encipherment=False, key_agreement=False,
        key_cert_sign=signs_certificates, crl_sign=signs_certificates, encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _pem(key) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def _certificate_pem(certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
