# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the mai.fleet collection
"""The clients' certificates, which dehydrated gets from an ACME certificate authority.

dehydrated runs once for all clients, here and from its daily timer alike. It goes on after a domain
that failed, so what became of each is read from its output and, above all, from the disk.
"""

from __future__ import annotations

import datetime
import re
import shutil
import ssl
import subprocess
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.mai.fleet.plugins.module_utils._api.haproxy import Places, run
from ansible_collections.mai.fleet.plugins.module_utils._atomic import write_atomically
from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError

#: When to renew: the same as in dehydrated's configuration.
RENEW = datetime.timedelta(days=30)

# Each certificate takes some seconds.
_TIMEOUT = 1800.0
_ATTEMPTS = 5
# For the daily timer, which may be at it.
_PATIENCE = 600
_NONCE = re.compile(r"badNonce|anti-replay nonce")
_END = re.compile(r"^notAfter=(.*)$", re.MULTILINE)
_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)


@dataclass(frozen=True)
class Certificate:
    """A certificate that lies where HAProxy reads it."""

    ends: datetime.datetime
    domains: frozenset[str]
    der: bytes

    def good(self, domain: str, left: datetime.timedelta = datetime.timedelta()) -> bool:
        """Whether it is for the domain and has that much time left."""
        now = datetime.datetime.now(datetime.timezone.utc)
        return domain in self.domains and self.ends - now > left


class Certificates:
    """The certificates of one server's clients. All methods raise :class:`FleetError` only."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._list = places.keep / "domains.txt"
        # By their text: openssl is asked once for each.
        self._known: dict[str, Certificate | None] = {}

    def read(self, client: str) -> Certificate | None:
        """A client's certificate, None where there is none that can be read."""
        path = self._path(client)
        try:
            text = path.read_text(encoding="ascii")
        except (OSError, ValueError):
            return None
        if text not in self._known:
            self._known[text] = _parse(path, text)
        return self._known[text]

    def listed(self) -> dict[str, str]:
        """The domains that are to have a certificate, by client."""
        try:
            lines = self._list.read_text(encoding="utf-8").splitlines()
        except OSError:
            return {}
        pairs = (line.partition(" > ") for line in lines if " > " in line)
        return {client: domain for domain, _arrow, client in pairs}

    def keep_list(self, domains: Mapping[str, str]) -> None:
        """Let the daily timer look after these domains, by client, and no others."""
        try:
            write_atomically(str(self._list), _lines(domains).encode("utf-8"), 0o600)
        except OSError as error:
            raise FleetError(
                f"cannot be written: {error.strerror}", str(self._list), "make room and run again"
            ) from None

    def broken(self, client: str) -> bool:
        """Whether something lies in the certificate's place that HAProxy would not start with."""
        return self._path(client).exists() and not _loads(self._path(client))

    def mend(self) -> list[str]:
        """Put what dehydrated has in the place of broken files, or nothing.

        A single one of them keeps HAProxy from starting, so this concerns all clients.

        :return: the files that were broken
        """
        broken = [file for file in self._places.certificates.glob("*.pem") if not _loads(file)]
        for file in broken:
            own = self._own(file.stem)
            try:
                parts = [(own / part).read_bytes() for part in ("privkey.pem", "fullchain.pem")]
                write_atomically(str(file), b"".join(parts), 0o600)
            except OSError:
                pass
            if not _loads(file):
                file.unlink(missing_ok=True)
                # With what cannot be read, dehydrated would not get another one either.
                if not _loads(own / "fullchain.pem", own / "privkey.pem"):
                    shutil.rmtree(own, ignore_errors=True)
        return sorted(map(str, broken))

    def remove(self, client: str) -> None:
        """Forget a client's certificate and its private key."""
        self._path(client).unlink(missing_ok=True)
        shutil.rmtree(self._own(client), ignore_errors=True)

    def request(self, domains: Mapping[str, str]) -> dict[str, str]:
        """Get certificates that are missing or due, and no others.

        :param domains: by client
        :return: why there is none, by domain
        """
        # There is room in the folder of what runs, also when the disk is full.
        with tempfile.NamedTemporaryFile("w", dir=self._places.run, prefix="due-") as due:
            due.write(_lines(domains))
            due.flush()
            try:
                return self._request(set(domains.values()), due.name)
            except FleetError as error:
                # Some of them may be there. The disk says which.
                return dict.fromkeys(domains.values(), str(error))

    def _request(self, domains: Collection[str], due: str) -> dict[str, str]:
        # Its own lock would outlive a run that dies; this one ends with who has it.
        lock = ["flock", "--no-fork", "--timeout", str(_PATIENCE)]
        lock.append(str(self._places.run / "acme.lock"))
        acme = ["dehydrated", "--no-lock", "--config", str(self._places.home / "acme.conf")]
        command = [*lock, *acme]
        registered = self._patiently([*command, "--register", "--accept-terms"])
        if registered.returncode != 0:
            return dict.fromkeys(domains, _reason(registered.stdout))
        cron = ["--cron", "--keep-going", "--domains-txt", due]
        return reasons(self._patiently([*command, *cron]).stdout, domains)

    def _patiently(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        """A certificate authority may refuse a nonce for no reason (RFC 8555, section 6.5)."""
        for _attempt in range(_ATTEMPTS):
            done = run(command, _TIMEOUT)
            if done.returncode == 0 or not _NONCE.search(done.stdout):
                break
        return done

    def _path(self, client: str) -> Path:
        return self._places.certificates / f"{client}.pem"

    def _own(self, client: str) -> Path:
        """Where dehydrated has it."""
        return self._places.keep / "certs" / client


def _lines(domains: Mapping[str, str]) -> str:
    """What dehydrated reads."""
    return "".join(f"{domain} > {client}\n" for client, domain in sorted(domains.items()))


def _loads(certificate: Path, key: Path | None = None) -> bool:
    """Whether they can be served: a certificate, those above it, and the key that fits."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key, password="")
    except (OSError, ValueError):
        return False
    return True


def _parse(path: Path, text: str) -> Certificate | None:
    # The key comes first, then the client's own certificate, then those above it.
    own = _PEM.search(text)
    if own is None:
        return None
    command = ["openssl", "x509", "-noout", "-enddate", "-ext", "subjectAltName"]
    said = run([*command, "-in", str(path)])
    found = _END.search(said.stdout)
    if found is None:
        return None
    ends = datetime.datetime.strptime(found[1], "%b %d %H:%M:%S %Y GMT")
    return Certificate(
        ends.replace(tzinfo=datetime.timezone.utc),
        frozenset(re.findall(r"DNS:([^,\s]+)", said.stdout)),
        ssl.PEM_cert_to_DER_cert(own[0]),
    )


def reasons(output: str, domains: Collection[str]) -> dict[str, str]:
    """Why dehydrated got no certificate, by domain; a domain that is well is not in it."""
    head, *parts = re.split(r"^Processing ", output, flags=re.MULTILINE)
    if not parts and "ERROR" in head:
        return dict.fromkeys(domains, _reason(head))
    found = {}
    for part in parts:
        # The first line is the domain, and with other names of it `DOMAIN with alternative ...`.
        domain = part.split(maxsplit=1)[0]
        if domain in domains and "ERROR" in part:
            found[domain] = _reason(part)
    return found


def _reason(output: str) -> str:
    """The error in dehydrated's output, which may go on in JSON over many lines."""
    detail = re.search(r'"detail":?"?\]?\s*"([^"]+)"', output)
    error = re.search(r"ERROR: (.*)", output)
    parts = [match[1].strip() for match in (error, detail) if match]
    return ": ".join(parts) or output.strip()[-200:] or "dehydrated is at it and does not end"
