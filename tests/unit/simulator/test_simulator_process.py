# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from simulator import RemoteSimulator, Simulator
from simulator.plain import Account, Client

TESTS = Path(__file__).resolve().parents[2]


def account_of(simulator: Simulator | RemoteSimulator) -> Account:
    return Account(simulator, Client(simulator.url, simulator.management_key))


def test_a_restart_goes_on_where_it_was(tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    with Simulator(state_file=state) as first:
        account = account_of(first)
        key_hash, client = account.fenced("openai/gpt-4.1", limit=5, limit_reset="daily")
        client.chat("openai/gpt-4.1")
        first.advance(days=2)
        first.configure(refusal_status=403)
        first.expire_model("openai/o3")
        before = first.keys, first.guardrails, first.state["settings"]
    with Simulator(state_file=state, management_key=first.management_key) as second:
        client.url = second.url
        assert (second.keys, second.guardrails, second.state["settings"]) == before
        assert second.state["now"] > time.time() + 2 * 86400 - 60
        client.chat("openai/gpt-4.1")
        client.refused(403, "openai/gpt-4o")
        client.refused(404, "openai/o3")
        account_of(second).manager.get(f"/keys/{key_hash}")


def test_state_holds_no_secret_and_is_private(tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    with Simulator(state_file=state) as simulator:
        _ignored, client = account_of(simulator).key()
    text = state.read_text()
    assert stat.S_IMODE(state.stat().st_mode) == 0o600
    assert str(client.secret) not in text
    assert simulator.management_key not in text
    assert os.listdir(tmp_path) == ["state.json"]


def test_state_is_saved_before_the_reply_is_lost(tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    simulator = Simulator(state_file=state)
    with simulator:
        simulator.fault(path="/keys", status=502, act=True)
        account_of(simulator).manager.expect(502, "POST", "/keys", {"name": "made"})
    assert [row["name"] for row in Simulator(state_file=state).keys] == ["made"]


def test_catalog_of_the_callers_own(tmp_path: Path) -> None:
    catalog = tmp_path / "catalog.json"
    whole = (TESTS / "simulator" / "catalog.json").read_text().splitlines()
    catalog.write_text("\n".join([*whole[:1], whole[1].rstrip(","), *whole[-1:]]))
    with Simulator(catalog_file=catalog) as simulator:
        assert simulator.state["models"] == 1


@contextmanager
def process(folder: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], RemoteSimulator]]:
    """The simulator as a program of its own, steered from here."""
    port_file = folder / "port"
    port_file.unlink(missing_ok=True)
    state = folder / "state.json"
    command = [sys.executable, "-m", "simulator", "--state", str(state)]
    with subprocess.Popen(
        [*command, "--port-file", str(port_file), *options],
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as running:
        try:
            while not port_file.exists():
                assert running.poll() is None, running.communicate()[0]
                time.sleep(0.02)
            key_file = folder / "state.json.management-key"
            url = f"http://127.0.0.1:{port_file.read_text().strip()}/api/v1"
            yield running, RemoteSimulator(url, key_file.read_text().strip())
        finally:
            running.send_signal(signal.SIGTERM)
            running.wait(timeout=10)


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_program_survives_its_own_end(tmp_path: Path, end: signal.Signals) -> None:
    with process(tmp_path) as (running, simulator):
        _ignored, client = account_of(simulator).fenced("openai/gpt-4.1")
        running.send_signal(end)
        running.wait(timeout=10)
        output = running.communicate()[0]
    assert running.returncode == (0 if end == signal.SIGTERM else -signal.SIGKILL)
    with process(tmp_path) as (_process, simulator):
        client.url = simulator.url
        client.chat("openai/gpt-4.1")
        client.refused(404, "openai/gpt-4o")
    assert "sk-or-" not in output


def test_program_takes_a_management_key_that_is_there(tmp_path: Path) -> None:
    key_file = tmp_path / "state.json.management-key"
    key_file.write_text("sk-or-mgmt-made-up\n")
    with process(tmp_path) as (_ignored, simulator):
        assert simulator.management_key == "sk-or-mgmt-made-up"
        account_of(simulator).key()
