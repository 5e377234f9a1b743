# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A client's keys one after the other: one cap, and nothing lost until the old key is deleted."""

from __future__ import annotations

import dataclasses
import datetime
import json
import time

import pytest
from ansible_collections.mai.fleet.plugins.action import fleet_keys, fleet_proof
from ansible_collections.mai.fleet.plugins.module_utils._api.openrouter import Key
from ansible_collections.mai.fleet.plugins.module_utils._reconcile import (
    caps,
    records,
    retirement,
)
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.records import (
    Former,
    Record,
    Why,
)
from ansible_collections.mai.fleet.plugins.module_utils._secrets import sha256
from unit.keys.bench import MINI, Bench, Row
from unit.keys.stages import Stages

DAY = 86400.0


@pytest.fixture
def stages(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Stages:
    """One client with a key, on a clock that the test can put forward."""
    monkeypatch.setenv("OPENROUTER_MANAGEMENT_KEY", bench.simulator.management_key)
    for module in (fleet_keys, fleet_proof):
        monkeypatch.setattr(module, "now", lambda: bench.now)
    stages = Stages(bench)
    stages.client("acme")
    stages.run()
    return stages


def spend(stages: Stages, usd: float, key: int = -1) -> None:
    row = stages.bench.living()[key]
    stages.bench.simulator.set_usage(row["hash"], row["usage"] + usd)


def keys(stages: Stages) -> list[tuple[bool, float | None]]:
    """Whether each key works, and its cap; the oldest first."""
    return [(not row["disabled"], row["limit"]) for row in stages.bench.living()]


def retire(stages: Stages, grace: float = DAY) -> Row:
    return stages.once("fleet_keys", retire=True, grace=grace)


def rotate(stages: Stages, grace: float = DAY) -> None:
    stages.keys(replace="acme")
    stages.prove()
    retire(stages, grace)


def go_on(stages: Stages, grace: float = DAY) -> bool:
    """A run of site, which nobody asked to rotate anything. Whether it changed anything."""
    stages.results = []
    stages.keys()
    stages.prove()
    retire(stages, grace)
    assert stages.row()["failure"] is None
    return any(result["changed"] for result in stages.results)


def test_disabled_when_the_successor_is_proven_and_deleted_after_the_grace(stages: Stages) -> None:
    rotate(stages)
    assert keys(stages) == [(False, 100), (True, 100)]
    assert not go_on(stages)
    stages.bench.simulator.advance(hours=23)
    assert not go_on(stages)
    stages.bench.simulator.advance(hours=2)
    assert go_on(stages)
    assert keys(stages) == [(True, 100)]
    assert stages.record().former == []
    assert not go_on(stages)


def test_the_old_secret_is_kept_as_long_as_the_old_key(stages: Stages) -> None:
    old = stages.bench.secret() or ""
    rotate(stages)
    kept = stages.bench.store.secrets("acme")
    assert kept[f"api_key_{sha256(old)[:12]}"] == old != kept["api_key"]
    stages.bench.simulator.advance(days=2)
    go_on(stages)
    assert old not in stages.bench.store.secrets("acme").values()


def test_the_successor_gets_what_is_left_of_the_cap(stages: Stages) -> None:
    spend(stages, 37.5)
    rotate(stages)
    assert keys(stages) == [(False, 100), (True, 62.5)]
    remainder = stages.record().remainder
    assert remainder is not None
    assert remainder.limit == 62.5
    assert not go_on(stages)


def test_what_the_old_key_spent_at_last_counts(stages: Stages) -> None:
    """Chats that were open go on for a while after the new key was made."""
    spend(stages, 37.5)
    stages.keys(replace="acme")
    spend(stages, 2.5, key=0)
    stages.prove()
    retire(stages)
    go_on(stages)
    assert keys(stages) == [(False, 100), (True, 60)]


def test_what_a_deleted_key_spent_counts_until_the_window_ends(stages: Stages) -> None:
    stages.client("acme", limit_reset="weekly")
    stages.run()
    spend(stages, 30)
    rotate(stages, grace=0)
    assert keys(stages) == [(True, 70)]
    (former,) = stages.record().former
    assert (former.spent, bool(former.deleted)) == (30, True)
    assert not go_on(stages, grace=0)
    stages.bench.simulator.advance(days=7)
    assert go_on(stages, grace=0)
    assert keys(stages) == [(True, 100)]
    assert (stages.record().former, stages.record().remainder) == ([], None)
    assert not go_on(stages, grace=0)


def test_what_a_former_key_spent_counts_also_when_somebody_else_deletes_it(stages: Stages) -> None:
    """Or OpenRouter itself, some time after its end: nobody says then what it spent."""
    spend(stages, 30)
    rotate(stages)
    spend(stages, 5, key=0)
    go_on(stages)
    assert keys(stages) == [(False, 100), (True, 65)]
    stages.bench.quietly("DELETE", f"/keys/{stages.bench.living()[0]['hash']}")
    assert not go_on(stages)
    assert keys(stages) == [(True, 65)]
    stages.bench.simulator.advance(days=2)
    go_on(stages)
    assert keys(stages) == [(True, 65)]
    stages.bench.simulator.advance(days=31)
    go_on(stages)
    assert (keys(stages), stages.record().former) == ([(True, 100)], [])


@pytest.mark.parametrize("cut", ["deleted by somebody", "cut off before its secret went"])
def test_no_secret_of_a_deleted_key_stays(
    stages: Stages, monkeypatch: pytest.MonkeyPatch, cut: str
) -> None:
    old = stages.bench.key()["hash"]
    if cut == "deleted by somebody":
        stages.bench.quietly("DELETE", f"/keys/{old}")
    else:
        rotate(stages)
        stages.bench.simulator.advance(days=2)

        def killed(*_given: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(retirement, "without", killed)
            with pytest.raises(KeyboardInterrupt):
                go_on(stages)
    go_on(stages)
    stages.bench.simulator.advance(days=2)
    go_on(stages)
    secrets = stages.bench.store.secrets("acme")
    assert [name for name in secrets if name.startswith("api_key")] == ["api_key"]
    assert stages.record().former == []
    assert not go_on(stages)


def test_a_cap_for_life_is_never_full_again(stages: Stages) -> None:
    stages.client("acme", limit_reset="never")
    stages.run()
    spend(stages, 99)
    rotate(stages, grace=0)
    stages.bench.simulator.advance(days=400)
    assert not go_on(stages, grace=0)
    assert keys(stages) == [(True, 1)]


def test_the_first_run_after_the_reset_restores_the_sold_cap(stages: Stages) -> None:
    spend(stages, 99)
    rotate(stages, grace=40 * DAY)
    assert keys(stages) == [(False, 100), (True, 1)]
    stages.bench.simulator.advance(days=31)
    assert go_on(stages, grace=40 * DAY)
    assert keys(stages) == [(False, 100), (True, 100)]


def test_a_cap_that_is_sold_anew_in_the_window(stages: Stages) -> None:
    spend(stages, 37.5)
    rotate(stages)
    stages.client("acme", spending_limit=200)
    go_on(stages)
    assert keys(stages) == [(False, 100), (True, 162.5)]
    stages.client("acme", spending_limit=20)
    go_on(stages)
    assert keys(stages) == [(False, 100), (True, 0)]


def test_a_client_without_a_cap(stages: Stages) -> None:
    stages.client("acme", spending_limit="unlimited")
    stages.run()
    spend(stages, 5000)
    rotate(stages)
    assert keys(stages) == [(False, None), (True, None)]


def test_three_keys_share_one_cap(stages: Stages) -> None:
    spend(stages, 10)
    rotate(stages)
    spend(stages, 20)
    rotate(stages)
    assert keys(stages) == [(False, 100), (False, 90), (True, 70)]


def test_a_key_that_is_used_still_goes_on_working(
    stages: Stages, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Something else has it: to disable it would break that, and nobody would know what it was."""
    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(time, "sleep", lambda _quiet: spend(stages, 1, key=0))
        stages.keys(replace="acme")
        stages.prove()
        retire(stages)
    assert keys(stages)[0] == (True, 100)
    assert "is used still" in stages.row()["warnings"][-1]
    go_on(stages)
    assert keys(stages)[0] == (False, 100)


def test_only_keys_that_are_old_enough(stages: Stages) -> None:
    stages.bench.simulator.advance(days=80)
    stages.client("beta")
    stages.run()
    stages.bench.simulator.advance(days=11)
    stages.keys(replace="acme,beta", max_age_days=90)
    assert stages.record().generation == 2
    assert stages.record("beta").generation == 1
    untouched = stages.record()
    stages.prove()
    stages.keys(replace="acme,beta", max_age_days=90)
    assert stages.record().generation == untouched.generation


# --- undone -------------------------------------------------------------------------------------


@pytest.mark.parametrize("disabled", [False, True])
def test_a_rotation_can_be_undone_until_the_old_key_is_deleted(
    stages: Stages, disabled: bool
) -> None:
    old = stages.bench.secret()
    spend(stages, 10)
    stages.keys(replace="acme")
    stages.prove()
    if disabled:
        retire(stages)
    spend(stages, 5)
    stages.keys(undo="acme")
    stages.bench.store.save_secrets("acme", chosen(stages))
    assert stages.record().generation == 1
    assert stages.bench.secret() == old
    assert keys(stages) == [(True, 95), (True, 90)]
    stages.prove()
    retire(stages)
    assert [works for works, _limit in keys(stages)] == [True, False]
    assert not go_on(stages)
    stages.bench.simulator.advance(days=2)
    assert go_on(stages)
    assert len(keys(stages)) == 1
    assert stages.bench.secret() == old


def test_undone_once_more_it_stays_undone(stages: Stages) -> None:
    """As when a run was cut off: the key that was to be left is not taken again."""
    rotate(stages)
    rotate(stages)
    for _again in range(2):
        stages.keys(undo="acme")
        stages.bench.store.save_secrets("acme", chosen(stages))
        assert stages.record().generation == 2
    assert not stages.results[-1]["changed"]
    stages.prove()
    retire(stages)
    rotate(stages)
    stages.keys(undo="acme")
    assert stages.record().generation == 2


def chosen(stages: Stages) -> dict[str, str]:
    """What the stage of files makes of the store."""
    secrets = stages.bench.store.secrets("acme")
    return records.chosen(secrets, stages.record().key_hash)


def test_there_is_nothing_to_undo(stages: Stages) -> None:
    stages.keys(undo="acme")
    failure = stages.row()["failure"]
    assert failure is not None
    assert "no key to go back to" in failure["what"]
    assert keys(stages) == [(True, 100)]


def test_undo_in_check_mode(stages: Stages) -> None:
    rotate(stages)
    before = stages.record()
    stages.keys(undo="acme", check=True)
    assert stages.results[-1]["changed"]
    assert stages.record() == before
    assert keys(stages) == [(False, 100), (True, 100)]


# --- no proof without a chat --------------------------------------------------------------------


def as_an_instance(stages: Stages) -> Row:
    """As of a client whose instance is proven by a chat; it has none here, so that none is made."""
    for host in stages.hosts.values():
        host["fleet_state"]["clients"]["acme"].update(instance="webui", chat_model=MINI)
    return retire(stages)


def test_no_key_is_retired_before_its_successor_paid_for_a_chat(stages: Stages) -> None:
    stages.keys(replace="acme")
    stages.prove(chat=False)
    assert stages.record().proven.split("+")[1:] == ["fence"]
    as_an_instance(stages)
    assert keys(stages) == [(True, 100), (True, 100)]
    (warning,) = stages.row()["warnings"]
    assert "it is not proven that its successor took its place" in warning
    stages.keys()
    stages.prove()
    as_an_instance(stages)
    assert keys(stages) == [(False, 100), (True, 100)]


def test_a_cap_that_is_used_up_keeps_no_old_key_alive(stages: Stages) -> None:
    """No chat can be made then, and none is taken from anybody."""
    spend(stages, 100)
    stages.keys(replace="acme")
    stages.prove()
    assert stages.row()["exhausted"]
    as_an_instance(stages)
    assert [works for works, _cap in keys(stages)] == [False, True]


def test_without_room_in_the_budget_the_old_key_goes_on(stages: Stages) -> None:
    stages.keys(replace="acme")
    stages.prove(budget=0)
    retire(stages)
    assert keys(stages) == [(True, 100), (True, 100)]
    (warning,) = stages.row()["warnings"]
    assert "proof_budget" in warning


# --- records of an older version ----------------------------------------------------------------


def test_a_record_of_the_first_schema_is_read() -> None:
    old = {
        **dataclasses.asdict(Record("acme", "server1", "Acme", "mai_client_0")),
        "schema": 1,
        "attempt": {"name": "mai/hosting/acme/g1/01234567", "at": "2026-11-01T00:00:00Z"},
        "superseded": ["aa", "bb"],
    }
    for name in ("attempts", "former", "remainder"):
        del old[name]
    record = Record.read(old)
    assert [attempt.name for attempt in record.attempts] == ["mai/hosting/acme/g1/01234567"]
    assert [former.hash for former in record.former] == ["aa", "bb"]
    assert record.schema == 2


# --- what a server is told ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("action", "options"),
    [
        ("fleet_settings", {"notice": ""}),
        ("fleet_proof", {"scope": "all", "chat": True, "fence": False, "budget": 1, "patience": 0}),
    ],
)
def test_a_server_gets_no_secret_of_a_former_key(
    stages: Stages, monkeypatch: pytest.MonkeyPatch, action: str, options: Row
) -> None:
    old = stages.bench.secret()
    rotate(stages)
    stages.client("acme", instance="webui")
    stages.once("fleet_preflight", select="")
    sent: list[dict[str, str]] = []

    def module(module_name: str, module_args: Row, task_vars: Row) -> Row:
        sent.extend(json.loads(module_args["secrets"]).values())
        return {"failed": True, "msg": f"no {module_name} on {task_vars['inventory_hostname']}"}

    monkeypatch.setattr(stages, "_module", module)
    stages.everywhere(action, pool=1, **options)
    (secrets,) = sent
    assert secrets["api_key"] == stages.bench.secret()
    assert old in stages.bench.store.secrets("acme").values()
    assert old not in secrets.values()


@pytest.mark.parametrize("first", [{"limit_reset": "never"}, {"spending_limit": "unlimited"}])
def test_what_was_spent_in_all_a_life_is_nothing_of_a_months_cap(
    stages: Stages, first: dict[str, str]
) -> None:
    """Nobody knows when it was spent, and it would be taken off for ever."""
    stages.client("acme", **first)
    stages.run()
    spend(stages, 90)
    rotate(stages, grace=0)
    assert [former.spent for former in stages.record().former] == [90]
    stages.client("acme", limit_reset="monthly")
    for _month in range(3):
        stages.bench.simulator.advance(days=31)
        go_on(stages)
        assert keys(stages) == [(True, 100)]
    assert (stages.record().former, stages.record().remainder) == ([], None)
    assert not go_on(stages)


def test_nothing_is_noted_of_a_window_in_which_nothing_was_spent(stages: Stages) -> None:
    stages.client("acme", limit_reset="daily")
    stages.run()
    spend(stages, 3)
    rotate(stages, grace=10 * DAY)
    former = stages.record().former
    for changed in (True, False):
        stages.bench.simulator.advance(days=1)
        # The first time, the cap is full again.
        assert go_on(stages, grace=10 * DAY) is changed
        assert stages.record().former == former


MEASURED = datetime.datetime(2026, 12, 30, 12, tzinfo=datetime.UTC)
"""A Wednesday of a month that begins on a Tuesday; its week reaches into the next month."""


@pytest.mark.parametrize(
    ("measured", "asked", "days", "counts"),
    [
        # The same cap, until it is full again.
        ("daily", "daily", 0, True),
        ("daily", "daily", 1, False),
        ("weekly", "weekly", 4, True),
        ("weekly", "weekly", 5, False),
        ("monthly", "monthly", 1, True),
        ("monthly", "monthly", 2, False),
        ("never", "never", 4000, True),
        # What was spent in a shorter time was spent in the longer one, too.
        ("daily", "weekly", 4, True),
        ("daily", "weekly", 5, False),
        ("daily", "monthly", 1, True),
        ("daily", "monthly", 2, False),
        ("weekly", "monthly", 1, True),
        ("weekly", "monthly", 2, False),
        ("daily", "never", 4000, True),
        ("monthly", "never", 4000, True),
        # What was spent in a longer one may have been spent before.
        ("weekly", "daily", 0, False),
        ("monthly", "daily", 0, False),
        ("monthly", "daily", 1, False),
        ("monthly", "weekly", 0, False),
        ("never", "daily", 0, False),
        ("never", "weekly", 0, False),
        ("never", "monthly", 0, False),
    ],
)
def test_in_which_caps_it_counts_what_a_key_spent(
    measured: str, asked: str, days: int, counts: bool
) -> None:
    spent = dict.fromkeys(("daily", "weekly", "monthly", "never"), 3.0)
    key = Key("a", "b", False, 20, 17, measured, 3.0, spent)
    former = caps.seen(Former("a", "b", Why.REPLACED), key, measured, MEASURED)
    at = MEASURED + datetime.timedelta(days=days)
    assert caps.spent_before([former], [], asked, at) == (3 if counts else 0)
    assert caps.counts(former, asked, at) == counts


def test_an_entry_of_an_earlier_version_counts_in_its_window() -> None:
    row = {
        "hash": "a",
        "name": "b",
        "why": "replaced",
        "since": "2026-12-29T10:00:00Z",
        "spent": 3.0,
        "until": "2027-01-01T00:00:00Z",
    }
    former = Former.read(row)
    assert caps.counts(former, "monthly", MEASURED)
    assert not caps.counts(former, "monthly", MEASURED + datetime.timedelta(days=2))
    assert Former.read({**row, "until": ""}).start == ""
