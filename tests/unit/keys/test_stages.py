# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""fleet_recover, fleet_keys and fleet_proof: what they do to a run, and with each other."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest
from unit.keys.bench import FLEET, GPT, GPT_SLUG, MINI, MINI_SLUG, Bench, Row, files
from unit.keys.stages import Stages


@pytest.fixture
def stages(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Stages:
    monkeypatch.setenv("OPENROUTER_MANAGEMENT_KEY", bench.simulator.management_key)
    return Stages(bench)


def untouched(stages: Stages, act: Callable[[], Any]) -> None:
    """``act`` writes neither at OpenRouter nor on the disk."""
    stages.bench.simulator.clear_log()
    before = files(stages.bench.folder)
    act()
    assert stages.bench.writes() == []
    assert files(stages.bench.folder) == before


def lose(stages: Stages, folder: str, name: str = "acme") -> None:
    suffix = "yml" if folder == "secrets" else "json"
    (stages.bench.folder / folder / f"{name}.{suffix}").unlink()


# --- a whole run --------------------------------------------------------------------------------


def test_a_run_and_a_second_one(stages: Stages) -> None:
    stages.client("acme")
    stages.client("beta", server="server2", spending_limit="unlimited")
    assert stages.run()
    for name in ("acme", "beta"):
        row, record = stages.row(name), stages.record(name)
        assert row["failure"] is None
        assert [gate["gate"] for gate in row["gates"]] == ["key", "cap", "allowlist", "fence"]
        assert all(gate["passed"] for gate in row["gates"])
        assert record.key_hash == stages.bench.key(name)["hash"]
        assert record.models == {MINI: MINI_SLUG, GPT: GPT_SLUG}
        assert record.proven
    assert stages.row("beta")["changed"] == ["keys"]
    untouched(stages, stages.run)
    assert not any(result["changed"] for result in stages.results)


def test_a_second_run_makes_the_same_free_requests(stages: Stages) -> None:
    for name in ("acme", "beta", "gamma"):
        stages.client(name)
    stages.run()
    stages.bench.simulator.clear_log()
    stages.run()
    asked = [f"{row.method} {row.path}" for row in stages.bench.simulator.requests]
    account = ["GET /key", "GET /credits", "GET /models"]
    lists = ["GET /keys", "GET /guardrails", "GET /guardrails/assignments/keys"]
    assert asked[:6] == account + lists
    assert sorted(asked[6:]) == sorted(["GET /key", "GET /models/user"] * 3)


def test_the_diff_shows_fingerprints(stages: Stages) -> None:
    stages.client("acme")
    stages.keys()
    (diff,) = stages.results[-1]["diff"]
    assert diff["before_header"] == "client acme"
    assert diff["before"].startswith("key: \n")
    fingerprint = f"sha256:{stages.bench.key()['hash'][:12]}"
    assert diff["after"] == (
        f"key: {fingerprint}\nspending_limit: 100.0\nlimit_reset: monthly\ndisabled: False\n"
        f"ends: never\nmodels:\n  - {MINI_SLUG}\n  - {GPT_SLUG}\nfenced: True\n"
    )


def test_check_mode_writes_nothing_and_foretells(stages: Stages) -> None:
    stages.client("acme")
    stages.client("beta", state="suspended")
    untouched(stages, lambda: stages.run(check=True))
    assert not stages.bench.folder.exists()
    foretold = stages.state
    stages.keys()
    for name in ("acme", "beta"):
        assert stages.row(name)["changed"] == foretold["clients"][name]["changed"] == ["keys"]
    untouched(stages, lambda: stages.keys(check=True))
    assert [row["changed"] for row in stages.state["clients"].values()] == [[], []]


def test_whoever_failed_before_is_left_alone(stages: Stages) -> None:
    stages.client("acme")
    stages.client("beta", models=["openai/gpt-4o-min"])
    stages.run()
    failure = stages.row("beta")["failure"]
    assert failure["stage"] == "preflight"
    assert "openai/gpt-4o-mini" in failure["what"]
    assert stages.bench.living("beta") == []
    assert stages.bench.store.record("beta") is None
    assert stages.row("acme")["failure"] is None


def test_one_clients_failure_leaves_the_others_done(stages: Stages) -> None:
    for name in ("acme", "beta", "gamma"):
        stages.client(name)
    stages.bench.simulator.fault(method="POST", path="/guardrails", status=400, skip=1)
    stages.run()
    failed = {name: row["failure"] for name, row in stages.state["clients"].items()}
    ((name, failure),) = [(name, failure) for name, failure in failed.items() if failure]
    assert failure["stage"] == "keys"
    assert failure["where"].endswith("/guardrails")
    assert stages.bench.living(name) == []
    for other in {"acme", "beta", "gamma"} - {name}:
        assert stages.bench.key(other)["guardrail_id"] == stages.bench.guardrail(other)["id"]
        assert stages.record(other).proven


@pytest.mark.parametrize("status", [401, 402, 403])
def test_an_account_that_fails_after_preflight_stops_the_stage(stages: Stages, status: int) -> None:
    stages.client("acme")
    stages.once("fleet_preflight", select="")
    stages.bench.simulator.fault(method="GET", path="/guardrails", status=status)
    result = stages.attempt("fleet_keys", "server1", {})
    assert result["failed"]
    assert f"HTTP {status}" in result["msg"]
    assert stages.bench.writes() == []


def test_no_management_key(stages: Stages, monkeypatch: pytest.MonkeyPatch) -> None:
    stages.client("acme")
    stages.once("fleet_preflight", select="")
    monkeypatch.setenv("OPENROUTER_PROVISIONING_KEY", stages.bench.simulator.management_key)
    monkeypatch.delenv("OPENROUTER_MANAGEMENT_KEY")
    assert not stages.attempt("fleet_keys", "server1", {}).get("failed")
    monkeypatch.delenv("OPENROUTER_PROVISIONING_KEY")
    result = stages.attempt("fleet_keys", "server1", {})
    assert "OPENROUTER_MANAGEMENT_KEY" in result["msg"]


def test_a_management_key_with_a_line_break_is_not_quoted(
    stages: Stages, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages.client("acme")
    key = stages.bench.simulator.management_key
    monkeypatch.setenv("OPENROUTER_MANAGEMENT_KEY", f"{key}\n")
    result = stages.attempt("fleet_preflight", "server1", {"select": ""})
    assert "line break" in result["msg"]
    assert key not in json.dumps(result)


# --- what the inventory cannot see --------------------------------------------------------------


def test_a_client_that_only_openrouter_remembers_is_reported(stages: Stages) -> None:
    stages.client("acme")
    stages.client("beta")
    stages.client("gamma")
    stages.run()
    lose(stages, "state", "beta")
    lose(stages, "state", "gamma")
    del stages.clients["beta"], stages.clients["gamma"]
    stages.errors = [{"client": "gamma", "what": "a typo", "where": "", "todo": ""}]
    stages.bench.quietly("POST", "/guardrails", {"name": f"mai/{FLEET}/delta"})
    stages.bench.quietly("POST", "/guardrails", {"name": "mai/other/epsilon"})
    untouched(stages, stages.run)
    assert stages.state["unlisted"] == ["beta", "delta"]


def test_a_client_with_a_broken_file_is_not_taken_for_a_vanished_one(stages: Stages) -> None:
    """Otherwise a new client of the same company would look like the old one renamed."""
    stages.client("acme", organization="Company")
    stages.run()
    del stages.clients["acme"]
    stages.errors = [{"client": "acme", "what": "a typo", "where": "", "todo": ""}]
    stages.client("beta", organization="Company")
    stages.run()
    assert stages.row("beta")["failure"] is None
    assert stages.record("beta").key_hash


# --- models that leave --------------------------------------------------------------------------


def test_a_model_leaves_and_another_and_nobody_is_stopped(stages: Stages) -> None:
    stages.client("acme")
    stages.run()
    simulator = stages.bench.simulator
    simulator.expire_model(MINI)
    stages.run()
    assert stages.bench.guardrail()["allowed_models"] == [GPT_SLUG]
    assert stages.row()["failure"] is None
    assert "is dropped" in stages.row()["warnings"][0]
    for model in (GPT, "~openai/gpt-latest"):
        simulator.expire_model(model)
    for _run in range(2):
        simulator.clear_log()
        stages.run()
        assert stages.row()["failure"] is None
        assert "the last model" in stages.row()["warnings"][0]
        assert stages.bench.writes() == []
    assert stages.bench.guardrail()["allowed_models"] == [GPT_SLUG]
    assert stages.record().models == {MINI: MINI_SLUG, GPT: GPT_SLUG}
    simulator.restore_model(MINI)
    stages.run()
    assert stages.bench.guardrail()["allowed_models"] == [MINI_SLUG]
    assert stages.row()["failure"] is None


def test_two_models_leave_at_once(stages: Stages) -> None:
    stages.client("acme")
    stages.run()
    for model in (MINI, GPT, "~openai/gpt-latest"):
        stages.bench.simulator.expire_model(model)
    stages.bench.simulator.clear_log()
    stages.run()
    assert stages.row()["failure"] is None
    assert len(stages.row()["warnings"]) == 2
    assert stages.bench.writes() == []


# --- suspended and absent -----------------------------------------------------------------------


def test_suspended_and_back_and_absent(stages: Stages) -> None:
    stages.client("acme")
    stages.run()
    stages.client("acme", state="suspended")
    stages.run()
    assert [(gate["gate"], gate["passed"]) for gate in stages.row()["gates"]] == [("key", True)]
    assert stages.bench.key()["disabled"]
    stages.client("acme")
    stages.run()
    assert stages.row()["failure"] is None
    assert not stages.bench.key()["disabled"]
    stages.client("acme", state="absent")
    assert stages.run()
    assert stages.bench.living() == stages.bench.simulator.guardrails == []
    assert stages.record().state == "absent"
    untouched(stages, stages.run)
    assert not any(result["changed"] for result in stages.results)


def test_a_client_that_never_got_a_key_can_go(stages: Stages) -> None:
    """It is not reported as vanished for ever when its file is gone."""
    stages.client("acme")
    stages.bench.simulator.fault(method="POST", path="/keys", status=400)
    stages.run()
    assert stages.record().state == "present"
    stages.client("acme", state="absent")
    stages.run()
    assert stages.record().state == "absent"
    del stages.clients["acme"]
    stages.client("beta")
    stages.run()
    assert stages.state["unlisted"] == []


def test_a_client_that_is_absent_from_the_start_leaves_no_trace(stages: Stages) -> None:
    stages.client("acme", state="absent")
    assert not stages.run()
    assert [path for path in stages.bench.folder.rglob("*") if path.is_file()] == []


# --- recovery -----------------------------------------------------------------------------------


@pytest.mark.parametrize("record", [True, False])
def test_a_secret_that_only_the_server_has_is_put_back(stages: Stages, record: bool) -> None:
    stages.client("acme")
    stages.run()
    secret, key = stages.bench.secret() or "", stages.bench.key()
    stages.on_server("acme", secret)
    lose(stages, "secrets")
    if not record:
        lose(stages, "state")
    untouched(stages, lambda: stages.keys(check=True))
    foretold = stages.row()
    assert foretold["failure"] is None
    stages.run()
    row = stages.row()
    assert row["failure"] is None
    assert row["changed"] == foretold["changed"] == ["keys"]
    assert row["warnings"] == foretold["warnings"]
    assert "put back from the server" in row["warnings"][0]
    assert stages.bench.secret() == secret
    assert (stages.record().key_hash, stages.record().generation) == (key["hash"], 1)
    assert stages.bench.living() == [key]
    untouched(stages, stages.run)
    assert stages.row()["warnings"] == []


def test_a_secret_is_put_back_beside_others(stages: Stages) -> None:
    stages.client("acme")
    stages.run()
    secret = stages.bench.secret() or ""
    stages.on_server("acme", secret)
    stages.bench.store.save_secrets("acme", {"admin_password": "kept"})
    stages.run()
    assert stages.bench.store.secrets("acme") == {"admin_password": "kept", "api_key": secret}


def test_nobody_asks_a_server_while_nothing_is_lost(stages: Stages) -> None:
    stages.client("acme")
    stages.client("beta", server="server2")
    stages.run()
    assert stages.modules == ["server1 mai.fleet.instance_keys", "server2 mai.fleet.instance_keys"]
    stages.modules.clear()
    stages.run()
    assert stages.modules == []


def test_the_key_of_another_client_is_refused(stages: Stages) -> None:
    stages.client("acme")
    stages.client("beta")
    stages.run()
    stages.on_server("acme", stages.bench.secret("beta") or "")
    lose(stages, "secrets")
    untouched(stages, stages.run)
    failure = stages.row()["failure"]
    assert stages.bench.key("beta")["name"] in failure["what"]
    assert "not this client's" in failure["what"]
    assert failure["where"].endswith("/srv/acme/.env")
    assert stages.bench.secret() is None
    assert stages.row("beta")["failure"] is None


def test_the_key_of_another_fleet_is_refused(stages: Stages) -> None:
    made = stages.bench.quietly("POST", "/keys", {"name": "mai/other/acme/g1/01234567"})
    stages.client("acme")
    stages.on_server("acme", made["key"])
    untouched(stages, stages.run)
    assert "mai/other/acme/g1/01234567" in stages.row()["failure"]["what"]


@pytest.mark.parametrize("dead", ["sk-or-v1-" + "00" * 32, "x", ""])
def test_a_dead_key_on_the_server_is_no_key(stages: Stages, dead: str) -> None:
    stages.client("acme")
    stages.run()
    name = stages.bench.key()["name"]
    stages.on_server("acme", dead)
    lose(stages, "secrets")
    untouched(stages, stages.run)
    failure = stages.row()["failure"]
    assert name in failure["what"]
    assert "neither in the store nor on the server" in failure["what"]
    assert "-e fleet_replace_keys=acme" in failure["todo"]


def test_somebodys_own_key_on_the_server_is_not_taken_over(stages: Stages) -> None:
    made = stages.bench.quietly("POST", "/keys", {"name": "my laptop"})
    stages.client("acme")
    stages.on_server("acme", made["key"])
    stages.run()
    assert stages.row()["failure"] is None
    assert stages.bench.secret() not in (None, made["key"])


def test_a_store_that_cannot_be_read_is_one_clients_failure(stages: Stages) -> None:
    for name in ("acme", "beta"):
        stages.client(name)
    stages.run()
    path = stages.bench.folder / "secrets" / "beta.yml"
    path.write_bytes(path.read_bytes()[:-9])
    untouched(stages, stages.run)
    assert stages.row("beta")["failure"]["where"] == str(path)
    assert stages.row("acme")["failure"] is None


def test_an_older_key_that_came_back_is_not_retired(stages: Stages) -> None:
    """The store was lost before the newer key reached its server."""
    stages.client("acme")
    stages.run()
    secret, first = stages.bench.secret() or "", stages.bench.key()["hash"]
    stages.on_server("acme", secret)
    stages.run(replace="acme", prove=False)
    lose(stages, "secrets")
    stages.run()
    assert stages.record().key_hash == first
    assert stages.bench.living()[0]["hash"] == first
    assert stages.bench.secret() == secret


# --- replacing and retiring ---------------------------------------------------------------------


def test_a_replaced_key_is_deleted_when_the_new_one_is_proven(stages: Stages) -> None:
    stages.client("acme")
    stages.run()
    old = stages.bench.key()["hash"]
    stages.run(replace="acme")
    assert stages.bench.key()["hash"] != old
    assert (stages.record().generation, stages.record().former) == (2, [])
    untouched(stages, stages.run)


def test_a_replaced_key_stays_until_then(stages: Stages) -> None:
    stages.client("acme")
    stages.run()
    old = stages.bench.key()["hash"]
    stages.keys(replace="acme")
    stages.once("fleet_keys", retire=True)
    assert len(stages.bench.living()) == 2
    stages.bench.simulator.fault(path="/models/user", status=400)
    stages.run()
    assert stages.row()["failure"]["stage"] == "proof"
    assert len(stages.bench.living()) == 2
    stages.keys()
    stages.prove(budget=0)
    stages.once("fleet_keys", retire=True)
    assert len(stages.bench.living()) == 2
    stages.run()
    assert old not in [key["hash"] for key in stages.bench.living()]


def test_a_proof_that_fails_later_keeps_the_replaced_key_too(stages: Stages) -> None:
    """A run ended after the proof, and the next one finds something wrong."""
    stages.client("acme")
    stages.run()
    stages.keys(replace="acme")
    stages.prove()
    assert stages.record().proven
    stages.bench.simulator.fault(path="/models/user", status=400)
    stages.run()
    assert stages.row()["failure"]["stage"] == "proof"
    assert len(stages.bench.living()) == 2


def test_retiring_in_check_mode(stages: Stages) -> None:
    stages.client("acme")
    stages.run()
    stages.keys(replace="acme")
    stages.prove()
    untouched(stages, lambda: stages.once("fleet_keys", check=True, retire=True))
    assert stages.results[-1]["changed"]
    stages.once("fleet_keys", retire=True)
    assert stages.results[-1]["changed"]
    stages.once("fleet_keys", retire=True)
    assert not stages.results[-1]["changed"]


def test_retiring_that_was_cut_off_goes_on(stages: Stages) -> None:
    stages.client("acme")
    stages.client("beta")
    stages.run()
    stages.keys(replace="acme,beta")
    stages.prove()
    simulator = stages.bench.simulator
    simulator.fault(method="DELETE", path=f"/keys/{stages.record().former[0].hash}", status=403)
    stages.once("fleet_keys", retire=True)
    assert stages.row()["failure"]["stage"] == "keys"
    assert stages.row("beta")["failure"] is None
    assert (len(stages.bench.living()), len(stages.bench.living("beta"))) == (2, 1)
    stages.run()
    assert len(stages.bench.living()) == 1


def test_retiring_passes_over_a_client_whose_record_is_damaged(stages: Stages) -> None:
    stages.client("acme")
    stages.client("beta")
    stages.run()
    stages.keys(replace="acme,beta")
    (stages.bench.folder / "state" / "beta.json").write_text("{")
    stages.run()
    assert stages.row("beta")["failure"]["where"].endswith("beta.json")
    assert len(stages.bench.living()) == 1


def test_an_unknown_client_to_replace_stops_before_any_write(stages: Stages) -> None:
    stages.client("acme")
    stages.once("fleet_preflight", select="")
    result = stages.attempt("fleet_keys", "server1", {"replace": "amce"})
    assert result["failed"]
    assert "acme" in result["msg"]
    assert stages.bench.writes() == []


# --- proof --------------------------------------------------------------------------------------


def paid(stages: Stages) -> list[str]:
    """For whom a call was made that might have cost."""
    hashes = {stages.bench.key(name)["hash"][:12]: name for name in stages.clients}
    return sorted(
        hashes[row.caller.removeprefix("key:")]
        for row in stages.bench.simulator.requests
        if row.path == "/chat/completions"
    )


def test_only_who_changed_is_proven_at_a_price(stages: Stages) -> None:
    stages.client("acme")
    stages.client("beta", server="server2")
    stages.run()
    assert paid(stages) == ["acme", "beta"]
    stages.client("beta", server="server2", spending_limit=5)
    stages.bench.simulator.clear_log()
    stages.run()
    assert paid(stages) == ["beta"]
    stages.bench.simulator.clear_log()
    stages.keys()
    stages.prove(scope="all")
    assert paid(stages) == ["acme", "beta"]
    assert stages.row()["unpaid"] == []


def test_who_was_put_right_is_proven_again(stages: Stages) -> None:
    """Though the inventory says what it said before."""
    stages.client("acme")
    stages.run()
    stages.bench.quietly("DELETE", f"/guardrails/{stages.bench.guardrail()['id']}")
    stages.bench.simulator.clear_log()
    stages.run()
    assert paid(stages) == ["acme"]


def test_calls_can_be_switched_off_and_have_a_budget(stages: Stages) -> None:
    stages.client("acme")
    stages.client("beta", server="server2")
    stages.keys()
    stages.prove(chat=False, fence=False)
    assert paid(stages) == []
    assert stages.record().proven
    stages.prove(scope="all", budget=0)
    assert paid(stages) == []
    assert stages.row()["unpaid"] == ["chat", "fence"]
    cost = stages.row()["cost"]
    stages.prove(scope="all", budget=1.5 * cost)
    assert paid(stages) == ["acme"]
    assert stages.row("beta")["unpaid"] == ["chat", "fence"]


def test_a_client_without_a_key_is_its_own_failure(stages: Stages) -> None:
    """As when mai.fleet.verify comes before mai.fleet.site."""
    stages.client("acme")
    stages.run()
    stages.client("beta")
    stages.once("fleet_preflight", select="")
    stages.prove(scope="all")
    failure = stages.row("beta")["failure"]
    assert (failure["stage"], failure["todo"]) == (
        "proof",
        "run mai.fleet.site -e fleet_select=beta",
    )
    assert stages.row()["failure"] is None
    assert all(gate["passed"] for gate in stages.row()["gates"])


def test_a_failed_gate_says_which_what_and_what_to_do(stages: Stages) -> None:
    stages.client("acme")
    stages.run()
    stages.bench.quietly("DELETE", f"/guardrails/{stages.bench.guardrail()['id']}")
    stages.once("fleet_preflight", select="")
    stages.prove(scope="all")
    failure = stages.row()["failure"]
    assert failure["stage"] == "proof"
    assert failure["what"].startswith("gate allowlist: expected 2 models, saw ")
    assert "too many, such as" in failure["what"]
    assert "default guardrail" in failure["todo"]


def test_a_cap_that_is_used_up_fails_nobody(stages: Stages) -> None:
    stages.client("acme")
    stages.run()
    stages.bench.simulator.set_usage(stages.bench.key()["hash"], 100)
    stages.run()
    assert (stages.row()["exhausted"], stages.row()["failure"]) == (True, None)


def test_in_check_mode_nothing_is_proven(stages: Stages) -> None:
    stages.client("acme")
    stages.keys()
    stages.bench.simulator.clear_log()
    untouched(stages, lambda: stages.prove(check=True))
    assert stages.bench.simulator.requests == []


def test_a_proof_is_of_this_key(stages: Stages) -> None:
    stages.client("acme")
    stages.run()
    proven = stages.record().proven
    stages.run(replace="acme")
    assert stages.record().proven not in ("", proven)
    record = stages.record()
    stages.bench.store.save_record(dataclasses.replace(record, proven="other"))
    stages.bench.simulator.clear_log()
    stages.run()
    assert paid(stages) == ["acme"]


# --- secrets ------------------------------------------------------------------------------------


def test_no_result_of_any_task_shows_a_secret(
    stages: Stages, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[Row] = []
    secrets = {stages.bench.simulator.management_key}

    def run(**options: Any) -> None:
        stages.run(**options)
        seen.extend(stages.results)
        secrets.update(filter(None, map(stages.bench.secret, stages.clients)))

    stages.client("acme")
    stages.client("beta")
    run(check=True)
    run()
    stages.on_server("acme", stages.bench.secret() or "")
    lose(stages, "secrets")
    run(check=True)
    run()
    run(replace="acme")
    stages.on_server("acme", stages.bench.secret("beta") or "")
    lose(stages, "secrets")
    run()
    stages.bench.simulator.fault(path="/key", status=403, message=" ".join(secrets), skip=1)
    run()
    output = capsys.readouterr()
    text = json.dumps(seen) + output.out + output.err
    state = "".join(path.read_text() for path in (stages.bench.folder / "state").iterdir())
    assert len(secrets) == 4
    for secret in secrets:
        assert secret not in text
        assert secret not in state
