# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What stages tell the journal, from the rows that they get back."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.mai.fleet.plugins.action import fleet_containers, fleet_settings
from ansible_collections.mai.fleet.plugins.plugin_utils._stage import Stage

NONE = {"container": "absent", "digest": None, "image": None, "started_at": None}
OLD = {"container": "running", "digest": "a1", "image": "webui:1", "started_at": "t1"}


def told(stage: type[Stage], news: dict[str, Any]) -> dict[str, Any] | None:
    return stage.line(stage.__new__(stage), "acme", {}, news)


@pytest.mark.parametrize(
    ("before", "after", "what"),
    [
        (NONE, OLD, "create container"),
        (OLD, {**OLD, "digest": "b2", "started_at": "t2"}, "recreate container"),
        (OLD, {**OLD, "image": "webui:2", "started_at": "t2"}, "recreate container"),
        ({**OLD, "container": "exited"}, {**OLD, "started_at": "t2"}, "start container"),
        (OLD, NONE, "remove container"),
    ],
)
def test_what_was_done_to_a_container(
    before: dict[str, Any], after: dict[str, Any], what: str
) -> None:
    line = told(fleet_containers.ActionModule, {"changed": True, "before": before, "after": after})
    assert line is not None
    assert (line["what"], line["result"]) == (what, "done")
    assert line["before"].keys() == line["now"].keys()
    assert all(line["before"][field] != line["now"][field] for field in line["now"])


def test_nothing_is_told_of_what_stayed() -> None:
    row = {"changed": False, "before": OLD, "after": OLD}
    assert told(fleet_containers.ActionModule, row) is None


@pytest.mark.parametrize("before", [OLD, {}, None])
def test_a_failure_is_told(before: Any) -> None:
    failure = {"what": "it does not start", "where": "server web1", "todo": ""}
    row = {"failed": True, "failure": failure, "before": before, "after": before}
    line = told(fleet_containers.ActionModule, row)
    assert line == {"what": "change container", "result": "failed: it does not start"}


def test_only_what_differs_is_told_of_settings() -> None:
    before = {"claimed": True, "connection": {"key": "sha256:1"}, "sign_up": "closed"}
    after = {**before, "connection": {"key": "sha256:2"}}
    row = {"changed": True, "before": before, "after": after}
    assert told(fleet_settings.ActionModule, row) == {
        "what": "change settings",
        "result": "done",
        "before": {"connection": {"key": "sha256:1"}},
        "now": {"connection": {"key": "sha256:2"}},
    }
    # An account was made, which no view shows.
    line = told(fleet_settings.ActionModule, {"changed": True, "before": before, "after": before})
    assert line == {"what": "change settings", "result": "done"}
