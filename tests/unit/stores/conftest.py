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

from standins.supply import Supply, supply


@pytest.fixture
def supplied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Supply]:
    """With an operator's environment."""
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    # A busy disk takes seconds for what no test here can see.
    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)
    with supply(tmp_path / "supply") as given:
        for name, value in given.environment.items():
            monkeypatch.setenv(name, value)
        yield given
