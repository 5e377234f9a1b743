# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys of people who have no fleet: none is lost, whatever happens to a run."""

from __future__ import annotations

import copy
import dataclasses
import datetime
import json
import multiprocessing
import os
import re
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible.parsing.vault import is_encrypted
from ansible_collections.mai.fleet.plugins.action import openrouter_keys
from ansible_collections.mai.fleet.plugins.module_utils._api.openrouter import OpenRouter
from ansible_collections.mai.fleet.plugins.module_utils._secrets import sha256
from ansible_collections.mai.fleet.plugins.module_utils._transport.controller import Controller
from ansible_collections.mai.fleet.plugins.plugin_utils import _key_files
from simulator.simulator import Simulator
from unit.keys.bench import files, full_disk
from unit.keys.tasks import Row, Tasks, act, child


@pytest.fixture
def tasks(simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tasks:
    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)
    return Tasks(simulator, tmp_path / "secrets")


def fence(tasks: Tasks, name: str, *models: str) -> None:
    models = models or ("openai/gpt-4o-mini",)
    tasks.good("guardrails", guardrails=[{"name": name, "allowed_models": list(models)}])


def untouched(tasks: Tasks, act: Callable[[], Any]) -> None:
    tasks.simulator.clear_log()
    before = files(tasks.folder)
    act()
    assert tasks.writes() == []
    assert files(tasks.folder) == before


# --- what is asked for --------------------------------------------------------------------------


def test_a_key_is_made_and_kept(tasks: Tasks) -> None:
    fence(tasks, "cheap")
    asked: Row = {
        "limit": 20,
        "limit_reset": "monthly",
        "guardrail": "cheap",
        "include_byok_in_limit": True,
        "disabled": True,
        "expires_at": "2100-01-01T00:00:00Z",
    }
    untouched(tasks, lambda: tasks.key(check=True, **asked))
    foretold = tasks.key(check=True, **asked)
    row = tasks.key(**asked)
    (key,) = tasks.simulator.keys
    assert row["changed"] and foretold["changed"]
    assert row["before"] == foretold["before"] == {"key": None}
    assert foretold["after"] == {**row["after"], "key": "a new key"}
    assert row["hash"] == key["hash"] == sha256(tasks.secret())
    assert row["stored"] and row["secret_file"] == str(tasks.folder / "ci")
    assert (tasks.folder / "ci").stat().st_mode & 0o777 == 0o600
    assert tasks.folder.stat().st_mode & 0o777 == 0o700
    assert (key["name"], key["limit"], key["limit_reset"]) == ("ci", 20, "monthly")
    assert (key["disabled"], key["include_byok_in_limit"]) == (True, True)
    assert row["after"]["guardrail"] == "cheap"
    untouched(tasks, lambda: tasks.key(**asked))
    assert not tasks.key(**asked)["changed"]


def test_only_what_is_asked_for_is_changed(tasks: Tasks) -> None:
    fence(tasks, "cheap")
    tasks.key(limit=20, limit_reset="monthly", guardrail="cheap")
    result = tasks.keys({"name": "ci", "limit": "unlimited", "guardrail": ""})
    assert tasks.simulator.keys[0]["limit"] is None
    assert tasks.simulator.keys[0]["limit_reset"] == "monthly"
    assert tasks.simulator.keys[0]["guardrail_id"] is None
    (diff,) = result["diff"]
    assert (diff["before_header"], diff["after_header"]) == ("key ci", "key ci")
    assert "limit: 20" in diff["before"] and "guardrail: cheap" in diff["before"]
    assert "limit: unlimited" in diff["after"] and "guardrail: none" in diff["after"]
    untouched(tasks, lambda: tasks.key(check=True, disabled=True))
    assert tasks.key(check=True, disabled=True)["after"]["disabled"] is True


def test_a_key_that_somebody_else_made_is_known_by_its_name(tasks: Tasks) -> None:
    api = Controller(tasks.simulator.url, tasks.simulator.management_key)
    made = [api.post("/keys", {"name": "theirs", "limit": 3})["data"]["hash"]]
    row = tasks.key("theirs", limit=4)
    assert (row["hash"], row["stored"], row["secret_file"]) == (made[0], False, None)
    assert tasks.simulator.keys[0]["limit"] == 4
    made.append(api.post("/keys", {"name": "theirs"})["data"]["hash"])
    failure = tasks.failure("theirs", limit=5)
    assert all(key_hash in failure["what"] for key_hash in made)
    # Whose secret is stored is meant, and the other one is in the way all the same.
    assert len(tasks.simulator.keys) == 2


def test_without_a_place_for_secrets_keys_are_only_changed(tasks: Tasks) -> None:
    tasks.key(limit=1)
    result = tasks.run("keys", keys=[{"name": "ci", "limit": 2}])
    assert result["changed"] and tasks.simulator.keys[0]["limit"] == 2
    result = tasks.run("keys", keys=[{"name": "other"}])
    assert "could not be stored" in result["msg"] and "secrets_directory" in result["msg"]
    assert len(tasks.simulator.keys) == 1


def test_one_key_does_not_hurt_another(tasks: Tasks) -> None:
    result = tasks.keys({"name": "a"}, {"name": "b", "guardrail": "none such"}, {"name": "c"})
    assert result["failed"] and "1 of 3 keys" in result["msg"] and "none such" in result["msg"]
    assert [row["failed"] for row in result["api_keys"]] == [False, True, False]
    assert set(tasks.at_openrouter()) == {"a", "c"}


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ([{"name": "a"}, {"name": "a"}], "a is named more than once"),
        ([{"name": "a~0123abcd"}], "cannot be a key's name"),
        ([{"name": " "}], "cannot be the name of a key"),
        ([{"name": "a "}], "cannot be the name of a key: 'a '"),
        ([{"name": "a\nb"}], "cannot be the name of a key"),
        ([{"name": "a", "limit": -1}], "expected an amount"),
        ([{"name": "a", "limit": "much"}], "expected an amount"),
        ([{"name": "a", "expires_at": "2100-01-01 00:00"}], "expected a time in UTC"),
        ([{"name": "a", "expires_at": "2100-13-01T00:00:00Z"}], "expected a time in UTC"),
        ([{"name": "a", "expires_at": "2020-01-01T00:00:00Z"}], "which is over"),
        ([{"name": "a", "max_age_days": -1}], "max_age_days: expected a number from 0"),
        ([{"name": "a", "max_age_days": "nan"}], "max_age_days: expected a number from 0"),
        ([{"name": "a", "max_age_days": 1e300}], "max_age_days: expected a number from 0"),
        ([{"name": "x" * 300}], "1 to 200 characters"),
        ([{"name": "Ł" * 100}], "too long"),
    ],
)
def test_mistakes(tasks: Tasks, keys: list[Row], words: str) -> None:
    for check in (True, False):
        result = tasks.keys(*keys, check=check)
        assert result["failed"] and words in result["msg"]
    assert tasks.writes() == []


@pytest.mark.parametrize("grace", [-1, "nan", "inf", 1e300])
def test_a_grace_that_is_none(tasks: Tasks, grace: Any) -> None:
    result = tasks.keys({"name": "a"}, grace=grace)
    assert result["failed"] and "option grace: expected a number from 0" in result["msg"]


def test_names_of_all_kinds_have_a_file(tasks: Tasks) -> None:
    names = ["a/b", "../up", ".hidden", "Łódź & Söhne", "with space", "a%2Fb", ".openrouter"]
    tasks.keys(*({"name": name} for name in names))
    assert set(tasks.at_openrouter()) == set(names)
    inside = {path.name for path in tasks.folder.iterdir()}
    assert len(inside) == len(names) + 1
    assert {path.name for path in tasks.folder.parent.iterdir()} == {"secrets"}
    untouched(tasks, lambda: tasks.keys(*({"name": name} for name in names)))


def test_an_end_cannot_be_changed(tasks: Tasks) -> None:
    tasks.key(expires_at="2100-01-01T00:00:00Z")
    failure = tasks.failure(expires_at="2101-01-01T00:00:00Z")
    assert "cannot change that" in failure["what"] and "rotated" in failure["todo"]
    tasks.key(state="rotated", expires_at="2101-01-01T00:00:00Z")
    assert tasks.at_openrouter()["ci"]["expires_at"].startswith("2101")


def test_secrets_are_encrypted_unless_that_is_not_wanted(tasks: Tasks) -> None:
    folder = str(tasks.folder)
    tasks.good("keys", keys=[{"name": "ci"}], secrets_directory=folder)
    data = (tasks.folder / "ci").read_bytes()
    assert is_encrypted(data)
    secret = tasks.loader._vault.decrypt(data).decode().strip()
    assert sha256(secret) == tasks.simulator.keys[0]["hash"]
    tasks.keys({"name": "plain"})
    result = tasks.good("keys", keys=[{"name": "ci"}, {"name": "plain"}], secrets_directory=folder)
    assert not result["changed"]
    assert [bool(row["warnings"]) for row in result["api_keys"]] == [False, True]
    tasks.loader.set_vault_secrets([])
    for name, words in (("new", "no vault password"), ("ci", "cannot be decrypted")):
        result = tasks.run("keys", keys=[{"name": name}], secrets_directory=folder)
        assert words in result["msg"]
    assert len(tasks.simulator.keys) == 2


def test_absent(tasks: Tasks) -> None:
    tasks.key(limit=1)
    tasks.key(state="rotated")
    tasks.key("stays")
    untouched(tasks, lambda: tasks.key(state="absent", check=True))
    assert tasks.key(state="absent", check=True)["changed"]
    row = tasks.key(state="absent")
    assert row["changed"] and row["after"] == {"key": None}
    assert row["before"]["key"] != row["before"]["earlier_keys"][0]
    assert set(tasks.at_openrouter()) == {"stays"}
    assert not [path for path in files(tasks.folder) if "/ci" in path]
    untouched(tasks, lambda: tasks.key(state="absent"))


# --- workspaces ---------------------------------------------------------------------------------


@pytest.fixture
def prod(tasks: Tasks) -> Row:
    """The options of a task about a workspace with as much in it as the default one."""
    options = {"workspace": "prod", "secrets_directory": str(tasks.folder.parent / "prod")}
    tasks.simulator.add_workspace("Production", "prod")
    for workspace, models in (("default", "openai/gpt-4o-mini"), ("prod", "openai/gpt-5.4")):
        fences = [{"name": "cheap", "allowed_models": [models]}]
        tasks.good("guardrails", guardrails=fences, workspace=workspace)
    tasks.key(limit=1, guardrail="cheap")
    return options


def hashes(tasks: Tasks) -> set[str]:
    return {row["hash"] for row in tasks.simulator.keys}


def test_keys_of_one_workspace_are_not_those_of_another(tasks: Tasks, prod: Row) -> None:
    (mine,) = tasks.simulator.keys
    untouched(tasks, lambda: tasks.key(check=True, limit=2, guardrail="cheap", **prod))
    assert tasks.key(check=True, limit=2, guardrail="cheap", **prod)["before"] == {"key": None}
    row = tasks.key(limit=2, guardrail="cheap", **prod)
    assert (row["stored"], row["secret_file"]) == (True, f"{prod['secrets_directory']}/ci")
    untouched(tasks, lambda: tasks.key(limit=2, guardrail="cheap", **prod))
    untouched(tasks, lambda: tasks.key(limit=1, guardrail="cheap"))
    there = tasks.simulator.keys[-1]
    assert (there["hash"], there["limit"]) == (row["hash"], 2)
    assert there["workspace_id"] != mine["workspace_id"]
    assert there["guardrail_id"] != mine["guardrail_id"]
    for workspace, key in (("default", mine), ("prod", there)):
        (shown,) = tasks.good("keys_info", workspace=workspace)["api_keys"]
        assert (shown["hash"], shown["guardrail"]) == (key["hash"], "cheap")
    untouched(tasks, lambda: tasks.key(state="rotated", grace=0, check=True, **prod))
    new = tasks.key(state="rotated", grace=0, **prod)
    assert new["after"]["guardrail"] == "cheap" and hashes(tasks) == {mine["hash"], new["hash"]}
    untouched(tasks, lambda: tasks.key(state="absent", check=True, **prod))
    assert tasks.key(state="absent", **prod)["changed"]
    assert tasks.simulator.keys == [mine]
    untouched(tasks, lambda: tasks.key(state="absent", **prod))


@pytest.mark.parametrize("state", ["present", "rotated", "absent"])
def test_a_directory_is_not_used_for_two_workspaces(tasks: Tasks, prod: Row, state: str) -> None:
    folder = {**prod, "secrets_directory": str(tasks.folder)}
    untouched(tasks, lambda: tasks.failure(state=state, **folder))
    assert "in another workspace" in tasks.failure(state=state, **folder)["what"]
    tasks.key(**prod)
    back = {"secrets_directory": prod["secrets_directory"]}
    untouched(tasks, lambda: tasks.failure(state=state, **back))
    # Nor when only a key that was replaced is remembered.
    tasks.key(state="rotated")
    api = Controller(tasks.simulator.url, tasks.simulator.management_key)
    api.delete(f"/keys/{sha256(tasks.secret())}")
    (tasks.folder / "ci").unlink()
    untouched(tasks, lambda: tasks.failure(state=state, **folder))


def test_a_run_that_was_cut_off_in_a_workspace_is_gone_on_with_there(
    tasks: Tasks, prod: Row
) -> None:
    tasks.simulator.fault(method="POST", path="/keys", cut="after")
    tasks.failure(**prod)
    before = hashes(tasks)
    untouched(tasks, tasks.key)
    row = tasks.key(**prod)
    assert row["changed"] and "ended before it had the secret" in row["warnings"][0]
    tasks.key(grace=0, **prod)
    assert len(hashes(tasks)) == 2 and len(hashes(tasks) & before) == 1


def test_what_is_there_twice_is_not_guessed(tasks: Tasks) -> None:
    fence(tasks, "cheap")
    fence(tasks, "other")
    tasks.key(guardrail="cheap")
    rows = tasks.simulator.engine.state.guardrails
    (twin,) = [row for row in rows.values() if row.settings["name"] == "other"]
    twin.settings["name"] = "cheap"
    # It has one of them, which is not asked about.
    untouched(tasks, lambda: tasks.key(guardrail="cheap"))
    tasks.simulator.clear_log()
    for failure in (tasks.failure("new", guardrail="cheap"), tasks.failure(state="rotated")):
        assert "several guardrails are called cheap" in failure["what"]
        assert twin.id in failure["what"]
    assert tasks.writes() == []


def test_a_key_that_is_listed_twice_is_one(tasks: Tasks, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody makes a key between two pages of a list that begins with the newest."""
    api = Controller(tasks.simulator.url, tasks.simulator.management_key)
    for number in range(100):
        api.post("/keys", {"name": f"k{number}"})
    engine = tasks.simulator.engine
    handle = engine.handle

    def handle_late(incoming: Any, *rest: Any) -> Any:
        if incoming.query.get("offset") == "100" and incoming.path.endswith("/keys"):
            (first, *_others) = engine.state.keys.values()
            engine.state.keys["new"] = dataclasses.replace(first, hash="0" * 64, name="new")
        return handle(incoming, *rest)

    monkeypatch.setattr(engine, "handle", handle_late)
    assert tasks.key("k0", limit=3)["changed"]
    assert len(tasks.simulator.keys) == 101


def test_a_guardrail_that_is_not_listed_is_shown_and_taken_over(tasks: Tasks) -> None:
    """Such as one that is older than workspaces."""
    fence(tasks, "old")
    tasks.key(guardrail="old")
    (old,) = tasks.simulator.engine.state.guardrails.values()
    tasks.simulator.engine.state.guardrails = {}
    assert tasks.key(check=True)["after"]["guardrail"] == old.id
    assert tasks.key(check=True, state="rotated")["after"]["guardrail"] == old.id
    row = tasks.key(check=True, guardrail="")
    assert row["changed"] and row["after"]["guardrail"] == "none"


# --- rotation -----------------------------------------------------------------------------------


def test_rotation_takes_over_and_takes_its_time(tasks: Tasks) -> None:
    fence(tasks, "cheap")
    tasks.key(limit=7, limit_reset="weekly", guardrail="cheap", include_byok_in_limit=True)
    old, old_secret = tasks.simulator.keys[0], tasks.secret()
    untouched(tasks, lambda: tasks.key(state="rotated", check=True))
    foretold = tasks.key(state="rotated", check=True)
    row = tasks.key(state="rotated")
    assert foretold["after"] == {**row["after"], "key": "a new key"}
    new = tasks.at_openrouter()["ci"]
    assert new["hash"] == sha256(tasks.secret()) != old["hash"]
    same = ("limit", "limit_reset", "guardrail_id", "include_byok_in_limit")
    assert [new[field] for field in same] == [old[field] for field in same]
    # The old one works on, under another name, and its secret is not gone.
    (name,) = set(tasks.at_openrouter()) - {"ci"}
    assert name == f"ci~{old['hash'][:8]}"
    assert not tasks.at_openrouter()[name]["disabled"]
    kept = tasks.folder / ".openrouter" / f"ci.{old['hash'][:12]}"
    assert kept.read_text().strip() == old_secret
    shown = f"sha256:{old['hash'][:12]}"
    assert row["after"]["earlier_keys"] == [shown]
    # It is not begun anew as long as it lasts, and nothing happens before its time.
    untouched(tasks, lambda: tasks.key(state="rotated"))
    untouched(tasks, tasks.key)
    foretold = tasks.key(grace=0, check=True)
    row = tasks.key(grace=0)
    assert row["changed"]
    assert (row["before"]["earlier_keys"], row["after"]["earlier_keys"]) == ([shown], [])
    assert (foretold["before"], foretold["after"]) == (row["before"], row["after"])
    assert tasks.whole()["hash"] == new["hash"]
    assert not kept.exists()
    untouched(tasks, lambda: tasks.key(grace=0))


def test_rotation_by_age(tasks: Tasks, simulator: Simulator) -> None:
    tasks.key()
    untouched(tasks, lambda: tasks.key(state="rotated", max_age_days=90))
    # A key that was made long ago.
    simulator.engine.state.keys[simulator.keys[0]["hash"]].created_at -= 91 * 86400
    assert tasks.key(state="rotated", max_age_days=90)["changed"]
    assert len(simulator.keys) == 2


def test_rotation_without_grace(tasks: Tasks) -> None:
    tasks.key()
    old = tasks.whole()["hash"]
    tasks.key(state="rotated", grace=0)
    assert tasks.whole()["hash"] != old
    assert len(tasks.simulator.keys) == 1


def test_a_key_without_a_stored_secret_is_rotated_too(tasks: Tasks) -> None:
    api = Controller(tasks.simulator.url, tasks.simulator.management_key)
    api.post("/keys", {"name": "ci", "limit": 3})
    assert tasks.key(state="rotated", grace=0)["stored"]
    assert tasks.whole()["limit"] == 3


def test_a_key_that_took_the_place_of_ours_is_not_taken_for_it(tasks: Tasks) -> None:
    tasks.key()
    api = Controller(tasks.simulator.url, tasks.simulator.management_key)
    api.delete(f"/keys/{tasks.simulator.keys[0]['hash']}")
    theirs = api.post("/keys", {"name": "ci"})["data"]["hash"]
    for state in ("present", "absent"):
        assert "is not the one whose secret is stored" in tasks.failure(state=state)["what"]
    assert [row["hash"] for row in tasks.simulator.keys] == [theirs]
    tasks.key(state="rotated", grace=0)
    assert tasks.whole()["hash"] != theirs


def test_a_key_can_be_deleted_by_a_name_that_no_new_one_can_have(tasks: Tasks) -> None:
    api = Controller(tasks.simulator.url, tasks.simulator.management_key)
    api.post("/keys", {"name": "old "})
    assert tasks.key("old ", state="absent")["changed"]
    assert tasks.simulator.keys == []


def test_a_key_that_was_deleted_elsewhere_is_made_again(tasks: Tasks) -> None:
    tasks.key(limit=1)
    api = Controller(tasks.simulator.url, tasks.simulator.management_key)
    api.delete(f"/keys/{tasks.simulator.keys[0]['hash']}")
    assert tasks.key(limit=1)["changed"]
    tasks.whole()


# --- one limit ----------------------------------------------------------------------------------


@pytest.fixture
def spent(tasks: Tasks, monkeypatch: pytest.MonkeyPatch) -> Tasks:
    """A key that spent 7.5 of 20 this month, and a controller with the clock of OpenRouter."""

    def now() -> datetime.datetime:
        return datetime.datetime.fromtimestamp(tasks.simulator.state["now"], datetime.UTC)

    monkeypatch.setattr(openrouter_keys, "now", now)
    # Nowhere near the end of a month.
    start = (now().replace(day=1) + datetime.timedelta(days=32)).replace(day=10)
    tasks.simulator.advance(seconds=(start - now()).total_seconds())
    tasks.key(limit=20, limit_reset="monthly")
    tasks.simulator.set_usage("ci", 7.5)
    return tasks


def limit(tasks: Tasks) -> float:
    return float(tasks.at_openrouter()["ci"]["limit"])


@pytest.mark.parametrize("asked", [{}, {"limit": 20}])
def test_a_limit_is_not_spent_twice(spent: Tasks, asked: Row) -> None:
    foretold = spent.key(state="rotated", check=True, **asked)
    row = spent.key(state="rotated", **asked)
    assert foretold["after"] == {**row["after"], "key": "a new key"}
    assert foretold["warnings"] == row["warnings"]
    assert "the limit is 12.5, because keys before it spent 7.5 of 20;" in row["warnings"][0]
    assert (row["after"]["limit"], row["spent_before"], limit(spent)) == (12.5, 7.5, 12.5)
    untouched(spent, lambda: spent.key(**asked))
    assert spent.key(**asked)["warnings"] == []
    # The one before it works still, and what it spends now counts, too.
    (older,) = set(spent.at_openrouter()) - {"ci"}
    spent.simulator.set_usage(older, 8)
    assert spent.key(check=True, **asked)["changed"]
    assert spent.key(**asked)["before"]["limit"] == 12.5
    assert limit(spent) == 12
    # Also when it is deleted, and when another one follows.
    spent.key(grace=0, **asked)
    assert set(spent.at_openrouter()) == {"ci"} and limit(spent) == 12
    untouched(spent, lambda: spent.key(grace=0, **asked))
    spent.simulator.set_usage("ci", 1)
    assert spent.key(state="rotated", grace=0, **asked)["spent_before"] == 9
    assert limit(spent) == 11
    untouched(spent, lambda: spent.key(grace=0, **asked))
    # Until the limit is full again.
    spent.simulator.advance(days=31)
    foretold = spent.key(check=True, **asked)
    assert (foretold["changed"], foretold["after"]["limit"]) == (True, 20)
    row = spent.key(**asked)
    assert (row["before"]["limit"], row["after"]["limit"], limit(spent)) == (11, 20, 20)
    untouched(spent, lambda: spent.key(**asked))
    # What is changed elsewhere afterwards stays as it is.
    api = Controller(spent.simulator.url, spent.simulator.management_key)
    api.patch(f"/keys/{row['hash']}", {"limit": 50})
    untouched(spent, spent.key)


def test_all_of_a_limit_is_spent(spent: Tasks) -> None:
    spent.simulator.set_usage("ci", 21)
    spent.key(state="rotated")
    assert limit(spent) == 0
    spent.key(limit=30)
    assert limit(spent) == 9


def test_a_limit_that_is_never_full_again(spent: Tasks) -> None:
    spent.key(limit_reset="never")
    warning = spent.key(state="rotated", grace=0)["warnings"][0]
    assert warning.endswith("spent 7.5 of 20")
    spent.simulator.advance(days=400)
    untouched(spent, spent.key)
    assert limit(spent) == 12.5


def test_what_was_spent_in_all_a_life_is_nothing_of_a_months_limit(spent: Tasks) -> None:
    spent.key(limit_reset="never")
    spent.key(state="rotated", grace=0)
    assert limit(spent) == 12.5
    asked: Row = {"limit": 20, "limit_reset": "monthly", "grace": 0}
    spent.key(**asked)
    for _month in range(2):
        spent.simulator.advance(days=32)
        row = spent.key(**asked)
        assert (limit(spent), row["spent_before"], row["warnings"]) == (20, 0, [])
    untouched(spent, lambda: spent.key(**asked))


def test_what_was_spent_in_a_month_is_nothing_of_a_days_limit(spent: Tasks) -> None:
    spent.key(state="rotated", grace=0)
    spent.simulator.advance(days=2)
    row = spent.key(limit=5, limit_reset="daily", grace=0)
    assert (limit(spent), row["spent_before"], row["warnings"]) == (5, 0, [])


def test_what_was_spent_in_a_day_is_spent_of_a_months_limit(spent: Tasks) -> None:
    spent.key(limit=20, limit_reset="daily")
    spent.key(state="rotated", grace=0)
    row = spent.key(limit=20, limit_reset="monthly", grace=0)
    spent.simulator.advance(days=2)
    untouched(spent, lambda: spent.key(limit=20, limit_reset="monthly", grace=0))
    assert limit(spent) == 12.5
    # As the warning of the rotation says.
    spent.simulator.advance(days=20)
    spent.key(limit=20, limit_reset="monthly", grace=0)
    assert limit(spent) == 20
    assert row["spent_before"] == 7.5


def test_what_a_key_spent_counts_also_when_somebody_else_deletes_it(spent: Tasks) -> None:
    spent.key(state="rotated", limit=20)
    (older,) = set(spent.at_openrouter()) - {"ci"}
    api = Controller(spent.simulator.url, spent.simulator.management_key)
    api.delete(f"/keys/{spent.at_openrouter()[older]['hash']}")
    row = spent.key(limit=20)
    assert (limit(spent), row["spent_before"]) == (12.5, 7.5)
    spent.simulator.advance(days=31)
    spent.key(limit=20)
    assert limit(spent) == 20


def test_a_limit_that_somebody_sets_meanwhile_is_the_whole_one(spent: Tasks) -> None:
    key_hash = spent.key(state="rotated")["hash"]
    api = Controller(spent.simulator.url, spent.simulator.management_key)
    api.patch(f"/keys/{key_hash}", {"limit": 100})
    row = spent.key()
    assert "the limit is 92.5, because keys before it spent 7.5 of 100;" in row["warnings"][0]
    assert limit(spent) == 92.5
    untouched(spent, spent.key)
    # In the next month, that is all that there is to it.
    api.patch(f"/keys/{key_hash}", {"limit": 60})
    spent.simulator.advance(days=31)
    assert not spent.key(grace=10**7)["changed"]
    assert limit(spent) == 60


def test_a_run_that_is_cut_off_before_a_limit_is_reduced_further(
    spent: Tasks, monkeypatch: pytest.MonkeyPatch
) -> None:
    spent.key(state="rotated")
    (older,) = set(spent.at_openrouter()) - {"ci"}
    spent.simulator.set_usage(older, 8)
    with monkeypatch.context() as patch:
        patch.setattr(OpenRouter, "update_key", cut_off)
        with pytest.raises(KeyboardInterrupt):
            spent.key()
    assert limit(spent) == 12.5
    spent.key()
    assert limit(spent) == 12
    untouched(spent, spent.key)


def cut_off(*_given: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(("counts", "left"), [(True, 10.5), (False, 12.5)])
def test_spending_with_provider_keys_of_ones_own(spent: Tasks, counts: bool, left: float) -> None:
    spent.key(include_byok_in_limit=counts)
    spent.simulator.set_usage("ci", 7.5, byok=2)
    spent.key(state="rotated")
    assert limit(spent) == left
    spent.key(grace=0)
    assert limit(spent) == left


def test_a_limit_may_be_spent_again_by_who_wants_that(spent: Tasks) -> None:
    row = spent.key(state="rotated", carry_usage=False)
    assert (row["after"]["limit"], row["warnings"], row["spent_before"]) == (20, [], 7.5)
    assert limit(spent) == 20
    untouched(spent, lambda: spent.key(carry_usage=False))
    spent.key()
    assert limit(spent) == 12.5
    spent.key(carry_usage=False)
    assert limit(spent) == 20


def test_a_key_without_a_limit_keeps_none(spent: Tasks) -> None:
    spent.key(limit="unlimited")
    spent.key(state="rotated", grace=0)
    assert spent.at_openrouter()["ci"]["limit"] is None
    untouched(spent, lambda: spent.key(grace=0))


# --- what goes wrong ----------------------------------------------------------------------------


def test_the_answer_is_lost(tasks: Tasks) -> None:
    tasks.simulator.fault(method="POST", path="/keys", cut="after")
    assert "no answer" in tasks.failure()["what"]
    assert tasks.secret() == ""
    shown = f"sha256:{tasks.simulator.keys[0]['hash'][:12]}"
    foretold = tasks.key(check=True)
    row = tasks.key()
    assert row["changed"] and "ended before it had the secret" in row["warnings"][0]
    assert row["before"] == foretold["before"] == {"key": None, "earlier_keys": [shown]}
    assert row["after"]["earlier_keys"] == [f"{shown} (disabled)"]
    assert foretold["after"] == {**row["after"], "key": "a new key"}
    tasks.whole()
    assert len(tasks.simulator.keys) == 2
    tasks.key(grace=0)
    assert len(tasks.simulator.keys) == 1
    untouched(tasks, lambda: tasks.key(grace=0))


def test_a_key_that_has_no_name_yet_is_shown_so(tasks: Tasks) -> None:
    tasks.simulator.fault(method="PATCH", path="/keys/.*", status=400)
    tasks.failure(limit=1)
    (made,) = tasks.simulator.keys
    result = tasks.keys({"name": "ci"}, check=True)
    (diff,) = result["diff"]
    assert f"name: {made['name']}" in diff["before"] and "name: ci\n" in diff["after"]
    assert tasks.key()["changed"] and tasks.whole()["hash"] == made["hash"]
    untouched(tasks, tasks.key)


def test_a_create_is_not_repeated(tasks: Tasks) -> None:
    tasks.simulator.fault(method="POST", path="/keys", status=503, act=True, retry_after=0)
    tasks.failure()
    assert len([row for row in tasks.writes() if row == "POST /keys"]) == 1


def test_an_orphan_that_is_used_is_an_error(tasks: Tasks) -> None:
    tasks.simulator.fault(method="POST", path="/keys", cut="after")
    tasks.failure()
    tasks.simulator.set_usage(tasks.simulator.keys[0]["name"], 0.5)
    assert "and yet the key was used" in tasks.failure()["what"]
    tasks.key(state="rotated")
    tasks.whole()


def test_an_attempt_that_nobody_remembers_is_an_error(tasks: Tasks) -> None:
    tasks.simulator.fault(method="POST", path="/keys", cut="after")
    tasks.failure()
    shutil.rmtree(tasks.folder)
    assert "nothing is remembered" in tasks.failure()["what"]
    assert len(tasks.simulator.keys) == 1


def test_no_room(tasks: Tasks) -> None:
    """Nothing is made that cannot be stored, and what could not be stored after all is deleted."""
    tasks.folder.mkdir()
    with full_disk(0):
        assert "cannot be written" in tasks.failure()["what"]
    assert "POST /keys" not in tasks.writes()
    with pytest.MonkeyPatch.context() as patch:
        write = _key_files._write

        def full(path: Path, data: bytes) -> None:
            with full_disk(0 if path.name == "ci" else 10**6):
                write(path, data)

        patch.setattr(_key_files, "_write", full)
        assert "cannot be written" in tasks.failure()["what"]
    assert tasks.simulator.keys == []
    tasks.key()
    tasks.whole()


def test_what_is_wrong_with_the_account(tasks: Tasks) -> None:
    tasks.simulator.fault(path="/guardrails", status=401)
    result = tasks.keys({"name": "ci"})
    assert result["failure"]["todo"].startswith("check the management key")
    result = tasks.run("keys", keys=[{"name": "ci"}], management_key=...)
    assert "no management key" in result["msg"]
    assert tasks.writes() == []


# --- killed -------------------------------------------------------------------------------------


@pytest.fixture
def context(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Processes that begin without threads, and with all that they need."""
    # The server of forks, which imports it once, does not know this process's paths.
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["unit.keys.tasks", openrouter_keys.__name__])
    return context


@pytest.mark.parametrize(
    ("flow", "spent"), [("make", 0), ("rotate", 0), ("rotate", 1.5), ("delete", 0)]
)
def test_a_run_that_is_killed_between_any_two_steps(
    tasks: Tasks, context: Any, flow: str, spent: float
) -> None:
    """By the kernel. There is no moment without a working key whose secret somebody has."""
    fence(tasks, "cheap")
    if flow != "make":
        act(tasks, "make")
        tasks.simulator.set_usage("ci", spent)
    account = tasks.simulator.engine.state
    kept = tasks.folder.parent / "kept"
    if tasks.folder.exists():
        shutil.copytree(tasks.folder, kept)
    step, ended = 0, False
    while not ended:
        for after in (False, True):
            tasks.simulator.engine.state = copy.deepcopy(account)
            shutil.rmtree(tasks.folder, ignore_errors=True)
            if kept.exists():
                shutil.copytree(kept, tasks.folder)
            before = {row["hash"] for row in tasks.simulator.keys}
            arguments = (tasks.simulator.url, tasks.simulator.management_key, str(tasks.folder))
            process = context.Process(target=child, args=(*arguments, flow, step, after))
            process.start()
            process.join(120)
            assert process.exitcode in (0, -signal.SIGKILL)
            ended = process.exitcode == 0
            where = f"{flow}, step {step}, {after=}"
            if flow == "rotate" and not ended:
                stored = {
                    sha256(path.read_text().strip())
                    for path in tasks.folder.rglob("ci*")
                    if path.suffix != ".json"
                }
                assert [
                    row
                    for row in tasks.simulator.keys
                    if row["hash"] in stored and not row["disabled"] and row["guardrail_id"]
                ], where
            if spent:
                # The whole limit is what is remembered of it.
                tasks.key()
            else:
                act(tasks, "delete" if flow == "delete" else "make")
            if flow == "delete":
                assert tasks.simulator.keys == [], where
                assert not [path for path in files(tasks.folder) if "/ci" in path], where
                continue
            tasks.key(grace=0)
            key = tasks.whole()
            assert len(tasks.simulator.keys) == 1, where
            left = 5 if key["hash"] in before else 5 - spent
            assert (key["limit"], key["limit_reset"]) == (left, "monthly"), where
            untouched(tasks, lambda: tasks.key(grace=0))
            assert key["guardrail_id"], where
            assert before <= {key["hash"]} or flow == "rotate", where
            names = [path.name for path in tasks.folder.rglob("ci*")]
            assert sorted(names) == ["ci", "ci.json"], where
            assert not re.search(r"sk-or", (tasks.folder / ".openrouter/ci.json").read_text())
        step += 1
    assert step >= {"make": 9, "rotate": 12, "delete": 6}[flow]


def test_two_runs_at_once_make_one_key(tasks: Tasks, context: Any) -> None:
    fence(tasks, "cheap")
    arguments = (tasks.simulator.url, tasks.simulator.management_key, str(tasks.folder))
    processes = [
        context.Process(target=child, args=(*arguments, "make", -2, False)) for _count in range(3)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert len(tasks.simulator.keys) == 1
    tasks.whole()


def test_a_key_that_is_made_late_is_known_after_its_name_was_given_up(tasks: Tasks) -> None:
    tasks.simulator.fault(method="POST", path="/keys", cut="before")
    tasks.keys({"name": "ci"})
    (memory,) = (tasks.folder / ".openrouter").glob("ci.json")
    late = json.loads(memory.read_text())["attempts"][0]["name"]
    assert tasks.key(state="absent")["changed"] is False
    made = {"name": late, "limit": None}
    Controller(tasks.simulator.url, tasks.simulator.management_key).post("/keys", made)
    assert tasks.key(state="absent")["changed"]
    assert tasks.simulator.keys == []


def test_a_key_that_is_disabled_leaves_none_that_works(tasks: Tasks) -> None:
    tasks.key()
    tasks.key(state="rotated")
    assert tasks.key(check=True, disabled=True)["changed"]
    assert tasks.key(disabled=True)["changed"]
    assert [key["disabled"] for key in tasks.simulator.keys] == [True, True]
    assert not tasks.key(disabled=True)["changed"]
