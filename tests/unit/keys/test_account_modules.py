# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Guardrails and what can be looked up, for people who have no fleet."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.mai.fleet.plugins.module_utils._transport.controller import Controller
from ansible_collections.mai.fleet.plugins.plugin_utils._account import CONNECTION
from simulator.simulator import Simulator
from unit.keys.bench import FLASH, GPT, GPT_SLUG, MINI
from unit.keys.tasks import Row, Tasks

MODULES = [
    "credits_info",
    "guardrails",
    "guardrails_info",
    "keys",
    "keys_info",
    "models_info",
]


@pytest.fixture
def tasks(simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tasks:
    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)
    return Tasks(simulator, tmp_path / "secrets")


def guardrail(tasks: Tasks, name: str = "cheap", **settings: Any) -> Row:
    of_the_task = ("check", "force", "workspace")
    more = {option: settings.pop(option) for option in of_the_task if option in settings}
    (row,) = tasks.good("guardrails", guardrails=[{"name": name, **settings}], **more)["guardrails"]
    return dict(row)


def refusal(tasks: Tasks, name: str = "cheap", **settings: Any) -> str:
    result = tasks.run("guardrails", guardrails=[{"name": name, **settings}])
    assert result["failed"]
    return str(result["msg"])


def untouched(tasks: Tasks, act: Callable[[], Any]) -> None:
    tasks.simulator.clear_log()
    act()
    assert tasks.writes() == []


# --- guardrails ---------------------------------------------------------------------------------


def test_a_guardrail_is_made_and_kept(tasks: Tasks) -> None:
    asked: Row = {
        "description": "for the website",
        "allowed_models": [MINI, GPT],
        "ignored_providers": ["azure"],
        "limit_usd": 10,
        "reset_interval": "daily",
        "enforce_zdr_openai": True,
        "enable_paid_model_training": False,
    }
    untouched(tasks, lambda: guardrail(tasks, check=True, **asked))
    foretold = guardrail(tasks, check=True, **asked)
    row = guardrail(tasks, **asked)
    (made,) = tasks.simulator.guardrails
    assert (foretold["before"], foretold["after"]) == (row["before"], row["after"])
    assert (row["id"], foretold["id"]) == (made["id"], None)
    assert made["allowed_models"] == [MINI, GPT_SLUG]
    assert (made["limit_usd"], made["reset_interval"]) == (10, "daily")
    assert (made["enforce_zdr_openai"], made["enable_paid_model_training"]) == (True, False)
    untouched(tasks, lambda: guardrail(tasks, **asked))
    assert not guardrail(tasks, **{**asked, "allowed_models": [GPT_SLUG, MINI]})["changed"]


def test_what_is_not_given_stays_and_what_is_empty_goes(tasks: Tasks) -> None:
    asked: Row = {"allowed_models": [MINI], "limit_usd": 10, "reset_interval": "daily"}
    guardrail(tasks, description="old", **asked)
    result = tasks.good("guardrails", guardrails=[{"name": "cheap", "description": ""}])
    (diff,) = result["diff"]
    assert "description: old" in diff["before"] and "description" not in diff["after"]
    assert tasks.simulator.guardrails[0]["allowed_models"] == [MINI]
    guardrail(tasks, reset_interval="weekly")
    assert tasks.simulator.guardrails[0]["limit_usd"] == 10
    guardrail(tasks, allowed_models=[], limit_usd="unlimited")
    (made,) = tasks.simulator.guardrails
    assert made["allowed_models"] is made["limit_usd"] is made["reset_interval"] is None
    untouched(tasks, lambda: guardrail(tasks, allowed_models=[], limit_usd="unlimited"))


def test_half_a_budget_is_refused_before_it_is_sent(tasks: Tasks) -> None:
    assert "both or none" in refusal(tasks, limit_usd=5)
    assert "expected an amount" in refusal(tasks, limit_usd="much", reset_interval="daily")
    assert tasks.writes() == []


def test_a_model_that_does_not_exist(tasks: Tasks) -> None:
    text = refusal(tasks, allowed_models=["openai/gpt-4o-mimi"])
    assert "no model openai/gpt-4o-mimi" in text and MINI in text
    assert tasks.writes() == []


def test_one_guardrail_does_not_hurt_another(tasks: Tasks) -> None:
    asked = [{"name": "a"}, {"name": "b", "limit_usd": 1}, {"name": "c"}]
    result = tasks.run("guardrails", guardrails=asked)
    assert "1 of 3 guardrails" in result["msg"]
    assert {row["name"] for row in tasks.simulator.guardrails} == {"a", "c"}


def test_a_guardrail_that_keys_have_is_not_deleted_by_the_way(tasks: Tasks) -> None:
    guardrail(tasks, allowed_models=[MINI])
    tasks.key(guardrail="cheap")
    assert "1 keys have this guardrail" in refusal(tasks, state="absent")
    untouched(tasks, lambda: guardrail(tasks, state="absent", force=True, check=True))
    assert guardrail(tasks, state="absent", force=True)["changed"]
    assert tasks.simulator.guardrails == []
    untouched(tasks, lambda: guardrail(tasks, state="absent"))


def test_a_create_whose_answer_was_lost(tasks: Tasks) -> None:
    tasks.simulator.fault(method="POST", path="/guardrails", cut="after")
    assert "no answer" in refusal(tasks, allowed_models=[MINI])
    untouched(tasks, lambda: guardrail(tasks, allowed_models=[MINI]))
    assert len(tasks.simulator.guardrails) == 1


# --- workspaces ---------------------------------------------------------------------------------


def test_guardrails_of_one_workspace_are_not_those_of_another(tasks: Tasks) -> None:
    other = tasks.simulator.add_workspace("Production", "prod")
    guardrail(tasks, allowed_models=[MINI])
    inside: Row = {"workspace": "prod", "allowed_models": [FLASH]}
    untouched(tasks, lambda: guardrail(tasks, check=True, **inside))
    assert guardrail(tasks, check=True, **inside)["before"] == {"guardrail": None}
    assert guardrail(tasks, **inside)["changed"]
    untouched(tasks, lambda: guardrail(tasks, **inside))
    models = {row["workspace_id"]: row["allowed_models"] for row in tasks.simulator.guardrails}
    assert len(models) == 2 and models[other] == [FLASH]
    shown = {
        workspace: tasks.good("guardrails_info", workspace=workspace)["guardrails"]
        for workspace in ("default", "prod")
    }
    assert [row["allowed_models"] for row in shown["default"]] == [[MINI]]
    assert [row["allowed_models"] for row in shown["prod"]] == [[FLASH]]
    assert guardrail(tasks, state="absent", workspace="prod")["changed"]
    untouched(tasks, lambda: guardrail(tasks, state="absent", workspace="prod"))
    assert [row["allowed_models"] for row in tasks.simulator.guardrails] == [[MINI]]


def test_a_workspace_is_known_by_its_slug_id_or_name(tasks: Tasks) -> None:
    other = tasks.simulator.add_workspace("Production", "prod")
    guardrail(tasks, workspace=other)
    for name in ("prod", "Production", other):
        assert len(tasks.good("guardrails_info", workspace=name)["guardrails"]) == 1
    # It can be looked for among many.
    for number in range(120):
        tasks.simulator.add_workspace(f"Number {number}", f"number-{number}")
    assert tasks.good("guardrails_info", workspace="number-119")["guardrails"] == []


MODULES_WITH_WORKSPACE = ["keys", "keys_info", "guardrails", "guardrails_info"]


@pytest.mark.parametrize("module", MODULES_WITH_WORKSPACE)
def test_a_workspace_that_does_not_exist(tasks: Tasks, module: str) -> None:
    tasks.simulator.add_workspace("Production", "prod")
    tasks.simulator.add_workspace("prod", "staging")
    needed: Row = {} if module.endswith("info") else {module: [{"name": "a"}]}
    for wrong, words in (
        ("Prodution", "did you mean Production?"),
        ("zzz", "there are: default, prod, staging"),
        ("", "no workspace without a name"),
        ("prod", "several workspaces are called prod"),
    ):
        result = tasks.run(module, workspace=wrong, **needed)
        assert result["failed"] and words in result["msg"]
        assert result["failure"]["where"] == "the option workspace"
    assert tasks.writes() == []


@pytest.mark.parametrize("module", MODULES_WITH_WORKSPACE)
def test_a_listing_of_another_workspace_is_not_believed(
    tasks: Tasks, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of something in between that knows nothing of workspaces."""
    tasks.simulator.add_workspace("Production", "prod")
    guardrail(tasks)
    tasks.key()
    engine = tasks.simulator.engine
    here = engine.state.default_workspace
    monkeypatch.setattr(engine, "workspace", lambda *_wanted, **_missing: here)
    tasks.simulator.clear_log()
    needed: Row = {} if module.endswith("info") else {module: [{"name": "ci"}]}
    result = tasks.run(module, workspace="prod", **needed)
    assert result["failed"] and f"it is about the workspace {here}" in result["msg"]
    assert tasks.writes() == []


# --- what can be looked up ----------------------------------------------------------------------


def test_keys_are_listed_without_a_secret(tasks: Tasks) -> None:
    guardrail(tasks, allowed_models=[MINI])
    names = [f"k{number:03}" for number in range(130)]
    tasks.keys(*({"name": name, "limit": 1} for name in names))
    tasks.key("k000", guardrail="cheap", disabled=True)
    rows = tasks.good("keys_info")["api_keys"]
    assert sorted(row["name"] for row in rows) == names
    (row,) = tasks.good("keys_info", names=["k000"])["api_keys"]
    assert (row["guardrail"], row["disabled"], row["limit"]) == ("cheap", True, 1)
    assert row["fingerprint"] == f"sha256:{row['hash'][:12]}"
    assert "sk-or" not in str(rows)
    assert tasks.good("keys_info", names=["none"])["api_keys"] == []


def test_guardrails_are_listed_with_their_keys(tasks: Tasks) -> None:
    guardrail(tasks, allowed_models=[MINI])
    guardrail(tasks, "other")
    key = tasks.key(guardrail="cheap")
    rows = {row["name"]: row for row in tasks.good("guardrails_info")["guardrails"]}
    assert rows["cheap"]["key_hashes"] == [key["hash"]]
    assert rows["cheap"]["allowed_models"] == [MINI]
    assert rows["other"]["key_hashes"] == []
    assert len(tasks.good("guardrails_info", names=["other"])["guardrails"]) == 1


def test_credits_are_shown(tasks: Tasks) -> None:
    tasks.simulator.set_credit(25)
    shown = tasks.good("credits_info")
    assert (shown["total_credits"], shown["remaining"]) == (25, 25)


def test_models_are_listed_without_any_key(tasks: Tasks) -> None:
    everything = tasks.good("models_info", management_key=...)["models"]
    assert {row.caller for row in tasks.simulator.requests} == {"none"}
    some = tasks.good(
        "models_info",
        supported_parameters=["tools"],
        input_modalities=["image"],
        output_modalities=["text"],
        context_length=100000,
        variants=False,
    )["models"]
    assert 0 < len(some) < len(everything)
    for row in some:
        assert "tools" in row["supported_parameters"]
        assert "image" in row["architecture"]["input_modalities"]
        assert row["context_length"] >= 100000
        assert ":" not in row["id"]
    found = tasks.good("models_info", ids=[GPT, "nobody/nothing"])
    assert [row["guardrail_slug"] for row in found["models"]] == [GPT_SLUG]
    assert found["unknown"] == ["nobody/nothing"]


def test_what_a_key_can_use(tasks: Tasks) -> None:
    guardrail(tasks, allowed_models=[MINI, FLASH])
    tasks.key(guardrail="cheap")
    usable = tasks.good("models_info", management_key=..., api_key=tasks.secret(), variants=False)
    assert {row["id"] for row in usable["models"]} == {MINI, FLASH}


@pytest.mark.parametrize("module", ["keys_info", "guardrails_info", "credits_info"])
def test_what_is_wrong_is_said(tasks: Tasks, module: str) -> None:
    result = tasks.run(module, management_key="sk-or-v1-wrong")
    assert result["failed"] and result["failure"]["todo"].startswith("check the management key")
    assert "sk-or-v1-wrong" not in str(result)
    assert "no management key" in tasks.run(module, management_key=...)["msg"]


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("timeout", 0, "expected a number from 0.1 to 3600, not 0"),
        ("timeout", "nan", "expected a number"),
        ("api_url", "openrouter.ai/api/v1", "expected an address such as https://openrouter.ai"),
        ("api_url", "", "expected an address"),
    ],
)
def test_a_connection_that_cannot_be(tasks: Tasks, option: str, value: Any, words: str) -> None:
    result = tasks.run("credits_info", **{option: value})
    assert result["failed"] and words in result["msg"] and option in result["failure"]["where"]


def test_a_key_that_can_use_nothing(tasks: Tasks) -> None:
    result = tasks.run("models_info", api_key="sk-or-v1-wrong")
    assert result["failure"]["todo"].startswith("check api_key")
    assert "sk-or-v1-wrong" not in str(result)


@pytest.mark.parametrize("name", ["", " a", "a\tb", "x" * 201])
def test_a_name_that_no_guardrail_can_have(tasks: Tasks, name: str) -> None:
    assert "cannot be the name of a guardrail" in refusal(tasks, name)
    assert tasks.writes() == []


def test_a_guardrail_can_be_deleted_by_such_a_name(tasks: Tasks) -> None:
    api = Controller(tasks.simulator.url, tasks.simulator.management_key)
    api.post("/guardrails", {"name": "old "})
    tasks.good("guardrails", guardrails=[{"name": "old ", "state": "absent"}])
    assert tasks.simulator.guardrails == []


def test_the_environment_holds_what_a_task_does_not_say(
    tasks: Tasks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENROUTER_MANAGEMENT_KEY", tasks.simulator.management_key)
    monkeypatch.setenv("OPENROUTER_API_URL", f"{tasks.simulator.url}/")
    tasks.good("credits_info", management_key=..., api_url=...)


# --- documentation ------------------------------------------------------------------------------


@pytest.mark.parametrize("module", MODULES)
def test_the_options_are_the_documented_ones(repository: Path, module: str) -> None:
    """Nobody else compares them, because the action and not the module has them."""
    base = "ansible_collections.mai.fleet.plugins"
    action = importlib.import_module(f"{base}.action.openrouter_{module}").ActionModule
    text = importlib.import_module(f"{base}.modules.openrouter_{module}").DOCUMENTATION
    fragment = importlib.import_module(f"{base}.doc_fragments.openrouter").ModuleDocFragment
    documented = yaml.safe_load(text).get("options", {})
    if "workspace" in action.SPEC:
        documented |= yaml.safe_load(fragment.WORKSPACE)["options"]
    assert described(documented) == specified(action.SPEC)
    assert described(yaml.safe_load(fragment.DOCUMENTATION)["options"]) == specified(CONNECTION)


def described(options: Mapping[str, Any]) -> Row:
    fields = ("type", "default", "choices", "elements", "required")
    return {
        name: {
            **{field: option[field] for field in fields if field in option},
            **({"options": described(option["suboptions"])} if "suboptions" in option else {}),
        }
        for name, option in options.items()
    }


def specified(spec: Mapping[str, Any]) -> Row:
    hidden = ("no_log", "fallback")
    return {
        name: {
            field: specified(value) if field == "options" else value
            for field, value in option.items()
            if field not in hidden
        }
        for name, option in spec.items()
    }
