# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Parts of the edge that need no HAProxy: who has a port, what dehydrated says, the hold gate."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import pytest
from ansible_collections.mai.fleet.plugins.module_utils._api import haproxy
from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.certificates import reasons
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.gate import held

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
