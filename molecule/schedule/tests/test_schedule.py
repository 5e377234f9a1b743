# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A control node runs its fleet by itself, when a client is due."""

from __future__ import annotations

import json
import os
import time
from typing import Any

import pytest
import rehearsal
from testinfra.host import Host

testinfra_hosts = ["ansible://servers"]
UNIT = "mai-fleet-rehearsal"
CREDENTIALS = f"/run/credentials/{UNIT}.service"
PATIENCE = 90.0

#: How to speak to the manager of each scope, and how to read what its unit said.
MANAGER = {
    "system": "systemctl",
    "user": "runuser --user fleet -- env XDG_RUNTIME_DIR=/run/user/$(id -u fleet) systemctl --user",
}
JOURNAL = {
    "system": f"journalctl --no-pager --unit {UNIT}",
    "user": f"journalctl --no-pager _SYSTEMD_USER_UNIT={UNIT}.service",
}

#: As the unit's user with its credentials, but for all clients.
SITE = (
    "systemd-run --quiet --wait --pipe --collect --uid=fleet --working-directory=/srv/fleet"
    " --property=LoadCredential=vault-password:/etc/mai-fleet/vault-password"
    " --property=LoadCredential=management-key:/etc/mai-fleet/management-key"
    " sh -c 'export LANG=C.UTF-8 ANSIBLE_COLLECTIONS_PATH=/opt/collections"
    " OPENROUTER_MANAGEMENT_KEY_FILE=$CREDENTIALS_DIRECTORY/management-key"
    " ANSIBLE_VAULT_PASSWORD_FILE=$CREDENTIALS_DIRECTORY/vault-password;"
    " ansible-playbook mai.fleet.site -i servers.yml -i fleet.yml -e fleet_bootstrap=false'"
)

both_scopes = pytest.mark.parametrize("scope", ["system", "user"])


def secrets() -> list[str]:
    password = (rehearsal.HOME / "vault-password").read_text().strip()
    return [os.environ["OPENROUTER_MANAGEMENT_KEY"], password]


def manager(host: Host, scope: str, words: str) -> str:
    return str(host.check_output(f"{MANAGER[scope]} {words}"))


def shown(host: Host, name: str, scope: str = "system") -> str:
    return manager(host, scope, f"show --property={name} --value {UNIT}")


def journal(host: Host, scope: str = "system") -> str:
    return str(host.check_output(JOURNAL[scope]))


def start(host: Host) -> set[str]:
    """Start the service, and give back what was seen of all processes and of its credentials."""
    return set(
        host.check_output(
            f"systemctl start --no-block {UNIT}; sleep 0.2;"
            f" while systemctl is-active {UNIT} | grep -q activating; do"
            f" cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ; echo;"
            f" stat --format='%A %U %n' {CREDENTIALS} {CREDENTIALS}/*; sleep 0.1;"
            " done 2>/dev/null | tr '\\0' '\\n' | sort --unique"
        ).splitlines()
    )


def keys() -> list[dict[str, Any]]:
    return list(rehearsal.simulator("keys")["keys"])


def changes(kind: str) -> list[list[dict[str, Any]]]:
    """For each run of the scenario, or each in check mode, what it changed on the control node."""
    files = sorted((rehearsal.HOME / "changes").glob(f"*-{kind}.json"))
    return [json.loads(file.read_text())["control"] for file in files]


@pytest.fixture(scope="module")
def deployed(host: Host) -> None:
    """acme has a key that was made three days ago."""
    rehearsal.steer("advance", days=-3)
    run = host.run(SITE)
    rehearsal.steer("advance", days=3)
    assert run.rc == 0, run.stdout + run.stderr
    assert len(keys()) == 1


def test_check_mode_foretells_the_units_and_then_nothing() -> None:
    foretold, happened = changes("check")[0], changes("run")[0]
    assert [change for change in foretold if change not in happened] == []
    units = [text for change in foretold for text in change["texts"]]
    assert any("LoadCredential=management-key:/etc/mai-fleet/management-key" in u for u in units)
    assert any("OnCalendar=*-*-* 00:05:00 UTC" in unit for unit in units)
    assert changes("check")[1] == changes("run")[1] == []


@both_scopes
def test_the_timer_waits_for_its_hour(host: Host, scope: str) -> None:
    hour = {"system": " 00:", "user": " 12:"}[scope]
    assert manager(host, scope, f"is-enabled {UNIT}.timer") == "enabled"
    assert manager(host, scope, f"is-active {UNIT}.timer") == "active"
    assert hour in manager(host, scope, f"list-timers --no-pager {UNIT}.timer")


def test_systemd_finds_no_fault_with_the_units(host: Host) -> None:
    assert host.run("systemd-analyze verify /etc/systemd/system/%s.timer", UNIT).stderr == ""


def test_the_operators_timer_goes_on_when_nobody_is_logged_in(host: Host) -> None:
    assert host.check_output("loginctl show-user fleet --property=Linger --value") == "yes"


@both_scopes
def test_the_secrets_are_nowhere_in_the_units(host: Host, scope: str) -> None:
    known = manager(host, scope, f"show {UNIT}.service {UNIT}.timer")
    units = manager(host, scope, f"cat {UNIT}.service {UNIT}.timer")
    assert "vault-password" in known and "vault-password" in units
    for secret in secrets():
        assert secret not in known + units


@both_scopes
def test_with_nobody_due_it_ends_well_and_does_nothing(
    host: Host, deployed: None, scope: str
) -> None:
    before = keys()
    manager(host, scope, f"start {UNIT}")
    assert shown(host, "Result", scope) == "success"
    assert shown(host, "ActiveState", scope) == "inactive"
    assert keys() == before
    assert "nobody is due" in journal(host, scope)


def test_it_replaces_a_key_that_is_too_old(host: Host, deployed: None) -> None:
    host.check_output("echo 'key_lifetime_days: 2' >>/srv/fleet/clients/acme.yml")
    host.check_output("echo 'key_renew_days: 1' >>/srv/fleet/clients/acme.yml")
    seen = start(host)
    said = journal(host)
    assert shown(host, "Result") == "success", said
    assert "acme is due: its key is to be replaced by its age" in said
    old, new = keys()
    assert (old["disabled"], new["disabled"], bool(new["expires_at"])) == (True, False, True)
    assert host.file("/srv/fleet/secrets/acme.yml").user == "fleet"
    # What was looked at was the run: its words, its environment, its files.
    assert {"mai.fleet.site", "--extra-vars=fleet_select=due"} <= seen
    assert f"OPENROUTER_MANAGEMENT_KEY_FILE={CREDENTIALS}/management-key" in seen
    assert f"dr-x------ fleet {CREDENTIALS}" in seen
    assert f"-r-------- fleet {CREDENTIALS}/management-key" in seen
    assert f"-r-------- fleet {CREDENTIALS}/vault-password" in seen
    for secret in secrets():
        assert not any(secret in text for text in seen | {said})
    assert not host.file(CREDENTIALS).exists


def test_who_failed_three_times_is_told_of(host: Host, deployed: None) -> None:
    """The last one, because it leaves the unit failed."""
    wrong = "a-management-key-that-openrouter-does-not-know"
    host.check_output("systemctl reset-failed")
    host.check_output("echo %s >/etc/mai-fleet/management-key", wrong)
    started = time.monotonic()
    host.check_output("systemctl start --no-block %s", UNIT)
    while shown(host, "ActiveState") != "failed" and time.monotonic() < started + PATIENCE:
        time.sleep(1)
    assert shown(host, "ActiveState") == "failed"
    assert UNIT in host.check_output("systemctl --failed --plain --no-legend")
    said = journal(host)
    assert said.count("Main process exited, code=exited, status=2") == 3
    assert "HTTP 401: User not found." in said
    assert "was it deleted or mistyped?" in said
    assert host.file("/run/told").exists
    for secret in (*secrets(), wrong):
        assert secret not in said


def test_openrouter_was_used_as_it_is_documented() -> None:
    assert rehearsal.simulator("violations")["violations"] == []
