# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest
from simulator.plain import Account, Client

pytestmark = pytest.mark.usefixtures("law_abiding")

SONNET = "anthropic/claude-sonnet-4"
SONNET_CANONICAL = "anthropic/claude-4-sonnet-20250522"


def usable(client: Client) -> set[str]:
    return {row["id"] for row in client.get("/models/user")["data"]}


def create(account: Account, status: int, **fields: Any) -> Any:
    return account.manager.expect(status, "POST", "/guardrails", fields)


def test_models_are_stored_as_canonical_slugs_once_each_in_order(account: Account) -> None:
    stored = account.guardrail(
        "openai/gpt-4o:extended", SONNET, SONNET_CANONICAL, "google/gemini-2.5-flash:batch"
    )
    assert stored["allowed_models"] == [
        "openai/gpt-4o:extended",
        SONNET_CANONICAL,
        "google/gemini-2.5-flash:batch",
    ]


@pytest.mark.parametrize("models", [["no/such-model"], [f"{SONNET}:nitro"], [f"{SONNET}:free"]])
def test_unknown_models_are_refused(account: Account, models: list[str]) -> None:
    error = create(account, 400, name="g", allowed_models=models)["error"]
    assert models[0] in error["message"]


def test_expired_model_cannot_be_listed_but_stays_where_it_is(account: Account) -> None:
    stored = account.guardrail(SONNET)
    account.simulator.expire_model(SONNET)
    assert account.manager.get(f"/guardrails/{stored['id']}")["data"]["allowed_models"] == [
        SONNET_CANONICAL
    ]
    create(account, 400, name="other", allowed_models=[SONNET])


@pytest.mark.parametrize("fields", [{"limit_usd": 5}, {"reset_interval": "daily"}])
def test_budget_needs_both_fields(account: Account, fields: dict[str, Any]) -> None:
    create(account, 400, name="g", **fields)
    stored = account.guardrail(limit_usd=5, reset_interval="daily")
    account.manager.expect(400, "PATCH", f"/guardrails/{stored['id']}", fields)


def test_names_are_unique(account: Account) -> None:
    account.guardrail(name="a")
    other = account.guardrail(name="b")
    create(account, 409, name="a")
    account.manager.expect(409, "PATCH", f"/guardrails/{other['id']}", {"name": "a"})
    account.manager.expect(200, "PATCH", f"/guardrails/{other['id']}", {"name": "b"})


def test_change_replaces_lists_clears_with_null_and_keeps_the_rest(account: Account) -> None:
    stored = account.guardrail(SONNET, "openai/o3", description="text")
    path = f"/guardrails/{stored['id']}"
    changed = account.manager.expect(200, "PATCH", path, {"allowed_models": ["openai/gpt-4.1"]})
    assert changed["data"]["allowed_models"] == ["openai/gpt-4.1-2025-04-14"]
    assert changed["data"]["description"] == "text"
    cleared = account.manager.expect(200, "PATCH", path, {"allowed_models": None})
    assert cleared["data"]["allowed_models"] is None


def test_pages(account: Account) -> None:
    for number in range(60):
        account.guardrail(name=f"g{number}")
    first = account.manager.get("/guardrails")
    assert (len(first["data"]), first["total_count"]) == (50, 60)
    assert first["data"][0]["name"] == "g59"
    assert len(account.manager.get("/guardrails", offset=50, limit=100)["data"]) == 10


def test_nothing_is_enforced_until_assigned(account: Account) -> None:
    key_hash, client = account.key()
    guardrail = account.guardrail(SONNET)
    assert len(usable(client)) > 100
    client.chat("openai/gpt-4.1")
    assert account.assign(guardrail["id"], key_hash) == 1
    assert usable(client) == {SONNET}
    client.refused(404, "openai/gpt-4.1")


def test_assigning_counts_only_what_changed(account: Account) -> None:
    key_hash, _ignored = account.key()
    guardrail = account.guardrail(SONNET)
    unknown = "f" * 64
    assert account.assign(guardrail["id"], key_hash, unknown, key_hash) == 1
    assert account.assign(guardrail["id"], key_hash) == 0
    remove = f"/guardrails/{guardrail['id']}/assignments/keys/remove"
    body = {"key_hashes": [key_hash, unknown]}
    for count in (1, 0):
        answer = account.manager.expect(200, "POST", remove, body)
        assert answer == {"unassigned_count": count}


def test_second_guardrail_replaces_the_first_silently(account: Account) -> None:
    key_hash, client = account.fenced(SONNET)
    second = account.guardrail("openai/gpt-4.1", name="second")
    assert account.assign(second["id"], key_hash) == 1
    assert usable(client) == {"openai/gpt-4.1"}
    rows = account.manager.get("/guardrails/assignments/keys")["data"]
    assert [(row["key_hash"], row["guardrail_id"]) for row in rows] == [(key_hash, second["id"])]


def test_assignment_of_a_deleted_key_is_counted_but_not_shown(account: Account) -> None:
    guardrail = account.guardrail(SONNET)
    hashes = [account.key(f"k{number}")[0] for number in range(4)]
    account.assign(guardrail["id"], *hashes)
    account.manager.expect(200, "DELETE", f"/keys/{hashes[0]}")
    path = f"/guardrails/{guardrail['id']}/assignments/keys"
    first = account.manager.get(path, limit=2)
    second = account.manager.get(path, limit=2, offset=2)
    assert first["total_count"] == second["total_count"] == 4
    assert [row["key_hash"] for row in first["data"]] == hashes[1:2]
    assert [row["key_hash"] for row in second["data"]] == hashes[2:]


def test_deleted_guardrail_sets_its_keys_free(account: Account) -> None:
    key_hash, client = account.key()
    guardrail = account.guardrail(SONNET)
    account.assign(guardrail["id"], key_hash)
    path = f"/guardrails/{guardrail['id']}"
    assert account.manager.expect(200, "DELETE", path) == {"deleted": True}
    assert len(usable(client)) > 100
    for method in ("GET", "DELETE"):
        account.manager.expect(404, method, path)


def test_key_of_another_workspace_cannot_be_assigned(account: Account) -> None:
    other = account.simulator.add_workspace("Other", "other")
    key_hash, _ignored = account.key(workspace_id=other)
    path = f"/guardrails/{account.guardrail(SONNET)['id']}/assignments/keys"
    account.manager.expect(400, "POST", path, {"key_hashes": [key_hash]})


def test_enforcement_can_lag_behind(account: Account) -> None:
    key_hash, client = account.fenced(SONNET, "openai/gpt-4.1")
    guardrail = account.manager.get("/guardrails")["data"][0]
    path = f"/guardrails/{guardrail['id']}"
    account.simulator.configure(enforcement_delay=60)
    account.manager.expect(200, "PATCH", path, {"allowed_models": [SONNET]})
    assert account.manager.get(path)["data"]["allowed_models"] == [SONNET_CANONICAL]
    assert usable(client) == {SONNET, "openai/gpt-4.1"}
    account.simulator.advance(seconds=30)
    account.change(key_hash, disabled=True)
    client.chat("openai/gpt-4.1")
    account.simulator.advance(seconds=31)
    assert usable(client) == {SONNET}
    client.refused(404, "openai/gpt-4.1")
    account.simulator.advance(seconds=30)
    client.expect(401, "GET", "/models/user")


def test_budget_of_a_guardrail(account: Account) -> None:
    key_hash, client = account.key()
    account.assign(account.guardrail(limit_usd=2, reset_interval="weekly")["id"], key_hash)
    account.simulator.set_usage(key_hash, 2)
    error = client.refused(403, "openai/gpt-4.1")["error"]
    assert error["metadata"]["limit_source"] == "openrouter_guardrail_budget"


def test_ignored_models(account: Account) -> None:
    key_hash, client = account.key()
    account.assign(account.guardrail(ignored_models=[SONNET])["id"], key_hash)
    client.refused(404, SONNET)
    client.chat("openai/gpt-4.1")


def test_a_key_in_place_of_its_hash_is_refused_and_not_recorded(account: Account) -> None:
    _ignored, client = account.key()
    path = f"/guardrails/{account.guardrail(SONNET)['id']}/assignments/keys"
    answer = account.manager.send("POST", path, {"key_hashes": [client.secret]})
    account.manager.send("GET", f"/keys/{client.secret}")
    assert answer.status_code == 400
    seen = f"{answer.text} {account.simulator.violations} {account.simulator.requests}"
    assert len(account.simulator.violations) == 2
    assert str(client.secret) not in seen
    account.simulator.clear_log()
