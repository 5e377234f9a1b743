# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.mai.fleet.plugins.module_utils._api.openwebui import (
    EVERYBODY,
    Connection,
    ModelRow,
    OpenWebUI,
    Provider,
)
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.ownership import Custody
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.settings import (
    Settings,
    State,
    apply,
    drift,
    found_key,
    judge,
    our_connection,
    wanted,
)
from ansible_collections.mai.fleet.plugins.module_utils._rows import Row
from ansible_collections.mai.fleet.plugins.module_utils._secrets import fingerprint

URL = "https://openrouter.ai/api/v1"
KEY = "sk-or-v1-ours"
NOW = 1_795_000_000
SETTINGS = Settings(
    url=URL,
    key=KEY,
    model_ids=["a/one", "b/two"],
    tags=["mai"],
    names={"a/one": "One"},
    retired=["c/old"],
    webui_url="https://chat.acme.example",
    suspended=False,
    notice="Suspended.",
)
OURS = Connection(
    URL,
    KEY,
    {
        "enable": True,
        "model_ids": ["a/one", "b/two"],
        "tags": [{"name": "mai"}],
        "connection_type": "external",
        "prefix_id": "",
    },
)
THEIRS = Connection("https://api.mistral.ai/v1", "their-key", {"model_ids": ["c/old"]})


def _state(*connections: Connection, **fields: Any) -> State:
    return State(Provider(enabled=True, connections=connections), **fields)


def _find(*connections: Connection) -> int | None:
    return our_connection(connections, URL, fingerprint(KEY), ["mai"])


def test_what_is_as_wanted_stays_as_it_is() -> None:
    settled = wanted(SETTINGS, _state(OURS), NOW)
    assert wanted(SETTINGS, settled, NOW + 1) == settled


def test_a_missing_connection_is_appended() -> None:
    assert wanted(SETTINGS, _state(THEIRS), NOW).provider.connections == (THEIRS, OURS)


def test_a_connection_is_repaired_in_its_place() -> None:
    broken = replace(
        OURS,
        key="sk-or-v1-old",
        config={"enable": False, "auth_type": "none", "headers": {"X-Title": "Acme"}},
    )
    found = wanted(SETTINGS, _state(broken, THEIRS), NOW).provider.connections
    repaired = replace(OURS, config={**OURS.config, "headers": {"X-Title": "Acme"}})
    assert found == (repaired, THEIRS)


def test_the_order_of_models_is_the_clients_to_choose() -> None:
    sorted_by_hand = replace(OURS, config={**OURS.config, "model_ids": ["b/two", "a/one"]})
    assert wanted(SETTINGS, _state(sorted_by_hand), NOW).provider.connections == (sorted_by_hand,)


def test_the_clients_own_connection_to_the_same_place_is_not_ours() -> None:
    own = Connection(URL, "sk-or-v1-their-own", {})
    assert _find(own, OURS) == 1
    assert _find(own, replace(OURS, key="sk-or-v1-before-rotation")) == 1
    assert _find(replace(OURS, config={}), own) == 0


def test_our_key_shows_which_connection_is_ours_when_the_url_has_changed() -> None:
    moved = replace(OURS, url="https://eu.openrouter.ai/api/v1")
    assert _find(THEIRS, moved) == 1
    assert wanted(SETTINGS, _state(THEIRS, moved), NOW).provider.connections == (THEIRS, OURS)


def test_a_connection_without_a_key_is_not_taken_for_ours() -> None:
    empty = Connection("https://api.openai.com/v1", "", {})
    assert our_connection((empty,), URL, fingerprint(""), ["mai"]) is None


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"enable": False}, "switched off"),
        ({"model_ids": ["a/one"]}, "models"),
        ({"model_ids": []}, "models"),
        ({"tags": []}, "tags"),
        ({"connection_type": "local"}, "type"),
        ({"prefix_id": "or"}, "prefix"),
        ({"auth_type": "none"}, "auth_type"),
        ({"azure": True}, "azure"),
    ],
)
def test_drift_is_named(change: dict[str, Any], name: str) -> None:
    assert drift(OURS, URL, SETTINGS.model_ids, ["mai"]) == []
    changed = replace(OURS, config={**OURS.config, **change})
    assert drift(changed, URL, SETTINGS.model_ids, ["mai"]) == [name]


def test_a_slash_at_the_end_of_the_url_is_drift() -> None:
    assert drift(replace(OURS, url=f"{URL}/"), URL, SETTINGS.model_ids, ["mai"]) == ["URL"]


def test_listed_models_get_rows_that_everybody_may_read() -> None:
    rows = wanted(SETTINGS, _state(OURS), NOW).rows
    assert {row.id: row.name for row in rows.values()} == {"a/one": "One", "b/two": "b/two"}
    assert all(row.grants == {EVERYBODY} and row.active for row in rows.values())


def test_more_grants_of_the_client_stay() -> None:
    theirs = ("group", "g1", "write")
    there = ModelRow("a/one", "One", grants=frozenset({theirs}), active=False)
    row = wanted(SETTINGS, _state(OURS, rows={"a/one": there}), NOW).rows["a/one"]
    assert row.grants == {theirs, EVERYBODY}
    assert row.active


def test_a_new_name_replaces_ours_but_not_the_clients() -> None:
    made = wanted(SETTINGS, _state(OURS), NOW)
    renamed = replace(SETTINGS, names={"a/one": "One, the first", "b/two": "Two"})
    assert wanted(renamed, made, NOW).rows["a/one"].name == "One, the first"
    assert wanted(renamed, made, NOW).rows["b/two"].name == "Two"
    by_client = {**made.rows, "a/one": replace(made.rows["a/one"], name="Best")}
    assert wanted(renamed, replace(made, rows=by_client), NOW).rows["a/one"].name == "Best"


def test_our_rows_of_models_no_longer_listed_go_and_others_stay() -> None:
    made = wanted(SETTINGS, _state(OURS), NOW)
    rows = {
        **made.rows,
        "c/old": ModelRow("c/old", "Old"),
        "d/theirs": ModelRow("d/theirs", "Theirs"),
    }
    fewer = replace(SETTINGS, model_ids=["a/one"])
    assert wanted(fewer, replace(made, rows=rows), NOW).rows.keys() == {"a/one", "d/theirs"}


@pytest.mark.parametrize(
    "connection",
    [
        THEIRS,
        replace(THEIRS, config={}),
        replace(THEIRS, config={"prefix_id": "c/", "model_ids": ["x"]}),
    ],
)
def test_an_unmarked_row_stays_when_a_connection_of_the_client_may_serve_it(
    connection: Connection,
) -> None:
    model_id = "c/.x" if connection.config.get("prefix_id") else "c/old"
    settings = replace(SETTINGS, retired=[model_id])
    rows = {model_id: ModelRow(model_id, "Old")}
    assert model_id in wanted(settings, _state(OURS, connection, rows=rows), NOW).rows
    off = replace(connection, config={**connection.config, "enable": False})
    assert model_id not in wanted(settings, _state(OURS, off, rows=rows), NOW).rows


def test_only_our_part_of_the_admin_settings_changes() -> None:
    config = {"ENABLE_SIGNUP": True, "WEBUI_URL": "", "DEFAULT_USER_ROLE": "user"}
    assert wanted(SETTINGS, _state(admin_config=config), NOW).admin_config == {
        "ENABLE_SIGNUP": False,
        "WEBUI_URL": "https://chat.acme.example",
        "DEFAULT_USER_ROLE": "user",
    }


def test_the_notice_of_a_suspension_comes_and_goes_beside_other_banners() -> None:
    other = {"id": "x", "type": "info", "content": "Hi", "dismissible": True, "timestamp": 1}
    suspended = replace(SETTINGS, suspended=True)
    shown = wanted(suspended, _state(OURS, banners=[other]), NOW)
    assert shown.banners[0] == other
    assert shown.banners[1]["content"] == "Suspended."
    assert shown.banners[1]["dismissible"] is False
    assert wanted(suspended, shown, NOW + 60).banners == shown.banners
    reworded = wanted(replace(suspended, notice="Call us."), shown, NOW + 60).banners
    assert [banner["content"] for banner in reworded] == ["Hi", "Call us."]
    assert wanted(SETTINGS, shown, NOW).banners == [other]


def test_chats_go_by_what_is_stored_once_all_of_it_is(recorded: Any) -> None:
    """A new key needs no more than to be stored."""
    written = ["POST /api/v1/configs/import", "POST /api/v1/models/create"]
    for request in written:
        recorded.answer(request, 200, {})
    recorded.answer("GET /api/models?refresh=true", 200, {"data": []})
    api = OpenWebUI(recorded.transport, "t")
    banner = _state(THEIRS, OURS, banners=[{"id": "x"}])
    recorded.answer("POST /api/v1/configs/banners", 200, [])
    apply(api, _state(THEIRS, replace(OURS, key="sk-or-v1-old")), banner)
    asked = [row["request"] for row in recorded.requests]
    assert asked == ["POST /api/v1/configs/import", "POST /api/v1/configs/banners"]
    recorded.requests.clear()
    new = _state(THEIRS, OURS, rows={"a/one": ModelRow("a/one", "One")})
    apply(api, _state(THEIRS, replace(OURS, config={})), new)
    asked = [row["request"] for row in recorded.requests]
    assert asked == [*written, "GET /api/models?refresh=true"]


def test_a_model_that_was_switched_off_is_listed_again(recorded: Any) -> None:
    row = ModelRow("a/one", "One")
    recorded.answer("POST /api/v1/models/model/update", 200, {})
    recorded.answer("GET /api/models?refresh=true", 200, {"data": []})
    off = _state(OURS, rows={"a/one": replace(row, active=False)})
    apply(OpenWebUI(recorded.transport, "t"), off, _state(OURS, rows={"a/one": row}))
    asked = [row["request"] for row in recorded.requests]
    assert asked == ["POST /api/v1/models/model/update", "GET /api/models?refresh=true"]


def _typed(key: str, policy: str = "report", **owners: str) -> tuple[Settings, State]:
    custody = Custody({fingerprint(one): client for client, one in owners.items()}, policy)
    return replace(SETTINGS, custody=custody), _state(replace(OURS, key=key))


@pytest.mark.parametrize(
    ("key", "policy", "stays", "fails", "warns"),
    [
        ("typed", "report", True, True, False),
        ("typed", "keep", True, False, True),
        ("typed", "adopt", True, False, True),
        ("typed", "revert", False, False, True),
        # Whatever the policy says: a former key gives way in silence, a neighbour's never does.
        ("former", "keep", False, False, False),
        ("neighbour", "keep", False, True, False),
        (KEY, "report", False, False, False),
        ("", "report", False, False, False),
    ],
)
def test_what_becomes_of_a_key_that_somebody_typed_in(
    key: str, policy: str, stays: bool, fails: bool, warns: bool
) -> None:
    settings, old = _typed(key, policy, acme="former", beta="neighbour")
    found, whose = found_key("acme", settings, old.provider)
    new = wanted(settings, old, NOW, settings.custody.stays(whose))
    assert new.provider.connections[0].key == (key if stays else KEY)
    row = Row(changed=new != old)
    judge(row, "acme", settings, found, whose)
    assert (row.error is not None, bool(row.warnings)) == (fails, warns)
    assert "typed" not in str(row)


def test_a_breach_names_both_clients_and_what_to_do() -> None:
    settings, old = _typed("neighbour", "keep", beta="neighbour")
    row = Row(changed=True)
    judge(row, "acme", settings, *found_key("acme", settings, old.provider))
    assert row.error is not None
    assert "isolation breach" in row.error.what and "beta" in row.error.what
    assert "mai.fleet.rotate -e fleet_select=beta" in row.error.todo
    assert row.more["replaced_key"] == {
        "found": fingerprint("neighbour"),
        "whose": "another client's key",
    }


def test_a_kept_key_keeps_nothing_else_from_being_right() -> None:
    settings, old = _typed("typed", "keep")
    astray = _state(replace(old.provider.connections[0], config={"model_ids": []}))
    new = wanted(settings, astray, NOW, True)
    assert new.provider.connections[0].key == "typed"
    assert new.provider.connections[0].model_ids == SETTINGS.model_ids
