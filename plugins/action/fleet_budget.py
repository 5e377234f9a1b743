# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError
from ansible_collections.mai.fleet.plugins.plugin_utils._stage import PARTS, Stage, merge


class ActionModule(Stage):
    STAGE = "budget"
    OPTIONS = ("failures",)

    def stage(self) -> dict[str, Any]:
        budget = self._budget()
        state = self.batch_state()
        failed = sorted(name for name, row in self._everyone().items() if _counts(row))
        stopped = 0 < budget <= len(failed)
        if stopped:
            left = [name for name, row in state["clients"].items() if not row["failure"]]
            names = ", ".join(failed[:10]) + (", …" if len(failed) > 10 else "")
            error = FleetError(
                f"not finished: the run stopped after {len(failed)} failed clients ({names}), and "
                f"its budget is {budget}",
                "fleet_failure_budget",
                "mend those and run again; this one is taken up where it was left",
            )
            self.fail(state, left, error)
        return {
            **{part: state[part] for part in PARTS},
            "changed": False,
            "stopped": stopped,
        }

    def _budget(self) -> int:
        given = self.option("failures", 0)
        try:
            budget = int(given)
            if budget < 0:
                raise ValueError
        except (TypeError, ValueError):
            raise FleetError(
                f"{given!r} is no number of clients",
                "fleet_failure_budget",
                "give a whole number; 0 never stops",
            ) from None
        return budget

    def _everyone(self) -> dict[str, dict[str, Any]]:
        """The clients of this batch and of those before it."""
        hosts = self._vars["ansible_play_hosts_all"]
        return dict(merge({host: self._raw(host).get("fleet_state") for host in hosts})["clients"])


def _counts(row: dict[str, Any]) -> bool:
    """Whether the client failed by itself and was not stopped for the sake of others."""
    return bool(row["failure"]) and row["failure"]["stage"] != ActionModule.STAGE
