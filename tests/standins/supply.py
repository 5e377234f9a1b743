# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stores to try: each type that there is, with what it needs on this machine.

A ``sops`` on PATH is taken as it is. Where there is none, a stand-in takes its place.
"""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyrage

from standins import bao

TESTS = Path(__file__).resolve().parents[1]
TYPES = ("vault_files", "sops", "hashi_vault", "command")


class Supply:
    """What stores of all types need, in a folder.

    :param server: an OpenBao
    """

    def __init__(self, folder: Path, server: bao.Bao) -> None:
        self.folder = folder
        self.server = server
        self.kept = folder / "kept"
        self.log = folder / "sops-calls"
        folder.mkdir(parents=True)
        self.kept.mkdir()
        identity = pyrage.x25519.Identity.generate()
        self.recipient = str(identity.to_public())
        (folder / "age-key").write_text(f"{identity}\n")
        self.sops = shutil.which("sops") or str(self._stand_in())

    @property
    def environment(self) -> dict[str, str]:
        """What an operator exports."""
        return {"SOPS_AGE_KEY_FILE": str(self.folder / "age-key"), "VAULT_TOKEN": bao.ROOT}

    def settings(self, kind: str) -> dict[str, Any]:
        """What fleet.yml says of such a store."""
        keeper = [sys.executable, str(TESTS / "standins" / "keeper.py"), str(self.kept)]
        settings: dict[str, dict[str, Any]] = {
            "vault_files": {"type": "vault_files"},
            "sops": {"type": "sops", "age": [self.recipient], "sops_binary": self.sops},
            "hashi_vault": {"type": "hashi_vault", "url": self.server.url},
            "command": {"type": "command", "command": shlex.join(keeper), "timeout": 30},
        }
        return settings[kind]

    def order(self, *words: str) -> None:
        """What the command has to do from now on."""
        (self.kept / "order").write_text(" ".join(words))

    def _stand_in(self) -> Path:
        """It writes down its command line, as others could see it."""
        script = self.folder / "sops"
        script.write_text(
            "#!/bin/sh\n"
            f"tr '\\0' ' ' </proc/$$/cmdline >>{self.log}\n"
            f'PYTHONPATH={TESTS} exec {sys.executable} -m standins.sops "$@"\n'
        )
        script.chmod(0o755)
        return script


@contextmanager
def supply(folder: Path) -> Iterator[Supply]:
    with bao.running() as server:
        yield Supply(folder, server)
