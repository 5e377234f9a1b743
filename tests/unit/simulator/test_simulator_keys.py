# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime
from typing import Any

import pytest
from simulator.plain import Account
from simulator.state import window_end, window_start

pytestmark = pytest.mark.usefixtures("law_abiding")


def names(account: Account, **query: Any) -> list[str]:
    return [row["name"] for row in account.manager.get("/keys", **query)["data"]]


def test_secret_is_shown_once_and_its_hash_is_the_handle(account: Account) -> None:
    answer = account.manager.expect(201, "POST", "/keys", {"name": "a"})
    assert re.fullmatch("sk-or-v1-[0-9a-f]{64}", answer["key"])
    assert answer["data"]["hash"] == hashlib.sha256(answer["key"].encode()).hexdigest()
    again = account.manager.send("GET", f"/keys/{answer['data']['hash']}").text
    listed = account.manager.send("GET", "/keys").text
    assert answer["key"] not in again + listed


def test_pages_of_100_newest_first(account: Account) -> None:
    for number in range(103):
        account.key(f"k{number}")
    assert names(account) == [f"k{number}" for number in range(102, 2, -1)]
    assert names(account, offset=100) == ["k2", "k1", "k0"]
    assert names(account, offset=200) == []


def test_disabled_and_expired_keys_are_hidden_by_default(account: Account) -> None:
    account.key("plain")
    key_hash, _ignored = account.key("disabled")
    account.change(key_hash, disabled=True)
    account.key("expired", expires_at="2026-01-01T00:00:00Z")
    assert names(account) == ["plain"]
    assert names(account, include_disabled="true") == ["disabled", "plain"]
    assert names(account, include_expired="true") == ["expired", "plain"]


def test_only_the_default_workspace_is_listed(account: Account) -> None:
    other = account.simulator.add_workspace("Other", "other")
    account.key("here")
    account.key("there", workspace_id=other)
    assert names(account) == ["here"]
    assert names(account, workspace_id=other) == ["there"]
    unknown = "00000000-0000-4000-8000-000000000000"
    account.manager.expect(404, "GET", "/keys", workspace_id=unknown)
    assert [row["slug"] for row in account.manager.get("/workspaces")["data"]] == [
        "default",
        "other",
    ]


def test_change_and_clear(account: Account) -> None:
    key_hash, _ignored = account.key(limit=5, limit_reset="daily")
    changed = account.change(key_hash, limit=7.5)
    assert (changed["limit"], changed["limit_remaining"], changed["limit_reset"]) == (
        7.5,
        7.5,
        "daily",
    )
    cleared = account.change(key_hash, limit=None)
    assert (cleared["limit"], cleared["limit_remaining"]) == (None, None)
    assert account.manager.expect(400, "PATCH", f"/keys/{key_hash}", {})["error"]["message"] == (
        "No update fields provided"
    )


def test_deleted_key_is_gone(account: Account) -> None:
    key_hash, client = account.key()
    assert account.manager.expect(200, "DELETE", f"/keys/{key_hash}") == {"deleted": True}
    for method in ("GET", "DELETE"):
        account.manager.expect(404, method, f"/keys/{key_hash}")
    assert client.expect(401, "GET", "/key")["error"]["message"] == "User not found."


@pytest.mark.parametrize("path", ["/key", "/models/user"])
def test_disabled_key_is_refused_and_works_again(account: Account, path: str) -> None:
    key_hash, client = account.key()
    client.get(path)
    account.change(key_hash, disabled=True)
    client.expect(401, "GET", path)
    client.refused(401, "openai/gpt-4o-mini")
    account.change(key_hash, disabled=False)
    client.get(path)


def test_key_expires(account: Account) -> None:
    end = "2999-01-01T00:00:00Z"
    _ignored, client = account.key(expires_at=end)
    assert client.get("/key")["data"]["expires_at"] == end
    account.simulator.advance(days=366 * 1000)
    client.expect(401, "GET", "/key")


def test_current_key_tells_the_kinds_apart(account: Account) -> None:
    _ignored, client = account.key(limit=3, limit_reset="weekly")
    own = client.get("/key")["data"]
    assert (own["is_management_key"], own["limit"], own["limit_reset"]) == (False, 3, "weekly")
    assert account.manager.get("/key")["data"]["is_management_key"] is True


def test_wrong_kind_of_key(account: Account) -> None:
    _ignored, client = account.key()
    refusal = client.expect(403, "GET", "/keys")["error"]
    assert refusal == {"code": 403, "message": "Only management keys can perform this operation"}
    error = account.manager.refused(401, "openai/gpt-4o-mini")["error"]
    assert error["message"] == "User not found."


def test_missing_and_unknown_keys(account: Account) -> None:
    client = type(account.manager)(account.simulator.url, None)
    assert client.expect(401, "GET", "/keys")["error"]["message"] == "Missing Authentication header"
    client.secret = "sk-or-v1-" + "0" * 64
    for path in ("/keys", "/key", "/credits"):
        client.expect(401, "GET", path)


def test_usage_grows_and_windows_end(account: Account) -> None:
    key_hash, client = account.key(limit=10, limit_reset="monthly")
    cost = client.chat("openai/gpt-4.1")["usage"]["cost"]
    row = account.manager.get(f"/keys/{key_hash}")["data"]
    assert cost > 0
    assert {row[f"usage{name}"] for name in ("", "_daily", "_weekly", "_monthly")} == {cost}
    assert row["limit_remaining"] == pytest.approx(10 - cost)
    assert row["last_used_at"] is not None
    account.simulator.advance(days=32)
    row = account.manager.get(f"/keys/{key_hash}")["data"]
    assert (row["usage"], row["usage_daily"], row["usage_monthly"]) == (cost, 0, 0)
    assert row["limit_remaining"] == 10


@pytest.mark.parametrize(
    ("interval", "start", "end"),
    [
        ("daily", "2026-12-31", "2027-01-01"),
        ("weekly", "2026-12-28", "2027-01-04"),
        ("monthly", "2026-12-01", "2027-01-01"),
    ],
)
def test_windows_are_utc_days_weeks_from_monday_and_months(
    interval: str, start: str, end: str
) -> None:
    thursday = datetime(2026, 12, 31, 23, 59, tzinfo=UTC).timestamp()
    assert window_start(interval, thursday) == start
    assert window_end(interval, thursday) == f"{end}T00:00:00.000Z"


def test_used_up_key(account: Account) -> None:
    key_hash, client = account.key(limit=1, limit_reset="daily")
    account.simulator.set_usage(key_hash, 1.25)
    error = client.refused(403, "openai/gpt-4.1")["error"]
    assert error["message"].startswith("Key limit exceeded (daily limit)")
    assert error["metadata"]["limit_source"] == "openrouter_key_limit"
    assert client.get("/key")["data"]["limit_remaining"] == 0
    account.simulator.configure(key_limit_status=402)
    client.refused(402, "openai/gpt-4.1")
    account.simulator.advance(days=1)
    client.chat("openai/gpt-4.1")


def test_spending_with_provider_keys_of_ones_own_counts_where_it_is_set(account: Account) -> None:
    key_hash, client = account.key(limit=3, limit_reset="daily")
    account.simulator.set_usage(key_hash, 1, byok=2)
    row = account.manager.get(f"/keys/{key_hash}")["data"]
    assert (row["usage"], row["usage_daily"], row["limit_remaining"]) == (1, 1, 2)
    assert (row["byok_usage"], row["byok_usage_daily"]) == (2, 2)
    client.chat("openai/gpt-4.1")
    account.change(key_hash, include_byok_in_limit=True)
    assert client.get("/key")["data"]["limit_remaining"] == 0
    client.refused(403, "openai/gpt-4.1")


def test_lifetime_limit_never_refills(account: Account) -> None:
    key_hash, client = account.key(limit=1)
    account.simulator.set_usage(key_hash, 1)
    account.simulator.advance(days=400)
    assert "total limit" in client.refused(403, "openai/gpt-4.1")["error"]["message"]
    account.change(key_hash, limit=2)
    client.chat("openai/gpt-4.1")


def test_account_out_of_credit(account: Account) -> None:
    _ignored, client = account.key()
    client.chat("openai/gpt-4.1")
    used = account.manager.get("/credits")["data"]["total_usage"]
    assert used > 0
    account.simulator.set_credit(used)
    error = client.refused(402, "openai/gpt-4.1")["error"]
    assert error["metadata"]["limit_source"] == "openrouter_credits"
    account.simulator.set_credit(used + 1)
    client.chat("openai/gpt-4.1")


def test_activity_shows_completed_days_only(account: Account) -> None:
    key_hash, client = account.key()
    for chatting in (client, client, account.key("other")[1]):
        chatting.chat("openai/gpt-4.1")
    assert account.manager.get("/activity")["data"] == []
    account.simulator.advance(days=1)
    (row,) = account.manager.get("/activity", api_key_hash=key_hash)["data"]
    assert (row["model"], row["requests"]) == ("openai/gpt-4.1", 2)
    (both,) = account.manager.get("/activity", date=row["date"])["data"]
    assert both["requests"] == 3
    account.manager.expect(400, "GET", "/activity", date="2001-01-01")
    account.manager.expect(404, "GET", "/activity", api_key_hash="0" * 64)
