# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the mai.fleet collection
"""The sites of the clients of one server: one file each, and a certificate.

What is served counts: a site is done when somebody who visits it on this server gets the
certificate that lies on the disk, and an answer of the instance. That is the gate `site`.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import socket
import tempfile
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.mai.fleet.plugins.module_utils._api.haproxy import (
    PLACES,
    HAProxy,
    Places,
    Visit,
    require_ports,
)
from ansible_collections.mai.fleet.plugins.module_utils._atomic import write_atomically
from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.certificates import (
    RENEW,
    Certificate,
    Certificates,
)
from ansible_collections.mai.fleet.plugins.module_utils._rows import Row

_CLIENT = re.compile(r"[a-z][a-z0-9_]{1,30}")
_LOOKUPS = 32
_VISITS = 8


@dataclass(frozen=True)
class Wanted:
    """What a client's site shall be; without ``domain`` it shall not be."""

    name: str
    domain: str = ""
    text: str = ""


@dataclass(frozen=True)
class Settings:
    """What holds for all sites of the call.

    :param addresses: that a domain may resolve to, besides this server's
    :param address: that this server reaches its own edge at
    """

    addresses: Collection[str] = ()
    address: str = "127.0.0.1"
    check: bool = False
    places: Places = PLACES


class Reconciler:
    """One call: compares all sites, writes what differs at once, then sees to certificates."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._places = settings.places
        self._edge = HAProxy(settings.places, settings.address)
        self._certificates = Certificates(settings.places)
        #: Whether HAProxy was started or had not yet loaded what an earlier run wrote.
        self.loaded = False
        #: What is wrong with the edge, and no client's fault.
        self.warnings: list[str] = []

    def unlisted(self, known: Collection[str]) -> list[str]:
        """Clients that have a site here and are not among ``known``."""
        return sorted({file.stem for file in self._places.sites.glob("*.cfg")} - set(known))

    def run(self, clients: Sequence[Wanted]) -> dict[str, Row]:
        """:raises FleetError: what is wrong with the edge as a whole"""
        rows = {client.name: Row() for client in clients}
        for client in clients:
            try:
                self._compare(client, rows[client.name])
            except FleetError as error:
                rows[client.name].error = error
        going = [client for client in clients if rows[client.name].error is None]
        present = [client for client in going if client.domain]
        self._look_up(present, rows)
        if self._settings.check:
            self.loaded = not self._edge.current()
            return rows
        self._require_role()
        require_ports()
        broken = self._certificates.mend()
        self.warnings += [
            f"{file} was broken, and HAProxy does not start with such a file. What dehydrated has "
            "was put in its place, or nothing, so that it is requested again"
            for file in broken
        ]
        self._write(going, rows)
        self._load_if_needed(going, rows, bool(broken))
        present = [client for client in present if rows[client.name].error is None]
        self._certify(present, rows)
        self._prove(present, rows)
        if self._edge.outdated():
            self.warnings.append(
                "HAProxy was started before its settings for systemd changed. It serves, but only "
                "`systemctl restart haproxy` takes them into use. That cuts websockets and answers "
                "that are under way, so it is left to you"
            )
        return rows

    def _require_role(self) -> None:
        if not self._places.sites.is_dir():
            raise FleetError(
                "this server has no edge yet",
                str(self._places.sites),
                "run mai.fleet.servers with fleet_edge: true first",
            )

    # Deciding.

    def _compare(self, client: Wanted, row: Row) -> None:
        if not _CLIENT.fullmatch(client.name):
            raise FleetError(f"expected a client's name, {_CLIENT.pattern}", repr(client.name))
        before = self._read(client.name)
        after = client.text if client.domain else None
        certificate = self._certificates.read(client.name)
        until = "broken" if self._certificates.broken(client.name) else _until(certificate)
        row.before = {"site": _short(before), "certificate": until}
        row.after = dict(row.before, site=_short(after))
        if not client.domain:
            row.after["certificate"] = None
        elif until == "broken" or certificate is None or not certificate.good(client.domain):
            row.after["certificate"] = "to be requested"
        elif not certificate.good(client.domain, RENEW):
            row.after["certificate"] = "to be renewed"
        row.changed = row.before != row.after
        if before != after:
            path = str(self._file(client.name))
            row.diff = [
                {
                    "before_header": path,
                    "after_header": path,
                    "before": before or "",
                    "after": after or "",
                }
            ]

    def _read(self, name: str) -> str | None:
        try:
            return self._file(name).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise FleetError(f"cannot be read: {error}", str(self._file(name))) from None

    def _file(self, name: str) -> Path:
        return self._places.sites / f"{name}.cfg"

    def _look_up(self, clients: Sequence[Wanted], rows: dict[str, Row]) -> None:
        """Warn of domains that lead elsewhere: a CDN or a floating IP may be meant."""
        # Read by the C library when a process first looks a name up.
        os.environ.setdefault("RES_OPTIONS", "timeout:2 attempts:1")
        with ThreadPoolExecutor(max_workers=_LOOKUPS) as pool:
            found = pool.map(lambda client: _addresses(client.domain), clients)
        for client, addresses in zip(clients, found):
            known = set(self._settings.addresses)
            if not addresses:
                what = "does not resolve"
            elif any(address in known or _is_own(address) for address in addresses):
                continue
            else:
                what = f"resolves to {', '.join(addresses)}, which is not this server"
            rows[client.name].warnings.append(
                f"{client.domain} {what}: nobody gets here, nor a certificate, unless something in "
                "between leads here (name its address in edge_addresses)"
            )

    # Acting.

    def _write(self, clients: Sequence[Wanted], rows: dict[str, Row]) -> None:
        """Write and remove the files of those whom HAProxy accepts, each of them as a whole."""
        differing = [
            client
            for client in clients
            if rows[client.name].before["site"] != rows[client.name].after["site"]
        ]
        refused = self._refused(differing)
        for client, reason in refused.items():
            error = FleetError(
                f"HAProxy refuses the site: {reason}",
                str(self._file(client.name)),
                "correct the template of the site (edge_site_template)",
            )
            _left_alone(rows[client.name], error)
        self._list([client for client in clients if client not in refused], rows)
        for client in differing:
            if rows[client.name].error is None:
                self._put(client, rows[client.name])
        for client in clients:
            row = rows[client.name]
            if not client.domain and row.before["certificate"] and row.error is None:
                self._certificates.remove(client.name)

    def _list(self, clients: Sequence[Wanted], rows: dict[str, Row]) -> None:
        """Tell the daily timer whose certificates it looks after."""
        before = self._certificates.listed()
        wanted = {client.name: client.domain for client in clients}
        after = {name: domain for name, domain in {**before, **wanted}.items() if domain}
        if after == before:
            return
        try:
            self._certificates.keep_list(after)
        except FleetError as error:
            for name in wanted:
                if before.get(name) != after.get(name):
                    _left_alone(rows[name], error)

    def _put(self, client: Wanted, row: Row) -> None:
        file = self._file(client.name)
        try:
            if client.domain:
                write_atomically(str(file), client.text.encode("utf-8"), 0o644, 0o755)
            else:
                file.unlink(missing_ok=True)
        except OSError as error:
            reason = f"the site cannot be written: {error.strerror}"
            _left_alone(row, FleetError(reason, str(file), "make room and run again"))

    def _refused(self, differing: Sequence[Wanted]) -> dict[Wanted, str]:
        """Why HAProxy would not start with the new sites, by the client whose site it is."""
        if not differing or not self._verdict(differing):
            return {}
        refused = {client: self._verdict([client]) for client in differing}
        refused = {client: reason for client, reason in refused.items() if reason}
        together = self._verdict([client for client in differing if client not in refused])
        if together:
            raise FleetError(
                f"HAProxy refuses its configuration: {together}",
                str(self._places.base),
                "nothing was changed; run the role mai.fleet.edge, or correct what it says",
            )
        return refused

    def _verdict(self, changes: Sequence[Wanted]) -> str:
        """What HAProxy has against today's sites with these changes."""
        # There is room beside the folder of what runs, also when the disk is full. The folder
        # itself may be missing: it is made when HAProxy starts.
        beside = self._places.run.parent
        with tempfile.TemporaryDirectory(dir=beside, prefix="mai-trial-") as folder:
            trial = Path(folder)
            for file in self._places.sites.glob("*.cfg"):
                shutil.copy(file, trial)
            for client in changes:
                (trial / f"{client.name}.cfg").unlink(missing_ok=True)
                if client.domain:
                    (trial / f"{client.name}.cfg").write_text(client.text, encoding="utf-8")
            return self._edge.validate(trial)

    def _load_if_needed(
        self, clients: Sequence[Wanted], rows: dict[str, Row], mended: bool
    ) -> None:
        # HAProxy keeps in its memory what was removed from the disk.
        removed = any(
            not client.domain and rows[client.name].before["certificate"] for client in clients
        )
        if removed or mended or not self._edge.current():
            reason = self._edge.validate(self._places.sites)
            if reason:
                raise FleetError(
                    f"HAProxy refuses its configuration: {reason}",
                    str(self._places.base),
                    "it goes on with the old one; correct it and run again",
                )
            self._edge.load()
            self.loaded = True

    def _certify(self, clients: Sequence[Wanted], rows: dict[str, Row]) -> None:
        due = [client for client in clients if not self._good(client, left=True)]
        wanted = {client.name: client.domain for client in due}
        reasons = self._certificates.request(wanted) if due else {}
        # Also those that were due and have it, from before.
        for client in clients:
            self._judge(client, rows[client.name], reasons.get(client.domain, ""))

    def _prove(self, clients: Sequence[Wanted], rows: dict[str, Row]) -> None:
        """Pass every site through its gate; a certificate that HAProxy has not loaded is loaded."""
        found = self._visit(clients)
        if any(self._stale(client, visit) for client, visit in found):
            self._edge.load()
            found = self._visit(clients)
        for client, visit in found:
            row = rows[client.name]
            gate = self._gate(client, visit)
            row.more["gates"] = [gate]
            if not gate["passed"] and row.error is None:
                row.error = FleetError(gate["seen"], f"https://{client.domain}", gate["todo"])

    def _visit(self, clients: Sequence[Wanted]) -> list[tuple[Wanted, Visit]]:
        with ThreadPoolExecutor(max_workers=_VISITS) as pool:
            visits = pool.map(lambda client: self._edge.visit(client.domain), clients)
            return list(zip(clients, visits))

    def _stale(self, client: Wanted, visit: Visit) -> bool:
        certificate = self._certificates.read(client.name)
        return (
            self._good(client) and certificate is not None and visit.certificate != certificate.der
        )

    def _gate(self, client: Wanted, visit: Visit) -> dict[str, Any]:
        certificate = self._certificates.read(client.name)
        todo = ""
        if certificate is None or not certificate.good(client.domain):
            seen, todo = "it has no valid certificate", "run again when there is one"
        elif visit.certificate is None:
            seen, todo = "nobody answers there", "see `journalctl --unit haproxy`"
        elif visit.certificate != certificate.der:
            seen, todo = "another certificate is served", "see `journalctl --unit haproxy`"
        elif visit.status != 200:
            answer = "does not answer" if visit.status is None else f"answers {visit.status}"
            seen = f"the instance behind the site {answer} (GET /ready)"
            todo = "see that the instance runs and that the template of the site leads to it"
        else:
            seen = f"200, with a certificate until {_until(certificate)}"
        return {
            "gate": "site",
            "expected": f"https://{client.domain} answers, with a certificate that is valid for it",
            "state": "failed" if todo else "passed",
            "passed": not todo,
            "seen": seen,
            "todo": todo,
            "seconds": round(visit.seconds, 2),
        }

    def _good(self, client: Wanted, left: bool = False) -> bool:
        certificate = self._certificates.read(client.name)
        if certificate is None:
            return False
        return certificate.good(client.domain, RENEW) if left else certificate.good(client.domain)

    def _judge(self, client: Wanted, row: Row, reason: str) -> None:
        """Say what became of a certificate that was due."""
        certificate = self._certificates.read(client.name)
        row.after["certificate"] = _until(certificate)
        row.changed = row.before != row.after
        reason = reason or "see `systemctl status mai-edge-renew`"
        if not self._good(client):
            row.error = FleetError(
                f"there is no certificate, so nobody can connect: {reason}",
                f"https://{client.domain}",
                "see that the domain leads to this server, port 80 above all, and run again",
            )
        elif not self._good(client, left=True):
            row.warnings.append(
                f"{client.domain} is served with its old certificate, which ends on "
                f"{_until(certificate)}: {reason}"
            )


def _left_alone(row: Row, error: FleetError) -> None:
    """A client's site that stays as it was."""
    row.error, row.after, row.changed, row.diff = error, row.before, False, []


def _addresses(domain: str) -> list[str]:
    try:
        found = socket.getaddrinfo(domain, 443, type=socket.SOCK_STREAM)
    except OSError:
        return []
    return sorted({str(entry[4][0]) for entry in found})


def _is_own(address: str) -> bool:
    """Whether it is an address of this server: nobody can listen on another's."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True


def _until(certificate: Certificate | None) -> str | None:
    return None if certificate is None else f"{certificate.ends:%Y-%m-%d}"


def _short(text: str | None) -> str | None:
    return None if text is None else f"sha256:{hashlib.sha256(text.encode()).hexdigest()[:12]}"
