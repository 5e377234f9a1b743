# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What model ids stand for and cost, what takes their place, and what is in effect."""

from __future__ import annotations

import json
import random
from decimal import Decimal
from typing import Any

import pytest
from ansible_collections.mai.fleet.plugins.module_utils._fleet.catalog import (
    Catalog,
    Model,
    in_effect,
    slug,
)
from simulator import catalog as simulated

ROWS: list[dict[str, Any]] = json.loads(simulated.CATALOG_FILE.read_text(encoding="utf-8"))["data"]
IDS = [row["id"] for row in ROWS]


def row(model_id: str, **changes: Any) -> dict[str, Any]:
    """A row of a catalog with as little in it as OpenRouter promises."""
    return {
        "id": model_id,
        "canonical_slug": model_id.partition(":")[0].lstrip("~"),
        "name": model_id,
        "created": 1,
        "architecture": {"output_modalities": ["text"]},
        "pricing": {"prompt": "0.000001", "completion": "0.000002"},
        **changes,
    }


def priced(model_id: str, prompt: str, completion: str, **changes: Any) -> dict[str, Any]:
    return row(model_id, pricing={"prompt": prompt, "completion": completion}, **changes)


def draws(seed: int) -> random.Random:
    """The same sequence in every run."""
    return random.Random(seed)  # noqa: S311


def without(*model_ids: str) -> Catalog:
    assert set(model_ids) <= set(IDS)
    return Catalog(known for known in ROWS if known["id"] not in model_ids)


# --- identity -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model_id", "canonical", "expected"),
    [
        ("a/x", "a/x", "a/x"),
        ("a/x", "a/x-20260101", "a/x-20260101"),
        ("a/x:batch", "a/x", "a/x:batch"),
        ("a/x:free", "a/x-20260101", "a/x-20260101:free"),
        ("a/x:free", "a/x:free", "a/x:free"),
        ("~a/x-latest", "a/x-20260101", "a/x-20260101"),
    ],
)
def test_slug(model_id: str, canonical: str, expected: str) -> None:
    assert slug(model_id, canonical) == expected


def test_every_row_gets_the_entry_that_the_guardrails_of_the_simulator_store() -> None:
    catalog = Catalog(ROWS)
    for known in ROWS:
        assert catalog[known["id"]].canonical == simulated.entry(known)


def test_a_model_and_its_variant_are_two_entries_of_one_slug() -> None:
    catalog = Catalog(ROWS)
    pairs = [known for known in IDS if ":" in known and known.partition(":")[0] in catalog]
    assert len(pairs) >= 20
    for variant in pairs:
        base, _ignored, suffix = variant.partition(":")
        assert catalog[variant].canonical == f"{catalog[base].canonical}:{suffix}"


# --- prices -------------------------------------------------------------------------------------


@pytest.mark.parametrize("price", ["-1", "", None, "NaN", "-0.1", "sNaN", "Infinity", "ten", {}])
def test_what_is_no_price_is_none(price: Any) -> None:
    model = Model.read(priced("a/x", price, "0.1"))
    assert model.prompt is None
    assert model.cost(1, 1) is None


def test_costs_do_not_drift() -> None:
    model = Model.read(priced("a/x", "0.0000001", "0.0000003"))
    assert model.cost(20, 16) == Decimal("0.0000068")
    assert Model.read(priced("a/x", "0", "0")).cost(5, 5) == 0


def test_a_row_with_nothing_but_its_names() -> None:
    bare = Model.read({"id": "a/x", "canonical_slug": "a/x", "name": "X"})
    assert bare.cost(1, 1) is None
    assert bare.text
    assert not bare.alias


# --- nearest ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("openai/gpt-4o-min", "openai/gpt-4o-mini"),
        ("openai/gpt4o-mini", "openai/gpt-4o-mini"),
        ("antropic/claude-sonnet-4", "anthropic/claude-sonnet-4"),
        ("gpt-4.1", "openai/gpt-4.1"),
        ("google/gemini-25-flash", "google/gemini-2.5-flash"),
        ("OpenAI/GPT-4o", "openai/gpt-4o"),
        ("x-ai/grok4", "x-ai/grok-4"),
    ],
)
def test_nearest(typed: str, meant: str) -> None:
    near = Catalog(ROWS).nearest(typed)
    assert near[0] == meant
    assert len(near) <= 3


def test_the_same_author_comes_first() -> None:
    catalog = Catalog([row("alpha/one"), row("alphb/chat-large"), row("alpha/chat-lar")])
    assert catalog.nearest("alpha/chat-large")[0] == "alpha/chat-lar"


def test_nothing_is_near_to_nonsense() -> None:
    assert Catalog(ROWS).nearest("zzz/qqqqqqqqqq") == []
    assert Catalog([]).nearest("openai/gpt-4o") == []


# --- successor ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gone", "successor"),
    [
        ("anthropic/claude-sonnet-4", "anthropic/claude-sonnet-4.6"),
        ("google/gemini-2.5-flash", "google/gemini-2.5-flash-lite"),
        ("google/gemini-2.5-pro", "google/gemini-3-pro-preview"),
        ("deepseek/deepseek-chat-v3-0324", "deepseek/deepseek-v3.2"),
        ("anthropic/claude-3.7-sonnet", "anthropic/claude-sonnet-4.6"),
        (
            "google/gemini-2.5-flash-lite-preview-06-17",
            "google/gemini-2.5-flash-lite-preview-09-2025",
        ),
        ("openai/gpt-4.1", "openai/gpt-5.4"),
        ("x-ai/grok-4", "x-ai/grok-4-fast"),
        ("openai/gpt-4o-mini", "openai/gpt-5-mini"),
        ("openai/o4-mini-high", "openai/o4-mini"),
        ("openai/o3", "openai/o3-pro"),
        ("openai/chatgpt-4o-latest", "openai/gpt-5.4"),
    ],
)
def test_successors_of_the_default_allowlist(gone: str, successor: str) -> None:
    assert without(gone).successor(gone) == successor


def test_a_successor_is_a_plain_text_model_of_the_same_author_that_stays() -> None:
    for gone in IDS:
        successor = without(gone).successor(gone)
        if successor is None:
            continue
        model = Catalog(ROWS)[successor]
        assert successor.partition("/")[0] == gone.partition("/")[0]
        assert ":" not in successor
        assert model.text
        assert not model.alias
        assert successor != gone


def test_a_successor_that_leaves_too_is_better_than_none() -> None:
    leaving = row("a/x-2", created=9, expiration_date="2026-12-31")
    assert Catalog([leaving]).successor("a/x-1") == "a/x-2"
    assert Catalog([leaving, row("a/x-3", created=2)]).successor("a/x-1") == "a/x-3"


def test_no_successor_of_another_author() -> None:
    assert Catalog([row("b/x"), row("a/x:free"), row("~a/x-latest")]).successor("a/x") is None


# --- the models for the two calls of the proof --------------------------------------------------


def test_the_cheapest_is_cheap_plain_and_priced() -> None:
    catalog = Catalog(
        [
            priced("a/free", "0", "0"),
            priced("a/router", "-1", "-1"),
            priced("a/tiny:batch", "0.0000001", "0.0000001"),
            priced("~a/latest", "0.0000001", "0.0000001"),
            priced("a/aliased", "0.0000001", "0.0000001", alias_target={"name": "", "slug": ""}),
            priced(
                "a/images", "0.0000001", "0.0000001", architecture={"output_modalities": ["image"]}
            ),
            priced(
                "a/both",
                "0.0000001",
                "0.0000001",
                architecture={"output_modalities": ["image", "text"]},
            ),
            priced("a/leaving", "0.0000001", "0.0000001", expiration_date="2026-12-31"),
            priced("a/second", "0.000003", "0.000003"),
            priced("a/first", "0.000002", "0.000002"),
        ]
    )
    assert catalog.cheapest().id == "a/first"  # type: ignore[union-attr]
    assert catalog.cheapest(without=["a/first"]).id == "a/second"  # type: ignore[union-attr]
    assert catalog.cheapest(without=["a/first:free", "a/second"]) is None


def test_a_model_to_be_refused_shares_no_slug_with_the_allowlist() -> None:
    """Also not with a variant: that a base model is refused may not follow from its variant."""
    catalog = Catalog(ROWS)
    chosen = draws(1)
    for _ignored in range(100):
        sold = [catalog[known].canonical for known in chosen.sample(IDS, 12)]
        model = catalog.cheapest(without=sold)
        assert model is not None
        assert model.canonical not in {entry.partition(":")[0] for entry in sold}
        assert model.cost(20, 16) > 0  # type: ignore[operator]


def test_the_model_for_a_chat_is_one_that_was_sold() -> None:
    catalog = Catalog(ROWS)
    chosen = draws(2)
    for _ignored in range(100):
        sold = chosen.sample(IDS, 4)
        model = catalog.cheapest(among=sold)
        fit = [one for one in sold if catalog[one].text and catalog[one].cost(1, 1) is not None]
        assert (model is None) == (not fit)
        assert model is None or model.id in fit


@pytest.mark.parametrize(
    ("sold", "expected"),
    [
        (["a/x:batch", "a/dear"], "a/dear"),
        (["a/x:batch"], "a/x:batch"),
        (["a/free", "a/dear"], "a/free"),
        (["a/router"], None),
        (["a/gone"], None),
        ([], None),
    ],
)
def test_a_variant_is_asked_only_where_nothing_else_is_sold(
    sold: list[str], expected: str | None
) -> None:
    """Not every variant can be chatted with: batch prices are for batches."""
    catalog = Catalog(
        [
            priced("a/x:batch", "0.0000001", "0.0000001"),
            priced("a/dear", "0.1", "0.1"),
            priced("a/free", "0", "0"),
            priced("a/router", "-1", "-1"),
        ]
    )
    model = catalog.cheapest(among=sold)
    assert (model.id if model else None) == expected


# --- in effect ----------------------------------------------------------------------------------


def test_all_there() -> None:
    sold = ["openai/gpt-5.4", "openai/gpt-4o-mini:batch", "openai/gpt-4o-mini"]
    allowed = in_effect(sold, {}, Catalog(ROWS))
    assert allowed.models == sold
    assert allowed.slugs == [
        "openai/gpt-5.4-20260305",
        "openai/gpt-4o-mini:batch",
        "openai/gpt-4o-mini",
    ]
    assert not allowed.warnings
    assert not allowed.unknown


def test_a_model_that_never_was_is_an_error_with_near_names() -> None:
    allowed = in_effect(["openai/gpt-4o", "openai/gpt-4o-min"], {}, Catalog(ROWS))
    assert list(allowed.unknown) == ["openai/gpt-4o-min"]
    assert "openai/gpt-4o-mini" in allowed.unknown["openai/gpt-4o-min"]


def test_a_model_that_left_is_dropped_with_a_warning_and_a_successor() -> None:
    had = {"openai/gpt-4.1": "openai/gpt-4.1-2025-04-14"}
    allowed = in_effect(["openai/gpt-4.1", "openai/gpt-4o"], had, without("openai/gpt-4.1"))
    assert allowed.models == allowed.slugs == ["openai/gpt-4o"]
    assert allowed.warnings == [
        "openai/gpt-4.1 has left OpenRouter and is dropped; openai/gpt-5.4 may take its place"
    ]
    assert not allowed.unknown


def test_the_last_model_is_never_dropped_and_nothing_is_asked_of_the_guardrail() -> None:
    """OpenRouter refuses a guardrail without models, and one with models that it does not have."""
    had = {"openai/gpt-4.1": "openai/gpt-4.1-2025-04-14", "openai/o3": "openai/o3-2025-04-16"}
    allowed = in_effect(list(had), had, without(*had))
    assert allowed.models == ["openai/gpt-4.1"]
    assert allowed.slugs == []
    assert allowed.warnings[0].startswith("openai/gpt-4.1, the last model, has left OpenRouter;")
    assert allowed.warnings[1].startswith("openai/o3 has left OpenRouter and is dropped;")


def test_a_model_that_came_back_is_in_effect_again() -> None:
    had = {"openai/gpt-4.1": "openai/gpt-4.1-2025-04-14"}
    assert in_effect(list(had), had, Catalog(ROWS)).slugs == list(had.values())


def test_whatever_leaves_nobody_is_left_without_a_model() -> None:
    """150 random fleets: the promises of in_effect."""
    chosen = draws(3)
    everything = Catalog(ROWS)
    for _ignored in range(150):
        sold = chosen.sample(IDS, chosen.randint(1, 12))
        had = {one: everything[one].canonical for one in chosen.sample(sold, len(sold) // 2)}
        gone = set(chosen.sample(IDS, chosen.randint(0, 150))) | set(
            chosen.sample(sold, chosen.randint(0, len(sold)))
        )
        catalog = without(*gone)
        allowed = in_effect(sold, had, catalog)
        assert set(allowed.unknown) == {one for one in sold if one in gone and one not in had}
        assert allowed.models or allowed.unknown
        assert [one for one in sold if one in allowed.models] == allowed.models
        there = [one for one in sold if one not in gone]
        assert allowed.slugs == [everything[one].canonical for one in there]
        assert allowed.models == there or (not there and len(allowed.models) <= 1)
        assert len(allowed.warnings) == sum(one in gone and one in had for one in sold)
