# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What becomes of a key that exists when its instance is adopted, also when a run is cut off."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.mai.fleet.plugins.module_utils._api.openrouter import Key
from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError
from ansible_collections.mai.fleet.plugins.module_utils._fleet.catalog import Catalog
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.adoption import Kind, Match
from ansible_collections.mai.fleet.plugins.module_utils._secrets import sha256
from ansible_collections.mai.fleet.plugins.plugin_utils._adoption import (
    Adopter,
    Adoption,
    Holdings,
    ahead,
    cap,
    file_text,
    lost_spending,
)
from unit.keys.bench import FLASH, MINI, Bench
from unit.keys.stages import Stages


class Hand:
    """An instance that somebody made, with a key, and maybe a guardrail, of their own."""

    def __init__(
        self,
        bench: Bench,
        models: list[str] | None,
        listed: list[str],
        limit: float | None = 25,
        reset: str = "weekly",
        ends: str = "",
    ) -> None:
        self.bench, self.api = bench, bench.api()
        self.stages = Stages(bench)
        self.key, self.secret = self.api.create_key("zebra prod", limit, reset, ends)
        self.rail = None
        if models is not None:
            self.rail = self.api.create_guardrail("zebra", "", models)
            self.api.assign(self.rail.id, self.key.hash)
        self.listed = listed

    def holdings(self, alone: bool = True) -> Holdings:
        key = self.api.key(self.key.hash)
        assert key is not None
        rails = {one.id: one for one in self.api.list_guardrails()}
        return Holdings(key, rails.get(self.rail.id) if self.rail else None, alone, [])

    def adoption(self, held: Holdings | None = None) -> Adoption:
        row = {
            "webui_url": "https://chat.zebra.example",
            "version": "0.12.4",
            "port": 3000,
            "volume": "zebra_store",
            "admin_email": "zoe@zebra.example",
        }
        connection = {"key": self.secret, "model_ids": self.listed}
        secret: dict[str, Any] = {
            "environment": {"WEBUI_NAME": "Zebra Ltd", "FAVOURITE": "zebra"},
            "variables": ["FAVOURITE", "WEBUI_NAME"],
            "dotenv": {},
            "connections": [connection],
            "keys": [],
            "secret_key": "the instance's own",
        }
        match = Match("server1", "c", Kind.FOREIGN, "zebra", self.key.hash)
        return self.adopter.prepare(match, row, secret, held or self.holdings())

    @property
    def adopter(self) -> Adopter:
        catalog = Catalog(self.api.catalog())
        return Adopter(self.stages.config, self.bench.store, catalog)

    def adopt(self) -> Adoption:
        held = self.holdings()
        adoption = self.adoption(held)
        self.adopter.take_over(self.api, adoption, held)
        return adoption

    def keys_change(self, content: dict[str, Any]) -> bool:
        """Whether the keys stage still has something to do for the client."""
        fields = {name: value for name, value in content.items() if name != "schema"}
        self.stages.client("zebra", **{**fields, "instance": "none"})
        self.stages.keys()
        return any(result["changed"] for result in self.stages.results)


@pytest.fixture(autouse=True)
def management_key(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENROUTER_MANAGEMENT_KEY", bench.simulator.management_key)


def test_the_keys_stage_finds_nothing_to_do(bench: Bench) -> None:
    hand = Hand(bench, [MINI, FLASH], [FLASH])
    adoption = hand.adopt()
    assert adoption.content == {
        "schema": 1,
        "organization": "Zebra Ltd",
        "server": "server1",
        "admin_email": "zoe@zebra.example",
        "models": [FLASH, MINI],
        "spending_limit": 25,
        "limit_reset": "weekly",
        "version": "0.12.4",
        "port": 3000,
        "domain": "chat.zebra.example",
        "volume": "zebra_store",
    }
    key = bench.key("zebra")
    assert key["hash"] == hand.key.hash and key["name"].startswith("mai/hosting/zebra/g1/")
    assert bench.guardrail("zebra")["id"] == hand.rail.id  # type: ignore[union-attr]
    assert not hand.keys_change(adoption.content)
    assert bench.secret("zebra") == hand.secret
    assert bench.store.secrets("zebra")["webui_secret_key"] == "the instance's own"


@pytest.mark.parametrize(("limit", "reset"), [(None, "never"), (None, "monthly"), (25, "never")])
def test_a_cap_is_adopted_as_it_is(bench: Bench, limit: float | None, reset: str) -> None:
    hand = Hand(bench, [MINI], [], limit, reset)
    adoption = hand.adopt()
    sold = "unlimited" if limit is None else limit
    wanted = {"spending_limit": sold, "limit_reset": reset}
    assert {field: adoption.content[field] for field in wanted} == wanted
    assert [note for note in adoption.notes if "its key has no cap" in note] == (
        [adoption.notes[-1]] if limit is None else []
    )
    before = bench.key("zebra")
    assert not hand.keys_change(adoption.content)
    assert bench.key("zebra") == before


@pytest.mark.parametrize(
    ("limit", "said", "words"),
    [
        (None, "100", "a cap of 100 was sold, and at OpenRouter its key's is unlimited"),
        (25, "unlimited", "a cap of unlimited was sold, and at OpenRouter its key's is 25 USD"),
    ],
)
def test_a_cap_that_nobody_can_know_is_not_made_up(
    limit: float | None, said: str, words: str
) -> None:
    key = Key("hash", "name", False, limit, None, "never", 0)
    with pytest.raises(FleetError, match=words):
        cap(key, {"SPENDING_LIMIT": said})


def test_a_cap_that_was_sold_is_what_the_next_run_gives_back() -> None:
    key = Key("hash", "name", False, 500, None, "monthly", 0)
    sold = cap(key, {"SPENDING_LIMIT": "100"})
    assert sold == {"spending_limit": 100, "limit_reset": "monthly"}
    (note,) = ahead(key, 100, ours=True)
    assert note.startswith("its key's cap is 500 USD, and 100 USD were sold")
    assert ahead(replace(key, limit=None), "unlimited", ours=True) == []


def test_a_key_that_ends_is_said_to(bench: Bench) -> None:
    hand = Hand(bench, [MINI], [], ends="2030-01-01T00:00:00Z")
    adoption = hand.adopt()
    assert any("its key ends at 2030-01-01T00:00:00" in note for note in adoption.notes)
    assert not hand.keys_change(adoption.content)


def test_without_a_guardrail_the_connections_models_are_the_allowlist(bench: Bench) -> None:
    hand = Hand(bench, None, [MINI])
    adoption = hand.adopt()
    assert adoption.content["models"] == [MINI]
    assert any("no guardrail" in note for note in adoption.notes)
    assert hand.keys_change(adoption.content)
    assert bench.guardrail("zebra")["allowed_models"] == [MINI]


def test_an_instance_without_an_allowlist_is_not_adopted(bench: Bench) -> None:
    with pytest.raises(FleetError, match="neither a guardrail"):
        Hand(bench, None, []).adoption()


def test_what_is_lost_with_the_old_container_is_named(bench: Bench) -> None:
    notes = Hand(bench, [MINI], []).adoption().notes
    assert [note for note in notes if "FAVOURITE" in note and "WEBUI_NAME" not in note]


@pytest.mark.parametrize(("method", "path"), [("PATCH", "/keys/.*"), ("PATCH", "/guardrails/.*")])
@pytest.mark.parametrize("cut", ["before", "after"])
def test_a_run_that_is_cut_off_is_gone_on_with(
    bench: Bench, method: str, path: str, cut: str
) -> None:
    hand = Hand(bench, [MINI], [])
    bench.simulator.fault(method=method, path=path, cut=cut, times=20)
    with pytest.raises(FleetError):
        hand.adopt()
    bench.simulator.clear_faults()
    adoption = hand.adopt()
    assert not hand.keys_change(adoption.content)
    assert bench.secret("zebra") == hand.secret
    assert sha256(hand.secret) == bench.key("zebra")["hash"]


def test_a_guardrail_that_others_share_keeps_its_name(bench: Bench) -> None:
    hand = Hand(bench, [MINI], [])
    held = hand.holdings(alone=False)
    adoption = hand.adoption(held)
    hand.adopter.take_over(hand.api, adoption, held)
    assert any("the guardrail zebra is around other keys too" in note for note in adoption.notes)
    assert hand.keys_change(adoption.content)
    names = {row["name"] for row in bench.simulator.guardrails}
    assert names == {"zebra", "mai/hosting/zebra"}


def test_no_secret_is_in_the_clients_file(bench: Bench) -> None:
    hand = Hand(bench, [MINI], [])
    adoption = hand.adopt()
    text = file_text(adoption.content)
    assert hand.secret not in text and "the instance's own" not in text
    assert hand.secret not in repr(bench.store.verify_journal("zebra").lines)


def test_a_cap_of_which_deleted_keys_spent_some_stays_what_is_left(bench: Bench) -> None:
    hand = Hand(bench, [MINI], [])
    adoption = hand.adopt()
    hand.api.update_key(hand.key.hash, {"limit": 24.987654})
    held = hand.holdings()
    record = bench.record("zebra")
    bench.store.save_record(replace(record, former=lost_spending(held, 25)))
    assert not hand.keys_change(adoption.content)
    assert bench.key("zebra")["limit"] == 24.987654
    assert lost_spending(held, "unlimited") == lost_spending(held, 24.987654) == []


def test_what_former_keys_spent_that_are_not_deleted_is_not_counted_twice(bench: Bench) -> None:
    hand = Hand(bench, [MINI], [], reset="monthly")
    other, _secret = hand.api.create_key("mai/hosting/zebra/g1/00000000", 25, "monthly", "")
    bench.simulator.set_usage(other.hash, 5)
    hand.api.update_key(other.hash, {"disabled": True})
    hand.api.update_key(hand.key.hash, {"limit": 18})
    living = hand.api.key(other.hash)
    assert living
    held = replace(hand.holdings(), others=[living])
    (former,) = lost_spending(held, 25)
    assert former.spent == 2
    assert lost_spending(held, 23) == []
