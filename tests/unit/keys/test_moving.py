# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the action says that moves secrets. The move itself: tests/unit/stores/test_move.py."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.mai.fleet.plugins.action import fleet_move_secrets
from ansible_collections.mai.fleet.plugins.plugin_utils._store import Store
from unit.keys.bench import Bench, Row, files, vault
from unit.keys.stages import SERVERS, Stages


class Killed(BaseException):
    """The run ends here."""


class Moving(Stages):
    """:ivar folder: the one of the secrets that fleet.yml names"""

    folder = "secrets"

    @property
    def config(self) -> Row:
        return {**super().config, "secrets": str(self.bench.folder / self.folder)}

    def move(self, *, check: bool = False) -> Row:
        return self.attempt("fleet_move_secrets", SERVERS[0], {}, check)


def test_check_mode_warns_of_those_that_would_stay(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run was cut off after the switch, and the next one renewed a client's secrets."""
    monkeypatch.setenv("OPENROUTER_MANAGEMENT_KEY", bench.simulator.management_key)
    stages = Moving(bench)
    stages.client("acme")
    stages.client("beta")
    stages.run(prove=False)
    stages.folder = "keys"

    def cut(*_given: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(fleet_move_secrets, "note_move", cut)
        with pytest.raises(Killed):
            stages.move()
    Store(stages.config, vault()).save_secrets("acme", {"api_key": "sk-or-v1-renewed"})

    before = files(bench.folder)
    trial = stages.move(check=True)
    (warning,) = trial["warnings"]
    assert "client acme: " in warning and "by hand" in warning and "renewed" not in warning
    assert trial["clients"] == ["beta"] and "1 clients' secrets would go" in trial["msg"]
    assert files(bench.folder) == before

    moved = stages.move()
    assert moved["failed"] and "client acme: " in moved["msg"], moved
    assert "client beta" not in moved["msg"] and "run it again" not in moved["msg"]
    assert [path.stem for path in (bench.folder / "secrets").glob("*.yml")] == ["acme"]
