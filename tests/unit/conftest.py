# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes ``ansible_collections.mai.fleet`` this checkout, wherever it lies.

It happens on import, before pytest imports any test. ``ansible_collections`` is a namespace
package, so the collections of the installed ``ansible`` package stay importable beside ours.
"""

from __future__ import annotations

import atexit
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


def _collections_path() -> Path:
    """The folder that holds ``ansible_collections/mai/fleet``, made of a symlink where need be."""
    if REPOSITORY.parts[-3:] == ("ansible_collections", "mai", "fleet"):
        return REPOSITORY.parents[2]
    farm = Path(tempfile.mkdtemp(prefix="mai-fleet-"))
    atexit.register(shutil.rmtree, farm, ignore_errors=True)
    link = farm / "ansible_collections" / "mai" / "fleet"
    link.parent.mkdir(parents=True)
    link.symlink_to(REPOSITORY)
    return farm


COLLECTIONS_PATH = _collections_path()
sys.path.insert(0, str(COLLECTIONS_PATH))
# For the ansible programs that tests start; and no collection installed elsewhere shadows this one.
os.environ["ANSIBLE_COLLECTIONS_PATH"] = str(COLLECTIONS_PATH)


def _load_as_ansible_does() -> None:
    """Whoever imports a collection before Ansible's loader is there keeps it from its plugins."""
    # Not above: it reads that variable when it is imported.
    from ansible.plugins.loader import init_plugin_loader
    from ansible.utils.collection_loader._collection_config import AnsibleCollectionConfig

    # The tests of playbooks import this file once more.
    if AnsibleCollectionConfig.collection_finder is None:
        init_plugin_loader()


_load_as_ansible_does()


def pytest_configure(config: pytest.Config) -> None:
    # Here and not in pyproject.toml, because ansible-test brings its own pytest settings.
    config.addinivalue_line("markers", "docker: needs a Docker daemon and permission to use it")


@pytest.fixture(autouse=True)
def no_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests are an operator's runs, also where a CI job runs them."""
    from ansible_collections.mai.fleet.plugins.plugin_utils._workspace import SIGNS

    for sign in SIGNS:
        monkeypatch.delenv(sign, raising=False)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The checkout under test."""
    return REPOSITORY


@pytest.fixture(scope="session")
def collections_path() -> Path:
    """A collections path with this checkout in it, for programs that tests start."""
    return COLLECTIONS_PATH


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port of 127.0.0.1 that refuses connections, and that nobody else can take meanwhile."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        yield reserved.getsockname()[1]
