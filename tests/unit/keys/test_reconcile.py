# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One key and one guardrail per client: created, compared, healed, suspended, removed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.mai.fleet.plugins.module_utils._errors import ApiError
from ansible_collections.mai.fleet.plugins.module_utils._fleet.names import KeyName
from ansible_collections.mai.fleet.plugins.module_utils._reconcile import keys as engine
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.keys import Account
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.records import Record
from ansible_collections.mai.fleet.plugins.module_utils._secrets import sha256
from simulator.simulator import Simulator
from unit.keys.bench import FLASH_SLUG, FLEET, GPT, GPT_SLUG, MINI_SLUG, Bench, Row, desired, files

BATCH_SLUG = "openai/gpt-4o-mini:batch"


def assigned(bench: Bench) -> None:
    """The client has one key, and it is inside the client's guardrail."""
    assert bench.key()["guardrail_id"] == bench.guardrail()["id"]


# --- a client that is new -----------------------------------------------------------------------


def test_a_new_client(bench: Bench) -> None:
    row = bench.one(desired())
    key, guardrail, record = bench.key(), bench.guardrail(), bench.record("acme")
    name = KeyName.parse(key["name"])
    assert name is not None
    assert (name.fleet, name.client, name.generation) == (FLEET, "acme", 1)
    assert (key["limit"], key["limit_reset"], key["disabled"]) == (100, "monthly", False)
    assert guardrail["allowed_models"] == [MINI_SLUG, GPT_SLUG]
    assert guardrail["description"] == "mai.fleet hosting: acme & Söhne"
    assigned(bench)
    assert sha256(bench.secret() or "") == key["hash"] == record.key_hash
    assert (record.generation, record.attempts, record.former) == (1, [], [])
    assert row == {
        "changed": True,
        "before": {
            "key": None,
            "spending_limit": None,
            "limit_reset": None,
            "disabled": None,
            "models": None,
            "ends": None,
            "fenced": False,
        },
        "after": {
            "key": f"sha256:{key['hash'][:12]}",
            "spending_limit": 100,
            "limit_reset": "monthly",
            "disabled": False,
            "models": [MINI_SLUG, GPT_SLUG],
            "ends": "never",
            "fenced": True,
        },
        "warnings": [],
    }


def test_a_new_client_costs_four_requests(bench: Bench, simulator: Simulator) -> None:
    bench.one(desired())
    guardrail = f"/guardrails/{bench.guardrail()['id']}/assignments/keys"
    assert [f"{row.method} {row.path}" for row in simulator.requests] == [
        "GET /keys",
        "GET /guardrails",
        "GET /guardrails/assignments/keys",
        "POST /guardrails",
        "POST /keys",
        f"POST {guardrail}",
        f"GET {guardrail}",
    ]


def test_a_long_name_of_an_organization_fits(bench: Bench) -> None:
    bench.one(desired(organization="ü" * 1500))
    assert len(bench.guardrail()["description"]) == 1000


def test_a_second_run_changes_nothing_and_writes_nothing(
    bench: Bench, simulator: Simulator
) -> None:
    first = bench.one(desired())
    before = files(bench.folder)
    simulator.clear_log()
    second = bench.one(desired())
    assert second["changed"] is False
    assert second["before"] == second["after"] == first["after"]
    assert bench.writes() == []
    assert len(simulator.requests) == 3
    assert files(bench.folder) == before


def populate(bench: Bench, count: int) -> list[str]:
    """A fleet of so many clients, as earlier runs left it."""
    names = [f"c{number:03}" for number in range(count)]
    for number, client in enumerate(names):
        fence = {"name": f"mai/{FLEET}/{client}", "allowed_models": [MINI_SLUG, GPT_SLUG]}
        guardrail = bench.quietly("POST", "/guardrails", fence)["data"]["id"]
        name = str(KeyName(FLEET, client, 1, f"{number:08x}"))
        body = {"name": name, "limit": 100, "limit_reset": "monthly"}
        key = bench.quietly("POST", "/keys", body)["data"]["hash"]
        path = f"/guardrails/{guardrail}/assignments/keys"
        bench.quietly("POST", path, {"key_hashes": [key]})
        record = dataclasses.replace(bench.record(client), key_hash=key, generation=1)
        bench.store.save_record(record)
    return names


@pytest.mark.parametrize(("clients", "requests"), [(3, 1 + 1 + 1), (300, 4 + 3 + 3)])
def test_an_unchanged_fleet_costs_its_pages_and_no_decryption(
    bench: Bench, simulator: Simulator, clients: int, requests: int
) -> None:
    """300 keys fill three pages; that there is no fourth has to be asked for."""
    names = populate(bench, clients)
    before = files(bench.folder)
    rows = bench.run(*(desired(name) for name in names))
    assert not any(row["changed"] or row.get("failed") for row in rows.values())
    assert len(simulator.requests) == requests
    assert files(bench.folder) == before


def test_clients_on_later_pages_are_found(bench: Bench, simulator: Simulator) -> None:
    """The oldest keys and guardrails lie on the last pages, disabled ones among them."""
    bench.run(desired(), desired("beta", state="suspended"))
    for number in range(130):
        bench.quietly("POST", "/keys", {"name": f"other {number}"})
        bench.quietly("POST", "/guardrails", {"name": f"other {number}"})
    simulator.clear_log()
    rows = bench.run(desired(), desired("beta", state="suspended"))
    assert [row["changed"] for row in rows.values()] == [False, False]
    assert bench.writes() == []


# --- what is not ours ---------------------------------------------------------------------------

STRANGERS = [
    "somebody",
    "mai",
    f"mai/{FLEET}",
    f"mai/{FLEET}/acme",
    f"mai/{FLEET}2/acme/g1/01234567",
    "mai/other/acme/g1/01234567",
    f"xmai/{FLEET}/acme/g1/01234567",
    f"mai/{FLEET}/acme/g1/01234567x",
    f"mai/{FLEET}/acme/g1/0123456",
    f"mai/{FLEET}/acme/g1/0123456G",
    f"mai/{FLEET}/acme/g0/01234567",
    f"mai/{FLEET}/acme/1/01234567",
    f"mai/{FLEET}/ACME/g1/01234567",
    f"mai/{FLEET}/acme/g1/01234567\n",
    f"mai/{FLEET}/acme/extra/g1/01234567",
]


def test_keys_and_guardrails_without_the_fleets_mark_are_never_touched(bench: Bench) -> None:
    for name in STRANGERS:
        bench.quietly("POST", "/keys", {"name": name, "limit": 1})
        if name != f"mai/{FLEET}/acme":
            bench.quietly("POST", "/guardrails", {"name": name, "allowed_models": [FLASH_SLUG]})
    foreign = [dict(row) for row in bench.simulator.keys]
    fences = [dict(row) for row in bench.simulator.guardrails]
    bench.one(desired())
    bench.one(desired(limit=5, slugs=[FLASH_SLUG]))
    bench.one(desired(state="suspended"))
    bench.one(desired(replace=True))
    bench.one(desired(state="absent"))
    assert bench.simulator.keys == foreign
    assert bench.simulator.guardrails == fences


def test_another_fleet_of_the_same_account_sees_its_own(bench: Bench) -> None:
    bench.one(desired())
    account = Account.read(bench.api(), "other")
    assert (account.keys, account.guardrails, account.clients()) == ({}, {}, set())
    assert Account.read(bench.api(), FLEET).clients() == {"acme"}


# --- drift --------------------------------------------------------------------------------------

DRIFT: list[Row] = [
    {"limit": 5},
    {"limit": 0},
    {"limit": None},
    {"limit": 100.01},
    {"limit_reset": "daily"},
    {"limit_reset": None},
    {"disabled": True},
    {"limit": None, "limit_reset": None, "disabled": True},
]


@pytest.mark.parametrize("drift", DRIFT, ids=repr)
def test_what_somebody_changed_is_put_right_with_one_request(bench: Bench, drift: Row) -> None:
    bench.one(desired())
    sound = bench.key()
    bench.quietly("PATCH", f"/keys/{sound['hash']}", drift)
    bench.simulator.clear_log()
    row = bench.one(desired())
    assert row["changed"]
    assert bench.writes() == [f"PATCH /keys/{sound['hash']}"]
    assert {**bench.key(), "updated_at": None} == {**sound, "updated_at": None}
    assert row["after"]["spending_limit"] == 100
    assert not bench.one(desired())["changed"]


@pytest.mark.parametrize(
    ("changes", "limit", "reset"),
    [
        ({"limit": 5.5}, 5.5, "monthly"),
        ({"limit": 0}, 0, "monthly"),
        ({"limit": None}, None, None),
        ({"limit_reset": "daily"}, 100, "daily"),
        ({"limit_reset": "never"}, 100, None),
        ({"limit": 0, "limit_reset": "never"}, 0, None),
    ],
    ids=repr,
)
@pytest.mark.parametrize("new", [True, False])
def test_what_the_inventory_says(
    bench: Bench, changes: Row, limit: float | None, reset: str | None, new: bool
) -> None:
    if not new:
        bench.one(desired())
    row = bench.one(desired(**changes))
    assert row["changed"]
    assert (bench.key()["limit"], bench.key()["limit_reset"]) == (limit, reset)
    assert row["after"]["spending_limit"] == ("unlimited" if limit is None else limit)
    again = bench.one(desired(**changes))
    assert (again["changed"], again["before"]) == (False, row["after"])
    assert bench.one(desired())["changed"]
    assert not bench.one(desired())["changed"]


@pytest.mark.parametrize("word", ["daily", "never"])
def test_without_a_cap_there_is_nothing_to_reset(bench: Bench, word: str) -> None:
    """Whatever the API keeps as limit_reset of a key without a limit is no difference."""
    bench.one(desired(limit=None, limit_reset=word))
    for reset in ("weekly", None):
        bench.quietly("PATCH", f"/keys/{bench.key()['hash']}", {"limit_reset": reset})
        assert not bench.one(desired(limit=None, limit_reset=word))["changed"]


# --- the fence ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "slugs",
    [
        [GPT_SLUG, MINI_SLUG],
        [MINI_SLUG, GPT_SLUG, MINI_SLUG],
        [GPT_SLUG, MINI_SLUG, GPT_SLUG],
    ],
)
def test_neither_order_nor_repetition_is_a_difference(bench: Bench, slugs: list[str]) -> None:
    """An alias and its model have one slug: an allowlist with both has it twice."""
    bench.one(desired())
    assert not bench.one(desired(slugs=slugs))["changed"]
    bench.one(desired("beta", slugs=slugs))
    assert not bench.one(desired("beta", slugs=slugs))["changed"]
    assert sorted(bench.guardrail("beta")["allowed_models"]) == [MINI_SLUG, GPT_SLUG]
    bench.simulator.clear_log()
    bench.one(desired(slugs=slugs, limit=5))
    assert bench.writes() == [f"PATCH /keys/{bench.key()['hash']}"]


def test_what_a_dashboard_stores_by_id_is_no_difference(bench: Bench) -> None:
    bench.one(desired())
    path = f"/guardrails/{bench.guardrail()['id']}"
    bench.quietly("PATCH", path, {"allowed_models": [GPT, "openai/gpt-4o-mini"]})
    assert not bench.one(desired())["changed"]


@pytest.mark.parametrize(
    "slugs",
    [
        [MINI_SLUG],
        [MINI_SLUG, GPT_SLUG, FLASH_SLUG],
        [FLASH_SLUG],
        [BATCH_SLUG, GPT_SLUG],
        [MINI_SLUG, BATCH_SLUG, GPT_SLUG],
    ],
)
def test_another_allowlist(bench: Bench, slugs: list[str]) -> None:
    """A model and its variant are two models: neither stands for the other."""
    bench.one(desired())
    bench.simulator.clear_log()
    row = bench.one(desired(slugs=slugs))
    assert bench.writes() == [f"PATCH /guardrails/{bench.guardrail()['id']}"]
    assert bench.guardrail()["allowed_models"] == slugs
    assert row["after"]["models"] == sorted(slugs)
    assert not bench.one(desired(slugs=slugs))["changed"]


@pytest.mark.parametrize("allowed", [None, [FLASH_SLUG]])
def test_a_guardrail_that_somebody_changed(bench: Bench, allowed: list[str] | None) -> None:
    bench.one(desired())
    path = f"/guardrails/{bench.guardrail()['id']}"
    bench.quietly("PATCH", path, {"allowed_models": allowed})
    row = bench.one(desired())
    assert (row["changed"], row["before"]["models"]) == (True, allowed)
    assert bench.guardrail()["allowed_models"] == [MINI_SLUG, GPT_SLUG]


def test_a_guardrail_that_somebody_deleted(bench: Bench) -> None:
    bench.one(desired())
    bench.quietly("DELETE", f"/guardrails/{bench.guardrail()['id']}")
    row = bench.one(desired())
    assert (row["changed"], row["before"]["fenced"]) == (True, False)
    assigned(bench)
    assert not bench.one(desired())["changed"]


@pytest.mark.parametrize("to_another", [False, True])
def test_an_assignment_that_somebody_took_away(bench: Bench, to_another: bool) -> None:
    bench.one(desired())
    key, fence = bench.key()["hash"], bench.guardrail()["id"]
    if to_another:
        fence = bench.quietly("POST", "/guardrails", {"name": "wide"})["data"]["id"]
        bench.quietly("POST", f"/guardrails/{fence}/assignments/keys", {"key_hashes": [key]})
    else:
        path = f"/guardrails/{fence}/assignments/keys/remove"
        bench.quietly("POST", path, {"key_hashes": [key]})
    bench.simulator.clear_log()
    row = bench.one(desired())
    assert (row["changed"], row["before"]["fenced"], row["after"]["fenced"]) == (True, False, True)
    assert bench.writes() == [f"POST /guardrails/{bench.guardrail()['id']}/assignments/keys"]
    assigned(bench)
    assert not bench.one(desired())["changed"]


def test_an_assignment_that_does_not_hold_is_an_error(bench: Bench, simulator: Simulator) -> None:
    """As when somebody else's automation takes it away at once."""
    bench.one(desired())
    fence = bench.guardrail()["id"]
    remove = f"/guardrails/{fence}/assignments/keys/remove"
    bench.quietly("POST", remove, {"key_hashes": [bench.key()["hash"]]})

    def take_away() -> None:
        bench.quietly("POST", remove, {"key_hashes": [bench.key()["hash"]]})

    with bench.watching("GET", f"/guardrails/{fence}/assignments/keys", take_away):
        failure = bench.failure(desired())
    assert "does not list it" in failure["what"]
    assert bench.one(desired())["changed"]
    assigned(bench)


def test_the_last_model_left_and_the_guardrail_stays(bench: Bench) -> None:
    """A guardrail cannot be empty, and one with models that are gone is refused."""
    bench.one(desired())
    bench.simulator.clear_log()
    row = bench.one(desired(slugs=[]))
    assert (row["changed"], row["after"]["models"]) == (False, [MINI_SLUG, GPT_SLUG])
    row = bench.one(desired(slugs=[], limit=7))
    assert bench.writes() == [f"PATCH /keys/{bench.key()['hash']}"]
    assert not bench.one(desired(slugs=[], limit=7))["changed"]


def test_nothing_is_made_for_a_client_without_a_model(bench: Bench) -> None:
    failure = bench.failure(desired(slugs=[]))
    assert "nothing to allow" in failure["what"]
    assert bench.writes() == []
    assert not bench.folder.exists()


# --- suspended ----------------------------------------------------------------------------------


def test_suspended_and_back(bench: Bench) -> None:
    bench.one(desired())
    secret = bench.secret()
    bench.simulator.clear_log()
    row = bench.one(desired(state="suspended"))
    assert (row["before"]["disabled"], row["after"]["disabled"]) == (False, True)
    assert bench.key()["disabled"]
    assert not bench.one(desired(state="suspended"))["changed"]
    assert bench.one(desired())["changed"]
    assert not bench.key()["disabled"]
    assert bench.writes() == [f"PATCH /keys/{bench.key()['hash']}"] * 2
    assert bench.secret() == secret
    assigned(bench)


def test_a_new_client_may_be_suspended(bench: Bench) -> None:
    bench.one(desired(state="suspended"))
    assert bench.key()["disabled"]
    assigned(bench)
    assert not bench.one(desired(state="suspended"))["changed"]


def test_suspending_does_not_wait_for_a_fence(bench: Bench) -> None:
    bench.one(desired())
    failure = bench.failure(desired(state="suspended", slugs=["nobody/nothing"]))
    assert "Unknown model" in failure["what"]
    assert bench.key()["disabled"]


def test_resuming_waits_for_the_fence(bench: Bench) -> None:
    bench.one(desired(state="suspended"))
    bench.failure(desired(slugs=["nobody/nothing"]))
    assert bench.key()["disabled"]


def test_a_suspended_client_has_no_older_key_to_go_on_with(bench: Bench) -> None:
    """The new key did not reach its server, so the old one is not retired yet."""
    bench.one(desired())
    bench.one(desired(replace=True))
    assert [key["disabled"] for key in bench.living()] == [False, False]
    assert bench.one(desired(state="suspended"))["changed"]
    assert [key["disabled"] for key in bench.living()] == [True, True]
    assert not bench.one(desired(state="suspended"))["changed"]
    bench.quietly("PATCH", f"/keys/{bench.living()[0]['hash']}", {"disabled": False})
    foretold = bench.one(desired(state="suspended"), check=True)
    row = bench.one(desired(state="suspended"))
    assert row == foretold
    assert (row["changed"], row["before"]["disabled"]) == (True, False)
    assert [key["disabled"] for key in bench.living()] == [True, True]


@pytest.mark.parametrize("known", [True, False])
def test_suspended_disables_a_key_that_is_none_of_the_clients_any_more(
    bench: Bench, known: bool
) -> None:
    """Whoever has its secret: a stray key, or the only one whose secret is lost."""
    bench.one(desired())
    if known:
        bench.quietly("POST", "/keys", {"name": f"mai/{FLEET}/acme/g7/01234567", "limit": 3})
        assert "is alive" in bench.failure(desired(state="suspended"))["what"]
        assert bench.living()[1]["limit"] == 3
    else:
        lose_secret(bench)
        failure = bench.failure(desired(state="suspended", held=""))
        assert "neither in the store nor on the server" in failure["what"]
    assert all(key["disabled"] for key in bench.living())


def test_suspended_and_replaced_in_one_run(bench: Bench) -> None:
    bench.one(desired())
    bench.one(desired(state="suspended", replace=True))
    assert [key["disabled"] for key in bench.living()] == [True, True]


# --- absent -------------------------------------------------------------------------------------


def test_absent(bench: Bench) -> None:
    bench.one(desired())
    bench.one(desired("beta"))
    kept = {"admin_password": "kept", "webui_secret_key": "too"}
    bench.store.save_secrets("acme", {**bench.store.secrets("acme"), **kept})
    bench.simulator.clear_log()
    row = bench.one(desired(state="absent"))
    assert (row["changed"], row["after"]["key"], row["after"]["models"]) == (True, None, None)
    assert bench.living() == []
    assert [one["name"] for one in bench.simulator.guardrails] == [f"mai/{FLEET}/beta"]
    assert bench.store.secrets("acme") == kept
    assert bench.record("acme").key_hash == ""
    before = files(bench.folder)
    bench.simulator.clear_log()
    assert not bench.one(desired(state="absent"))["changed"]
    assert bench.writes() == []
    assert files(bench.folder) == before


def test_absent_takes_all_the_clients_keys_the_disabled_too(bench: Bench) -> None:
    bench.one(desired())
    bench.one(desired(replace=True))
    bench.quietly("PATCH", f"/keys/{bench.living()[0]['hash']}", {"disabled": True})
    bench.quietly("POST", "/keys", {"name": f"mai/{FLEET}/acme/g9/01234567"})
    assert len(bench.living()) == 3
    bench.one(desired(state="absent"))
    assert bench.living() == []
    assert bench.record("acme").former == []


def test_a_client_that_never_was_is_absent_already(bench: Bench) -> None:
    assert not bench.one(desired(state="absent"))["changed"]
    assert bench.writes() == []
    assert not bench.folder.exists()


def test_a_removal_that_was_cut_off_is_completed(bench: Bench, simulator: Simulator) -> None:
    bench.one(desired())
    simulator.fault(method="DELETE", path="/guardrails/.*", status=500, times=0)
    assert "500" in bench.failure(desired(state="absent"))["what"]
    assert bench.living() == []
    simulator.clear_faults()
    assert bench.one(desired(state="absent"))["changed"]
    assert simulator.guardrails == []
    assert bench.secret() is None


def test_present_again_after_absent(bench: Bench) -> None:
    bench.one(desired())
    first = bench.secret()
    bench.one(desired(state="absent"))
    bench.one(desired())
    assert bench.record("acme").generation == 2
    assert bench.secret() not in (None, first)
    assigned(bench)


# --- keys without a secret, secrets without a record --------------------------------------------


def lose_secret(bench: Bench) -> None:
    (bench.folder / "secrets" / "acme.yml").unlink()


def lose_record(bench: Bench) -> None:
    (bench.folder / "state" / "acme.json").unlink()


def untouched(bench: Bench, act: Callable[[], Any]) -> Any:
    """What ``act`` gives; it writes neither at OpenRouter nor on the disk."""
    bench.simulator.clear_log()
    before = files(bench.folder)
    result = act()
    assert bench.writes() == []
    assert files(bench.folder) == before
    return result


@pytest.mark.parametrize(("held", "record"), [("", True), ("", False), (None, False)])
def test_a_key_whose_secret_is_in_no_store(bench: Bench, held: str | None, record: bool) -> None:
    bench.one(desired())
    name = bench.key()["name"]
    lose_secret(bench)
    if not record:
        lose_record(bench)
    failure = untouched(bench, lambda: bench.failure(desired(held=held)))
    assert name in failure["what"]
    assert "neither in the store nor on the server" in failure["what"]
    assert failure["where"] == "client acme"
    assert "-e fleet_replace_keys=acme" in failure["todo"]


def test_it_is_replaced_when_that_is_asked_for(bench: Bench) -> None:
    bench.one(desired())
    old = bench.key()["hash"]
    lose_secret(bench)
    row = bench.one(desired(held="", replace=True))
    first, second = bench.living()
    record = bench.record("acme")
    assert row["changed"]
    assert first["hash"] == old
    assert not first["disabled"]
    assert sha256(bench.secret() or "") == second["hash"] == record.key_hash
    assert (record.generation, [one.hash for one in record.former]) == (2, [old])
    assert first["guardrail_id"] == second["guardrail_id"] == bench.guardrail()["id"]
    again = untouched(bench, lambda: bench.one(desired()))
    assert (again["changed"], again["warnings"]) == (False, [])


def test_a_key_can_be_replaced_at_any_time(bench: Bench) -> None:
    bench.store.save_secrets("acme", {"admin_password": "kept"})
    bench.one(desired())
    first = bench.record("acme")
    bench.store.save_record(dataclasses.replace(first, proven="0123"))
    bench.one(desired(replace=True))
    hashes = [key["hash"] for key in bench.living()]
    record = bench.record("acme")
    assert (record.key_hash, record.generation) == (hashes[1], 2)
    assert [one.hash for one in record.former] == hashes[:1]
    assert record.proven == ""
    # It was begun and is not finished: asked for once more, it goes on with the same key.
    untouched(bench, lambda: bench.one(desired(replace=True)))
    assert bench.store.secrets("acme")["admin_password"] == "kept"


def test_a_record_that_was_lost_is_made_anew_from_the_secret(bench: Bench) -> None:
    bench.one(desired())
    bench.one(desired(replace=True))
    key = bench.living()[1]
    lose_record(bench)
    bench.quietly("DELETE", f"/keys/{bench.living()[0]['hash']}")
    bench.simulator.clear_log()
    row = bench.one(desired())
    assert bench.writes() == []
    assert not row["changed"]
    assert row["warnings"] == [f"the record did not know the key that is stored, {key['name']}"]
    record = bench.record("acme")
    assert (record.key_hash, record.generation) == (key["hash"], 2)
    assert bench.one(desired())["warnings"] == []


def test_a_secret_that_came_back_of_an_older_key(bench: Bench) -> None:
    """Recovered from a server that the newer key never reached. It must not be retired then."""
    bench.one(desired())
    old = bench.store.secrets("acme")
    bench.one(desired(replace=True))
    bench.store.save_secrets("acme", old)
    first, second = bench.living()
    row = bench.one(desired(held=first["hash"]))
    assert first["name"] in row["warnings"][0]
    record = bench.record("acme")
    assert record.key_hash == first["hash"]
    assert [one.hash for one in record.former] == [second["hash"]]


def test_a_key_deleted_in_the_dashboard_gets_a_successor(bench: Bench) -> None:
    bench.one(desired())
    gone = bench.key()["hash"]
    bench.quietly("DELETE", f"/keys/{gone}")
    row = bench.one(desired())
    assert (row["changed"], row["before"]["key"]) == (True, None)
    record = bench.record("acme")
    # As long as its secret is kept, the record knows whose that is.
    assert (record.generation, [one.hash for one in record.former]) == (2, [gone])
    assert sha256(bench.secret() or "") == bench.key()["hash"] == record.key_hash
    assigned(bench)


def test_a_key_that_is_only_not_listed_gets_none(bench: Bench) -> None:
    """Moved to another workspace, or missed because other keys came and went between two pages."""
    bench.one(desired())
    workspace = bench.simulator.add_workspace("Elsewhere", "elsewhere")
    key = bench.simulator.engine.state.keys[bench.key()["hash"]]
    key.workspace_id = workspace
    failure = untouched(bench, lambda: bench.failure(desired()))
    assert "not listed among the keys of the default workspace" in failure["what"]
    assert f"sha256:{key.hash[:12]}" in failure["what"]
    bench.one(desired(replace=True))
    assert [one.hash for one in bench.record("acme").former] == [key.hash]


def test_a_client_leaves_no_key_behind_that_is_only_not_listed(bench: Bench) -> None:
    bench.one(desired())
    bench.one(desired(replace=True))
    record = bench.record("acme")
    workspace = bench.simulator.add_workspace("Elsewhere", "elsewhere")
    hashes = [record.key_hash, *(former.hash for former in record.former)]
    assert len(hashes) == 2
    for key_hash in hashes:
        bench.simulator.engine.state.keys[key_hash].workspace_id = workspace
    assert bench.one(desired(state="absent"))["changed"]
    assert not set(hashes) & set(bench.simulator.engine.state.keys)
    leaving = bench.record("acme").offboarding
    assert leaving and leaving.refused
    assert not bench.one(desired(state="absent"))["changed"]


def test_a_suspended_client_has_no_key_that_is_only_not_listed(bench: Bench) -> None:
    bench.one(desired())
    bench.one(desired(replace=True))
    (former,) = bench.record("acme").former
    workspace = bench.simulator.add_workspace("Elsewhere", "elsewhere")
    keys = bench.simulator.engine.state.keys
    keys[former.hash].workspace_id = workspace
    bench.one(desired(state="suspended"))
    assert all(key.disabled for key in keys.values())


def test_another_key_of_the_client_is_an_error_and_left_alone(bench: Bench) -> None:
    bench.one(desired())
    stray = f"mai/{FLEET}/acme/g7/01234567"
    bench.quietly("POST", "/keys", {"name": stray})
    failure = untouched(bench, lambda: bench.failure(desired()))
    assert stray in failure["what"]
    assert "fleet_replace_keys=acme" in failure["todo"]
    bench.one(desired(replace=True))
    assert bench.record("acme").generation == 8


def test_the_secret_of_another_key_is_not_taken_for_the_clients(bench: Bench) -> None:
    bench.one(desired())
    bench.one(desired("beta"))
    lose_record(bench)
    bench.store.save_secrets("acme", bench.store.secrets("beta"))
    failure = untouched(bench, lambda: bench.failure(desired()))
    assert "neither in the store nor on the server" in failure["what"]


# --- check mode ---------------------------------------------------------------------------------


def nothing(_bench: Bench) -> None:
    pass


def there(bench: Bench) -> None:
    bench.one(desired())


def unfenced(bench: Bench) -> None:
    bench.one(desired())
    bench.quietly("DELETE", f"/guardrails/{bench.guardrail()['id']}")


def recordless(bench: Bench) -> None:
    bench.one(desired())
    lose_record(bench)


def keyless(bench: Bench) -> None:
    bench.one(desired())
    bench.quietly("DELETE", f"/keys/{bench.key()['hash']}")


def replaced(bench: Bench) -> None:
    bench.one(desired())
    bench.one(desired(replace=True))


CHECKS: list[tuple[Callable[[Bench], None], Row]] = [
    (nothing, {}),
    (nothing, {"state": "suspended", "limit": None}),
    (nothing, {"state": "absent"}),
    (nothing, {"slugs": []}),
    (there, {}),
    (there, {"limit": 0, "limit_reset": "never"}),
    (there, {"limit": None}),
    (there, {"slugs": [FLASH_SLUG, FLASH_SLUG]}),
    (there, {"slugs": []}),
    (there, {"state": "suspended"}),
    (there, {"state": "absent"}),
    (there, {"replace": True}),
    (there, {"held": ""}),
    (unfenced, {}),
    (recordless, {}),
    (recordless, {"state": "suspended"}),
    (keyless, {}),
    (replaced, {"state": "suspended"}),
    (replaced, {"state": "suspended", "replace": True}),
    (replaced, {"state": "absent"}),
]


@pytest.mark.parametrize(
    ("before", "changes"), CHECKS, ids=[f"{one.__name__}-{changes}" for one, changes in CHECKS]
)
def test_check_mode_writes_nothing_and_tells_the_truth(
    bench: Bench, before: Callable[[Bench], None], changes: Row
) -> None:
    before(bench)
    wanted = desired(**changes)
    foretold = untouched(bench, lambda: bench.run(wanted, check=True)["acme"])
    assert not [row for row in bench.simulator.requests if row.method != "GET"]
    real = bench.run(wanted)["acme"]
    assert {**foretold, "error": None} == {**real, "error": None} or after_a_create(foretold, real)


def after_a_create(foretold: Row, real: Row) -> bool:
    """Equal but for the fingerprint of a key that did not exist yet."""
    assert foretold["after"]["key"] == "a new key"
    assert real["after"]["key"].startswith("sha256:")
    key = {"key": None}
    return {**foretold, "after": {**foretold["after"], **key}} == {
        **real,
        "after": {**real["after"], **key},
    }


# --- many at once -------------------------------------------------------------------------------


def test_many_clients_at_once_lose_nothing(bench: Bench, simulator: Simulator) -> None:
    simulator.fault(method="POST", path="/keys", delay=0.02, times=0)
    names = [f"c{number:02}" for number in range(24)]
    rows = bench.run(*(desired(name, limit=float(index)) for index, name in enumerate(names)))
    assert list(rows) == names
    assert all(row["changed"] and not row.get("failed") for row in rows.values())
    for index, name in enumerate(names):
        key, record = bench.key(name), bench.record(name)
        assert key["limit"] == index
        assert key["hash"] == record.key_hash == sha256(bench.secret(name) or "")
        assert key["guardrail_id"] == bench.guardrail(name)["id"]
    rows = bench.run(*(desired(name, limit=float(index)) for index, name in enumerate(names)))
    assert not any(row["changed"] for row in rows.values())


def test_one_clients_failure_is_its_own(bench: Bench) -> None:
    rows = bench.run(desired(), desired("beta", slugs=["nobody/nothing"]), desired("gamma"))
    assert [name for name, row in rows.items() if row.get("failed")] == ["beta"]
    failure = rows["beta"]["failure"]
    assert "Unknown model: nobody/nothing" in failure["what"]
    assert failure["where"].endswith("POST " + bench.simulator.url + "/guardrails")
    assert bench.living("beta") == []
    for name in ("acme", "gamma"):
        assert bench.key(name)["guardrail_id"] == bench.guardrail(name)["id"]


def test_a_damaged_secrets_file_is_one_clients_failure(bench: Bench) -> None:
    (bench.folder / "secrets").mkdir(parents=True)
    (bench.folder / "secrets" / "beta.yml").write_text("in clear")
    rows = bench.run(desired(), desired("beta"), desired("gamma"))
    assert [name for name, row in rows.items() if row.get("failed")] == ["beta"]
    assert bench.living("beta") == []


# --- what is wrong with the whole ---------------------------------------------------------------


@pytest.mark.parametrize("path", ["/keys", "/guardrails", "/guardrails/assignments/keys"])
@pytest.mark.parametrize("status", [401, 402, 403, 500])
def test_an_account_that_cannot_be_read_stops_the_run(
    bench: Bench, simulator: Simulator, path: str, status: int
) -> None:
    simulator.fault(method="GET", path=path, status=status, times=0)
    with pytest.raises(ApiError) as raised:
        bench.run(desired())
    assert raised.value.status == status
    assert bench.writes() == []
    assert not bench.folder.exists()


def many(count: int = 40) -> list[Any]:
    return [desired(f"c{number:02}") for number in range(count)]


@pytest.mark.parametrize("status", [401, 402, 429])
def test_what_concerns_all_ends_it_for_those_that_wait(
    bench: Bench, simulator: Simulator, status: int
) -> None:
    simulator.fault(method="POST", path="/guardrails", status=status, times=0, retry_after=999)
    rows = bench.run(*many())
    assert all(row["failed"] for row in rows.values())
    assert {row["failure"]["what"].partition(":")[0] for row in rows.values()} == {f"HTTP {status}"}
    assert len(bench.writes()) <= 4
    simulator.clear_faults()
    assert not any(row.get("failed") for row in bench.run(*many(4)).values())


def test_a_network_that_is_gone_ends_it_too(bench: Bench, simulator: Simulator) -> None:
    simulator.fault(method="POST", path="/guardrails", cut="before", times=0)
    rows = bench.run(*many())
    assert all("no answer" in row["failure"]["what"] for row in rows.values())
    assert len(bench.writes()) <= 8


def test_an_answer_now_and_then_lost_does_not(bench: Bench, simulator: Simulator) -> None:
    """Every fourth one is lost: between two of them a worker has got another client done."""
    for number in range(1, 6):
        simulator.fault(method="POST", path="/guardrails", cut="before", skip=3 * number)
    rows = bench.run(*many(24))
    assert sum(bool(row.get("failed")) for row in rows.values()) == 5


# --- secrets ------------------------------------------------------------------------------------


def test_no_result_error_or_object_shows_a_secret(bench: Bench, simulator: Simulator) -> None:
    first = bench.run(desired())
    secret = bench.secret() or ""
    simulator.fault(method="PATCH", path="/keys/.*", status=400, message=f"bad {secret}")
    second = bench.run(desired(limit=5))
    lose_secret(bench)
    third = bench.run(desired(held=""))
    fourth = bench.run(desired(held="", replace=True))
    secrets = (secret, bench.secret() or "", simulator.management_key)
    account = Account.read(bench.api(), FLEET)
    record: Record = bench.record("acme")
    seen = repr([first, second, third, fourth, account, record, bench.store, bench.api()])
    state = (bench.folder / "state" / "acme.json").read_text(encoding="utf-8")
    assert second["acme"]["failed"]
    for hidden in secrets:
        assert hidden.startswith("sk-or-v1-")
        assert hidden not in seen
        assert hidden not in state


# --- offboarding ---------------------------------------------------------------------------------


def test_a_key_is_deleted_when_it_is_refused_for_certain(
    bench: Bench, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Disabled, refused, deleted: each with its line in the journal."""
    bench.one(desired())
    monkeypatch.setattr(engine, "_PATIENCE", 0.0)
    simulator.fault(method="GET", path="/key", status=503, times=0, retry_after=0)
    failure = bench.failure(desired(state="absent"))
    assert "503" in failure["what"]
    assert [key["disabled"] for key in bench.living()] == [True]
    simulator.clear_faults()
    bench.one(desired(state="absent"))
    told = [line["what"] for line in bench.store.journal.verify("acme").lines]
    assert told[-4:] == ["change key", "prove refused", "delete key", "delete guardrail"]


def test_a_key_that_works_although_it_is_disabled_is_kept(
    bench: Bench, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "_PATIENCE", 0.0)
    simulator.configure(enforcement_delay=60)
    bench.one(desired())
    failure = bench.failure(desired(state="absent"))
    assert "takes it still" in failure["what"]
    assert len(bench.living()) == 1
    assert bench.secret()
