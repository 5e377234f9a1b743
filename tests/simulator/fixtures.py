# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pytest fixtures; a conftest.py takes them with `from simulator.fixtures import *`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .simulator import Simulator


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    """A fresh simulator on a port of its own."""
    with Simulator() as running:
        yield running
