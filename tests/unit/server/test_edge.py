# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Parts of the edge that need no HAProxy: ports, what dehydrated says and leaves, the hold gate."""

from __future__ import annotations

import fcntl
import os
import resource
import socket
import subprocess
import time
from pathlib import Path

import pytest
from ansible_collections.mai.fleet.plugins.module_utils._api import haproxy
from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError
from ansible_collections.mai.fleet.plugins.module_utils._reconcile import certificates
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.certificates import (
    Certificates,
    reasons,
)
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.gate import held
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.sites import (
    Reconciler,
    Settings,
    Wanted,
)
from ansible_collections.mai.fleet.plugins.module_utils._rows import Row

# dehydrated 0.7.0 with pebble 2.4, shortened.
ONE_FAILS = """\
# INFO: Using main config file /etc/haproxy/mai/acme.conf
Processing acme.test
 + Checking expire date of existing cert...
 + Valid till Nov 21 16:20:41 2031 GMT (Longer than 30 days). Skipping renew!
Processing lodz.test
 + Signing domains...
 + Responding to challenge for lodz.test authorization...
ERROR: Challenge is invalid! (returned: invalid) (result: ["type"]\t"http-01"
["error","detail"]\t"Fetching http://lodz.test/.well-known/acme-challenge/x: no such host")
"""
# Our hook's words among dehydrated's; it goes on to the next domain.
FULL = """\
Processing acme.test
 + Valid till Nov 21 16:20:41 2031 GMT (Longer than 30 days). Skipping renew!
ERROR: the certificate cannot be brought to /etc/haproxy/mai/certs/acme.pem: No space left on device
Processing lodz.test
 + Done!
"""
DOWN = "ERROR: Problem connecting to server (get for https://ca.test/dir; curl returned with 7)\n"


@pytest.fixture
def places(tmp_path: Path) -> haproxy.Places:
    """An edge as the role leaves it, with no client."""
    places = haproxy.Places(
        base=tmp_path / "haproxy.cfg",
        home=tmp_path / "home",
        run=tmp_path / "run",
        keep=tmp_path / "keep",
        unit=tmp_path / "unit.conf",
    )
    for folder in (places.sites, places.certificates, places.run, places.keep):
        folder.mkdir(parents=True)
    return places


def issue(places: haproxy.Places, client: str) -> bytes:
    """A certificate as dehydrated has it; what belongs where HAProxy reads it."""
    own = places.keep / "certs" / client
    own.mkdir(parents=True)
    key, chain = own / "privkey.pem", own / "fullchain.pem"
    subject = ["-subj", f"/CN={client}.test", "-addext", f"subjectAltName=DNS:{client}.test"]
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    where = ["-keyout", str(key), "-out", str(chain)]
    command = ["openssl", "req", "-x509", "-days", "90", *curve, *subject, *where]
    subprocess.run(command, check=True, capture_output=True)
    return key.read_bytes() + chain.read_bytes()


def test_a_port_that_something_else_has_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setattr(haproxy, "PORTS", (taken.getsockname()[1],))
        with pytest.raises(FleetError) as caught:
            haproxy.require_ports()
    assert f"process {os.getpid()}" in caught.value.what
    haproxy.require_ports()


def test_what_dehydrated_says_is_told_by_domain() -> None:
    found = reasons(ONE_FAILS, {"acme.test", "lodz.test"})
    assert set(found) == {"lodz.test"}
    assert "no such host" in found["lodz.test"]


def test_a_certificate_without_room_is_told_by_domain() -> None:
    found = reasons(FULL, {"acme.test", "lodz.test"})
    assert set(found) == {"acme.test"}
    assert found["acme.test"].endswith("No space left on device")


def test_an_authority_that_is_down_concerns_every_domain() -> None:
    found = reasons(DOWN, {"acme.test", "lodz.test"})
    assert set(found) == {"acme.test", "lodz.test"}
    assert "Problem connecting" in found["acme.test"]


def test_the_gate_is_closed_in_the_meantime_and_would_open_by_itself(tmp_path: Path) -> None:
    with held("acme", 60, tmp_path):
        deadline = int((tmp_path / "acme").read_text())
        assert 55 < deadline - time.time() <= 60
        assert (tmp_path / "acme").stat().st_mode & 0o777 == 0o644
    assert list(tmp_path.iterdir()) == []


def test_without_an_edge_there_is_no_gate(tmp_path: Path) -> None:
    with held("acme", 60, tmp_path / "absent"):
        assert not (tmp_path / "absent").exists()


@pytest.mark.parametrize("kept", [0, 100, 400], ids=["nothing", "half a key", "half a certificate"])
def test_a_broken_certificate_is_replaced_by_what_dehydrated_has(
    places: haproxy.Places, kept: int
) -> None:
    whole = {name: issue(places, name) for name in ("acme", "lodz")}
    for name, text in whole.items():
        (places.certificates / f"{name}.pem").write_bytes(text)
    place = places.certificates / "acme.pem"
    place.write_bytes(whole["acme"][:kept])
    found = Certificates(places)
    assert (found.broken("acme"), found.broken("lodz"), found.broken("birch")) == (
        True,
        False,
        False,
    )
    assert found.mend() == [str(place)]
    assert place.read_bytes() == whole["acme"]
    assert place.stat().st_mode & 0o777 == 0o600
    assert found.mend() == []


def test_a_certificate_that_is_broken_everywhere_is_requested_again(places: haproxy.Places) -> None:
    issue(places, "acme")
    own = places.keep / "certs" / "acme"
    (own / "fullchain.pem").write_bytes(b"")
    place = places.certificates / "acme.pem"
    place.write_bytes(b"")
    assert Certificates(places).mend() == [str(place)]
    assert not place.exists()
    assert not own.exists()


def test_a_key_of_another_certificate_is_broken(places: haproxy.Places) -> None:
    key = issue(places, "lodz").partition(b"-----BEGIN CERTIFICATE")[0]
    _key, begin, rest = issue(places, "acme").partition(b"-----BEGIN CERTIFICATE")
    (places.certificates / "acme.pem").write_bytes(key + begin + rest)
    assert Certificates(places).broken("acme")


def test_a_list_that_cannot_be_written_fails_whose_line_changes(places: haproxy.Places) -> None:
    before = "acme.test > acme\nlodz.test > lodz\n"
    (places.keep / "domains.txt").write_text(before)
    clients = [Wanted("acme", "acme.test"), Wanted("birch", "birch.test"), Wanted("lodz")]
    rows = {client.name: Row(before={"site": "same"}) for client in clients}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # As if the disk were full after so many bytes.
    resource.setrlimit(resource.RLIMIT_FSIZE, (5, hard))
    try:
        Reconciler(Settings(places=places))._list(clients, rows)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    errors = {name: row.error.what if row.error else "" for name, row in rows.items()}
    assert errors["acme"] == ""
    assert errors["birch"] == errors["lodz"] == "cannot be written: File too large"
    assert rows["birch"].after == {"site": "same"}
    assert (places.keep / "domains.txt").read_text() == before


def test_the_timeout_of_dehydrated_fails_nobody_by_itself(
    places: haproxy.Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(certificates, "_TIMEOUT", 0.3)
    with (places.run / "acme.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = Certificates(places).request({"acme": "acme.test"})
    assert set(found) == {"acme.test"}
    assert "not done within 0.3 s" in found["acme.test"]
    assert [file.name for file in places.run.iterdir()] == ["acme.lock"]


def test_a_server_without_the_role_is_told_apart(places: haproxy.Places) -> None:
    places.sites.rmdir()
    with pytest.raises(FleetError) as caught:
        Reconciler(Settings(places=places)).run([Wanted("acme", "localhost", "backend x\n")])
    assert "mai.fleet.servers" in caught.value.todo
