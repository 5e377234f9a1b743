# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from simulator.simulator import Simulator
from unit.keys.bench import Bench


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    """A fresh account. Nothing may be asked of it that the contract table does not know."""
    with Simulator() as running:
        yield running
        assert running.violations == []


@pytest.fixture
def bench(simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    # A busy disk takes seconds for what no test here can see. test_store.py looks at it.
    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)
    return Bench(simulator, tmp_path / "fleet")


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a proxy nor a key of the machine that runs the tests."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name in ("OPENROUTER_MANAGEMENT_KEY", "OPENROUTER_PROVISIONING_KEY"):
        monkeypatch.delenv(name, raising=False)
