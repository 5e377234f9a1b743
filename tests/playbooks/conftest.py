# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from playbooks.operator import Operator
from simulator.fixtures import simulator
from simulator.simulator import Simulator
from unit.conftest import COLLECTIONS_PATH

__all__ = ["operator", "simulator"]


@pytest.fixture
def operator(tmp_path: Path, simulator: Simulator) -> Operator:
    """Somebody with an empty fleet on one server."""
    return Operator(tmp_path, simulator, COLLECTIONS_PATH)
