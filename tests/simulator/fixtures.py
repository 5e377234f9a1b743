# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pytest fixtures, for a conftest.py to import."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .plain import Account, Client
from .simulator import Simulator

__all__ = ["account", "law_abiding", "simulator"]


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    """A fresh simulator on a port of its own."""
    with Simulator() as running:
        yield running


@pytest.fixture
def account(simulator: Simulator) -> Account:
    return Account(simulator, Client(simulator.url, simulator.management_key))


@pytest.fixture
def law_abiding(simulator: Simulator) -> Iterator[None]:
    """The test must not have made a request, nor got an answer, that the table does not allow."""
    yield
    assert simulator.violations == []
