# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from hcloud import Client
from hetzner.web import Hetzner


@pytest.fixture
def hetzner() -> Iterator[Hetzner]:
    """An empty project."""
    with Hetzner() as running:
        yield running


@pytest.fixture
def client(hetzner: Hetzner) -> Client:
    """hcloud-python itself, of which the modules of hetzner.hcloud have a copy."""
    return Client(token=hetzner.token, api_endpoint=hetzner.url, poll_interval=0.01)
