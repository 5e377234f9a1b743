# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lets the tests of this folder share what lies beside them, and the hosts share the tests.

What is the same on every host, or concerns one distribution only, is marked with the hosts that it
is looked at on: ``@pytest.mark.on("d12")``. Elsewhere there is no such test.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "on(*hosts): the only hosts that the test is run on")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    hosts = {_host(item) for item in items}
    chosen, left_out = [], []
    for item in items:
        marker = item.get_closest_marker("on")
        unknown = sorted(set(marker.args) - hosts) if marker else []
        if unknown:
            raise pytest.UsageError(f"{item.name} is marked for {unknown}, of {sorted(hosts)}")
        (chosen if marker is None or _host(item) in marker.args else left_out).append(item)
    items[:] = chosen
    config.hook.pytest_deselected(items=left_out)


def _host(item: pytest.Item) -> str:
    """The host that testinfra made this test for."""
    assert isinstance(item, pytest.Function)
    return str(item.callspec.params["_testinfra_host"].backend.host)
