# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The timers are removed, and with them everything that they were."""

from __future__ import annotations

import pytest
from testinfra.host import Host

testinfra_hosts = ["ansible://servers"]
MANAGERS = [
    "systemctl",
    "runuser --user fleet -- env XDG_RUNTIME_DIR=/run/user/$(id -u fleet) systemctl --user",
]


@pytest.mark.parametrize("manager", MANAGERS, ids=["system", "user"])
def test_nothing_is_left_of_the_timer(host: Host, manager: str) -> None:
    # Of none it says so by its exit status.
    assert host.run(f"{manager} list-unit-files --no-legend 'mai-fleet-*'").stdout == ""
    assert host.check_output(f"{manager} list-units --all --no-legend 'mai-fleet-*'") == ""
    assert host.check_output(f"{manager} is-system-running") == "running"


def test_no_file_is_left_of_it(host: Host) -> None:
    folders = "/etc/systemd /home/fleet/.config/systemd /run/systemd /run/user /run/credentials"
    assert host.check_output(f"find {folders} -name '*mai-fleet*'") == ""


def test_what_the_operator_brought_stays(host: Host) -> None:
    assert host.file("/etc/mai-fleet/management-key").exists
    assert host.file("/srv/fleet/secrets/acme.yml").exists
