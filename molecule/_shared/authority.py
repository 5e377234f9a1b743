# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a browser in a rehearsal trusts, for scenarios whose prepare.yml imports authority.yml."""

from __future__ import annotations

import os
import ssl
import urllib.request
from pathlib import Path

import pytest
import rehearsal


@pytest.fixture(scope="session")
def authorities(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a browser trusts: the rehearsal's certificate authority."""
    own = ssl.create_default_context(cafile=str(rehearsal.HOME / "pebble" / "cert.pem"))
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=own)
    )
    file = tmp_path_factory.mktemp("trust") / "root.pem"
    url = f"https://{os.environ['REHEARSAL_PREFIX']}.3:15000/roots/0"
    with opener.open(url, timeout=30) as answer:
        file.write_bytes(answer.read())
    return file


@pytest.fixture(scope="session")
def trust(authorities: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(authorities))
