# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS))


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "docker: needs a Docker daemon and permission to use it")


@pytest.fixture(scope="session")
def collections_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where playbooks find the collection: what is named from outside, or else this checkout."""
    if "ANSIBLE_COLLECTIONS_PATH" in os.environ:
        return Path(os.environ["ANSIBLE_COLLECTIONS_PATH"])
    farm = tmp_path_factory.mktemp("collections")
    link = farm / "ansible_collections" / "mai" / "fleet"
    link.parent.mkdir(parents=True)
    link.symlink_to(TESTS.parent)
    return farm
