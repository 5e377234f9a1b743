# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the mai.fleet collection
"""HAProxy on this server: its service, its configuration, what it serves."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.mai.fleet.plugins.module_utils._atomic import write_atomically
from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError

PORTS = (80, 443)

_UNIT = "haproxy"
_READY_TIMEOUT = 15.0
_COMMAND_TIMEOUT = 120.0
_VISIT_TIMEOUT = 10.0
# `0A` is the state LISTEN, https://docs.kernel.org/networking/proc_net_tcp.html
_LISTEN = "0A"


@dataclass(frozen=True)
class Places:
    """Where the role has put things; the tests have others.

    :ivar base: the configuration that all sites share
    :ivar home: with ``sites`` and ``certs``
    :ivar run: what lives as long as the server runs
    :ivar keep: what is kept, the ACME account above all
    :ivar unit: what systemd is told beyond the package's unit
    """

    base: Path = Path("/etc/haproxy/haproxy.cfg")
    home: Path = Path("/etc/haproxy/mai")
    run: Path = Path("/run/mai-edge")
    keep: Path = Path("/var/lib/mai-edge")
    unit: Path = Path("/etc/systemd/system/haproxy.service.d/mai-edge.conf")

    @property
    def sites(self) -> Path:
        return self.home / "sites"

    @property
    def certificates(self) -> Path:
        return self.home / "certs"


PLACES = Places()


@dataclass(frozen=True)
class Visit:
    """What somebody finds who visits a site.

    :ivar certificate: in DER, None where there is no TLS
    :ivar status: of the instance's answer, None where there is none
    """

    certificate: bytes | None
    status: int | None
    seconds: float


class HAProxy:
    """The service. All methods raise :class:`FleetError` only.

    :param address: on which it listens, as seen from this server
    """

    def __init__(self, places: Places, address: str) -> None:
        self._places = places
        self._address = address

    def running(self) -> bool:
        return run(["systemctl", "is-active", "--quiet", _UNIT]).returncode == 0

    def current(self) -> bool:
        """Whether it runs with what lies on the disk."""
        try:
            loaded = self._mark.read_text(encoding="ascii")
        except OSError:
            return False
        return loaded == self._digest() and self._process() is not None

    def outdated(self) -> bool:
        """Whether it was started before systemd was told what it is told now.

        A reload does not change with what it was started, and a restart cuts connections.
        """
        said = run(
            ["systemctl", "show", _UNIT, "--property", "ExecMainStartTimestampMonotonic", "--value"]
        )
        try:
            started = int(said.stdout) / 1_000_000
            changed = self._places.unit.stat().st_mtime
        except (OSError, ValueError):
            return False
        # Both clocks begin at the boot of the server; only one of them can be set.
        booted = time.time() - time.clock_gettime(time.CLOCK_MONOTONIC)
        return self.running() and changed > booted + started

    def validate(self, sites: Path) -> str:
        """What HAProxy has against the configuration with these sites; empty if it likes it."""
        # With -q, it would not say why.
        done = run(["haproxy", "-c", "-f", str(self._places.base), "-f", str(sites)])
        if done.returncode == 0:
            return ""
        lines = [line for line in done.stdout.splitlines() if "[ALERT]" in line]
        reasons = "; ".join(line.partition(": ")[2].removeprefix("config : ") for line in lines[:3])
        return reasons or f"its check ended with {done.returncode}"

    def load(self) -> None:
        """Start it, or let a new process take over, and wait until it serves."""
        digest = self._digest()
        before = self._process()
        if self.running() and before is not None:
            self._systemctl("reload")
            # `systemctl reload` returns when the signal is sent.
            _wait(lambda: self._process() not in (None, before), "the new process does not start")
        else:
            # systemd starts nothing that has just failed some times in a row until it forgets that.
            run(["systemctl", "reset-failed", _UNIT])
            # The package starts it with a configuration of its own.
            self._systemctl("restart")
            _wait(lambda: self._process() is not None, "it does not answer")
        try:
            write_atomically(str(self._mark), digest.encode("ascii"), 0o600)
        except OSError:
            # Without a mark, the next run loads it once more; an old one could be taken for true.
            with contextlib.suppress(OSError):
                self._mark.unlink()

    def visit(self, domain: str) -> Visit:
        """Ask the domain's site whether its instance is ready, as a browser on this server would.

        Any certificate will do: whom a browser trusts is not to be known here.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        certificate = status = None
        begin = time.monotonic()
        try:
            plain = socket.create_connection((self._address, 443), _VISIT_TIMEOUT)
            with plain, context.wrap_socket(plain, server_hostname=domain) as secure:
                certificate = secure.getpeercert(binary_form=True)
                secure.sendall(f"GET /ready HTTP/1.0\r\nHost: {domain}\r\n\r\n".encode("ascii"))
                answer = http.client.HTTPResponse(secure)
                answer.begin()
                status = answer.status
        except (OSError, http.client.HTTPException):
            pass
        return Visit(certificate, status, time.monotonic() - begin)

    @property
    def _mark(self) -> Path:
        return self._places.keep / "loaded"

    def _digest(self) -> str:
        files = [
            self._places.base,
            self._places.home / "edge.lua",
            *sorted(self._places.sites.glob("*.cfg")),
        ]
        digest = hashlib.sha256()
        for file in files:
            try:
                digest.update(f"{file}\0".encode() + file.read_bytes() + b"\0")
            except OSError as error:
                raise FleetError(
                    f"cannot be read: {error.strerror}", str(file), "run the role mai.fleet.edge"
                ) from None
        return digest.hexdigest()

    def _process(self) -> str | None:
        """The process that takes new connections, None while there is none."""
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as control:
                control.settimeout(5)
                control.connect(str(self._places.run / "admin.sock"))
                control.sendall(b"show info\n")
                answer = b"".join(iter(lambda: control.recv(65536), b""))
        except OSError:
            return None
        found = [line for line in answer.decode().splitlines() if line.startswith("Pid: ")]
        return found[0] if found else None

    def _systemctl(self, verb: str) -> None:
        done = run(["systemctl", verb, _UNIT])
        if done.returncode != 0:
            raise _trouble(f"`systemctl {verb} {_UNIT}` failed")


def run(command: list[str], timeout: float = _COMMAND_TIMEOUT) -> subprocess.CompletedProcess[str]:
    """A command's exit status and its output, errors among it.

    :raises FleetError: there is no such command, or it does not end
    """
    environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
    try:
        # Engine code knows nothing of AnsibleModule.
        return subprocess.run(  # pylint: disable=ansible-bad-function
            command,
            env={**environment, "LC_ALL": "C.UTF-8", "HOME": "/root"},
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            timeout=timeout,
            check=False,
        )
    except FileNotFoundError:
        raise FleetError(
            f"there is no {command[0]} on this server", "", "run the role mai.fleet.edge"
        ) from None
    except subprocess.TimeoutExpired:
        raise FleetError(f"not done within {timeout:g} s", " ".join(command), "run again") from None


def require_ports(proc: Path = Path("/proc")) -> None:
    """:raises FleetError: something else than HAProxy listens on 80 or 443"""
    for port in PORTS:
        owners = _owners(_listening(proc, port), proc)
        for pid, program in owners.items():
            if program != _UNIT:
                raise FleetError(
                    f"taken by {program} (process {pid})",
                    f"port {port}",
                    f"stop {program}, or move it to another port, and run again",
                )


def _listening(proc: Path, port: int) -> set[str]:
    """Inodes of the sockets that listen on a port."""
    inodes = set()
    for table in ("tcp", "tcp6"):
        try:
            lines = (proc / "net" / table).read_text(encoding="ascii").splitlines()[1:]
        except FileNotFoundError:
            continue
        for fields in map(str.split, lines):
            if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                inodes.add(f"socket:[{fields[9]}]")
    return inodes


def _owners(sockets: Iterable[str], proc: Path) -> dict[str, str]:
    """Processes, by their numbers, that hold one of the sockets."""
    wanted = set(sockets)
    owners: dict[str, str] = {}
    if not wanted:
        return owners
    for process in proc.glob("[0-9]*"):
        # It may end, and its files may be closed, while they are looked at.
        with contextlib.suppress(OSError):
            if any(_target(link) in wanted for link in (process / "fd").iterdir()):
                owners[process.name] = (process / "comm").read_text(encoding="utf-8").strip()
    return owners


def _target(link: Path) -> str:
    try:
        return os.readlink(link)
    except OSError:
        return ""


def _wait(ready: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + _READY_TIMEOUT
    while not ready():
        if time.monotonic() > deadline:
            raise _trouble(otherwise)
        time.sleep(0.1)


def _trouble(what: str) -> FleetError:
    log = run(["journalctl", "--unit", _UNIT, "--lines", "5", "--output", "cat", "--no-pager"])
    said = "; ".join(line.strip() for line in log.stdout.splitlines() if "ALERT" in line)
    return FleetError(
        f"{what}: {said}" if said else what, "HAProxy", f"see `journalctl --unit {_UNIT}`"
    )
