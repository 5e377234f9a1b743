# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from simulator import models
from simulator.catalog import entry
from simulator.plain import Account

pytestmark = pytest.mark.usefixtures("law_abiding")

# What is sold by default.
TWELVE = [
    "anthropic/claude-sonnet-4",
    "google/gemini-2.5-flash",
    "google/gemini-2.5-pro",
    "deepseek/deepseek-chat-v3-0324",
    "anthropic/claude-3.7-sonnet",
    "google/gemini-2.5-flash-lite-preview-06-17",
    "openai/gpt-4.1",
    "x-ai/grok-4",
    "openai/gpt-4o-mini",
    "openai/o4-mini-high",
    "openai/o3",
    "openai/chatgpt-4o-latest",
]


def rows(account: Account, **query: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = account.manager.get("/models", **query)["data"]
    return found


def ids(account: Account, **query: Any) -> set[str]:
    return {row["id"] for row in rows(account, **query)}


def test_catalog_has_every_kind_of_row(account: Account) -> None:
    everything = rows(account, output_modalities="all")
    by_id = {row["id"]: row for row in everything}
    canonical = [row["canonical_slug"] for row in everything if row["id"].endswith(":batch")]
    soon = (datetime.now(UTC) + timedelta(days=30)).date().isoformat()
    assert len(by_id) == len(everything) >= 150
    assert set(TWELVE) <= by_id.keys()
    assert any(model.endswith(":free") for model in by_id)
    assert set(canonical) <= {row["canonical_slug"] for row in everything if ":" not in row["id"]}
    assert by_id["openrouter/auto"]["pricing"]["prompt"] == "-1"
    assert by_id["~anthropic/claude-sonnet-latest"]["alias_target"]["slug"] in by_id
    assert any((row["expiration_date"] or "9") < soon for row in everything)
    assert any("image" in row["architecture"]["input_modalities"] for row in everything)
    assert any("tools" not in row["supported_parameters"] for row in rows(account))


def test_entries_differ_although_canonical_slugs_do_not(account: Account) -> None:
    everything = rows(account, output_modalities="all")
    plain = [row for row in everything if "alias_target" not in row]
    assert len({row["canonical_slug"] for row in plain}) < len(plain)
    assert len({entry(row) for row in plain}) == len(plain)


def test_what_makes_no_text_is_hidden_by_default(account: Account) -> None:
    hidden = ids(account, output_modalities="all") - ids(account)
    assert "openai/text-embedding-3-small" in hidden
    assert ids(account, output_modalities="embeddings,image") >= hidden
    count = account.manager.get("/models/count", output_modalities="all")["data"]["count"]
    assert count == len(rows(account, output_modalities="all"))


def test_list_is_whole_or_in_pages(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "PAGE", 150)
    everything = account.manager.get("/models")
    assert everything["links"]["next"] is None
    assert everything["total_count"] == len(everything["data"])
    first = account.manager.get("/models", limit=100)
    assert len(first["data"]) == 100
    assert first["links"]["next"] == "/api/v1/models?limit=100&offset=100"
    assert len(account.manager.get("/models", offset=0)["data"]) == 150
    second = account.manager.get("/models", limit=100, offset=100)
    assert second["data"] == everything["data"][100:200]
    last = account.manager.get("/models", offset=everything["total_count"] - 1)
    assert (len(last["data"]), last["links"]["next"]) == (1, None)


@pytest.mark.parametrize("secret", [None, "sk-or-v1-wrong"])
def test_models_prove_no_key(account: Account, secret: str | None) -> None:
    account.manager.secret = secret
    assert len(rows(account)) > 100


def test_filters(account: Account) -> None:
    assert ids(account, q="grok 4", model_authors="x-ai,openai", sort="newest") == {
        "x-ai/grok-4",
        "x-ai/grok-4-fast",
        "x-ai/grok-4.1-fast",
    }
    for row in rows(account, supported_parameters="tools,reasoning", input_modalities="image"):
        assert {"tools", "reasoning"} <= set(row["supported_parameters"])
        assert "image" in row["architecture"]["input_modalities"]
    for row in rows(account, context=1000000, min_price=1, max_output_price=10):
        assert row["context_length"] >= 1000000
        assert Decimal(row["pricing"]["prompt"]) * 1000000 >= 1
        assert Decimal(row["pricing"]["completion"]) * 1000000 <= 10
    prices = [
        Decimal(row["pricing"]["prompt"]) for row in rows(account, sort="pricing-low-to-high")
    ]
    assert prices == sorted(prices)


def test_one_model(account: Account) -> None:
    model = account.manager.get("/model/openai/gpt-4.1")["data"]
    assert model["canonical_slug"] == "openai/gpt-4.1-2025-04-14"
    details = model["links"]["details"].removeprefix("/api/v1")
    (endpoint,) = account.manager.get(details)["data"]["endpoints"]
    assert endpoint["model_id"] == "openai/gpt-4.1"
    account.manager.expect(404, "GET", "/model/openai/gpt-99")
    account.manager.expect(404, "GET", "/models/openai/gpt-99/endpoints")


def test_usable_models_are_the_allowlist(account: Account) -> None:
    _ignored, client = account.fenced(*TWELVE)
    assert {row["id"] for row in client.get("/models/user")["data"]} == set(TWELVE)
    account.manager.expect(401, "GET", "/models/user")


def test_alias_follows_its_target_into_the_allowlist(account: Account) -> None:
    _ignored, client = account.fenced("anthropic/claude-sonnet-4.6")
    found = client.get("/models/user")["data"]
    assert {row["id"] for row in found} == {
        "anthropic/claude-sonnet-4.6",
        "~anthropic/claude-sonnet-latest",
    }
    assert len({row["canonical_slug"] for row in found}) == 1


def test_organization_may_filter_the_whole_list(account: Account) -> None:
    _ignored, client = account.fenced("openai/gpt-4.1")
    assert len(client.get("/models")["data"]) > 100
    account.simulator.configure(filtered_catalog=True)
    assert [row["id"] for row in client.get("/models")["data"]] == ["openai/gpt-4.1"]
    assert len(rows(account)) > 100


@pytest.mark.parametrize("model", TWELVE)
def test_any_model_can_be_made_to_expire(account: Account, model: str) -> None:
    _ignored, client = account.fenced(*TWELVE)
    account.simulator.expire_model(model)
    assert model not in ids(account)
    assert model not in {row["id"] for row in client.get("/models/user")["data"]}
    error = client.refused(404, model)["error"]
    assert error["availability"]["code"] == "model_deprecated"
    account.simulator.restore_model(model)
    client.chat(model)


def test_announced_end_comes(account: Account) -> None:
    end = (datetime.now(UTC) + timedelta(days=10)).date().isoformat()
    account.simulator.set_expiration("openai/gpt-4.1", end)
    assert account.manager.get("/model/openai/gpt-4.1")["data"]["expiration_date"] == end
    account.simulator.advance(days=11)
    account.manager.expect(404, "GET", "/model/openai/gpt-4.1")


def test_new_model(account: Account) -> None:
    account.simulator.add_model("openai/gpt-9", like="openai/gpt-4.1", context_length=9)
    row = account.manager.get("/model/openai/gpt-9")["data"]
    assert (row["canonical_slug"], row["context_length"]) == ("openai/gpt-9", 9)
