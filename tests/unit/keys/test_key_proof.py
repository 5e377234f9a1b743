# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The gates at OpenRouter: each passes, each fails, and says why."""

from __future__ import annotations

import dataclasses
import datetime
from typing import Any

import pytest
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.key_proof import (
    Proof,
    Purse,
    Sold,
    prove,
)
from ansible_collections.mai.fleet.plugins.module_utils._secrets import sha256
from simulator.simulator import Simulator
from unit.keys.bench import (
    FLASH,
    FLASH_SLUG,
    GPT,
    GPT_SLUG,
    MINI,
    MINI_SLUG,
    Bench,
    Row,
    desired,
)

REFUSED = f"{FLASH} is refused by the guardrail"


class Clock:
    """Time passes when somebody sleeps, and then for the simulator too.

    :ivar slept: seconds, of each time
    """

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return sum(self.slept)

    def sleep(self, secs: float) -> None:
        self.slept.append(secs)
        self._simulator.advance(seconds=secs)


@pytest.fixture
def sold() -> Sold:
    at = datetime.datetime.now(datetime.UTC)
    return Sold("acme", False, 100.0, "monthly", [MINI_SLUG, GPT_SLUG], FLASH, 7, at)


@pytest.fixture
def client(bench: Bench) -> Bench:
    bench.one(desired())
    bench.simulator.clear_log()
    return bench


def gates(proof: Proof) -> dict[str, Row]:
    """The gates by name; each tells all that a reader needs, and only what failed has a todo."""
    for gate in proof.gates:
        assert set(gate) == {"gate", "passed", "expected", "seen", "todo"}
        assert gate["expected"]
        assert gate["seen"]
        assert gate["passed"] == (gate["expected"] == gate["seen"]) == (not gate["todo"])
    return {gate["gate"]: gate for gate in proof.gates}


def failed(proof: Proof) -> Row:
    """The one gate that failed."""
    (gate,) = [gate for gate in gates(proof).values() if not gate["passed"]]
    return gate


def proven(
    bench: Bench,
    sold: Sold,
    *,
    fence: bool = True,
    patience: float = 0,
    key: str | None = None,
    clock: Clock | None = None,
    **changes: Any,
) -> Proof:
    """What the gates say of acme's own key, or of another one."""
    return prove(
        bench.api(key or bench.secret()),
        dataclasses.replace(sold, **changes),
        patience=patience,
        fence=fence,
        clock=clock or Clock(bench.simulator),
    )


# --- all is well ----------------------------------------------------------------------------------


def test_all_gates_pass(client: Bench, sold: Sold) -> None:
    proof = proven(client, sold)
    assert [(gate["gate"], gate["passed"], gate["seen"]) for gate in proof.gates] == [
        ("key", True, "the key authenticates"),
        ("cap", True, "100 USD, reset monthly"),
        ("allowlist", True, "2 models"),
        ("fence", True, REFUSED),
    ]
    assert not proof.exhausted
    gates(proof)


def test_the_free_gates_cost_two_requests_and_no_money(client: Bench, sold: Sold) -> None:
    clock = Clock(client.simulator)
    proof = proven(client, sold, fence=False, patience=30, clock=clock)
    assert list(gates(proof)) == ["key", "cap", "allowlist"]
    assert [row.path for row in client.simulator.requests] == ["/key", "/models/user"]
    assert client.simulator.state["total_usage"] == 0
    assert clock.slept == []


def test_a_call_that_is_refused_costs_nothing(client: Bench, sold: Sold) -> None:
    proven(client, sold)
    assert client.simulator.state["total_usage"] == 0
    assert client.simulator.count("POST", "/chat/completions") == 1


@pytest.mark.parametrize(
    ("changes", "seen"),
    [
        ({"limit": None}, "unlimited"),
        ({"limit": None, "limit_reset": "never"}, "unlimited"),
        ({"limit": 0.5, "limit_reset": "daily"}, "0.5 USD, reset daily"),
        ({"limit": 1234567.89, "limit_reset": "never"}, "1234567.89 USD, reset never"),
    ],
    ids=repr,
)
def test_caps(bench: Bench, sold: Sold, changes: Row, seen: str) -> None:
    bench.one(desired(**changes))
    assert gates(proven(bench, sold, **changes))["cap"]["seen"] == seen


def test_a_model_an_alias_and_a_picture(bench: Bench, sold: Sold) -> None:
    """/models/user shows an alias and its model, which are one slug; and more than text."""
    slugs = [GPT_SLUG, GPT_SLUG, "black-forest-labs/flux.2-pro", f"{MINI_SLUG}:batch"]
    bench.one(desired(slugs=slugs))
    ids = {row["id"] for row in bench.api(bench.secret()).user_models()}
    assert {GPT, "~openai/gpt-latest", "black-forest-labs/flux.2-pro"} < ids
    assert gates(proven(bench, sold, slugs=slugs))["allowlist"]["seen"] == "3 models"


def test_the_last_model_left_and_nobody_is_stopped(client: Bench, sold: Sold) -> None:
    for model in (MINI, GPT, "~openai/gpt-latest"):
        client.simulator.expire_model(model)
    proof = proven(client, sold, slugs=[])
    assert gates(proof)["allowlist"]["seen"] == "0 models"
    assert all(gate["passed"] for gate in proof.gates)


@pytest.mark.parametrize("status", [403, 404])
def test_the_fence_as_documented_and_as_observed(client: Bench, sold: Sold, status: int) -> None:
    client.simulator.configure(refusal_status=status)
    assert gates(proven(client, sold))["fence"]["passed"]


def test_there_is_nothing_outside_the_allowlist(client: Bench, sold: Sold) -> None:
    assert "fence" not in gates(proven(client, sold, fence_model=None))


# --- the key --------------------------------------------------------------------------------------


def test_a_key_that_was_deleted(client: Bench, sold: Sold) -> None:
    secret = client.secret()
    client.quietly("DELETE", f"/keys/{client.key()['hash']}")
    gate = failed(proven(client, sold, key=secret))
    assert gate["gate"] == "key"
    assert "HTTP 401: User not found." in gate["seen"]
    assert "mai.fleet.site -e fleet_select=acme" in gate["todo"]
    assert "deleted or disabled" in gate["todo"]


def test_a_management_key_where_a_clients_key_belongs(client: Bench, sold: Sold) -> None:
    proof = proven(client, sold, key=client.simulator.management_key)
    assert gates(proof)["key"]["seen"] == "a management key"
    assert not gates(proof)["key"]["passed"]


def test_nothing_more_is_asked_with_a_key_that_does_not_work(client: Bench, sold: Sold) -> None:
    proof = proven(client, sold, key="sk-or-v1-" + "0" * 64)
    assert list(gates(proof)) == ["key"]
    assert [row.path for row in client.simulator.requests] == ["/key"]


@pytest.mark.parametrize(
    ("fault", "seen"),
    [
        ({"status": 403, "message": "IP not allowed"}, "HTTP 403: IP not allowed"),
        ({"status": 500, "times": 0}, "HTTP 500: Internal Server Error"),
        ({"cut": "before", "times": 0}, "no answer"),
    ],
    ids=repr,
)
def test_a_key_that_cannot_be_asked_about(client: Bench, sold: Sold, fault: Row, seen: str) -> None:
    client.simulator.fault(path="/key", **fault)
    gate = failed(proven(client, sold))
    assert gate["gate"] == "key"
    assert seen in gate["seen"]
    assert "deleted" not in gate["todo"]


# --- the cap --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "seen"),
    [
        ({"limit": 5}, "5 USD, reset monthly"),
        ({"limit": None}, "unlimited"),
        ({"limit_reset": None}, "100 USD, reset never"),
    ],
    ids=repr,
)
def test_a_cap_that_was_not_sold(client: Bench, sold: Sold, change: Row, seen: str) -> None:
    client.quietly("PATCH", f"/keys/{client.key()['hash']}", change)
    gate = failed(proven(client, sold))
    assert (gate["gate"], gate["expected"]) == ("cap", "100 USD, reset monthly")
    assert gate["seen"] == seen


@pytest.mark.parametrize("limit", [100.0, 0.0])
def test_a_cap_that_is_used_up_is_a_state(bench: Bench, sold: Sold, limit: float) -> None:
    """Sold as it is: nothing is defective, and no paid call is made."""
    bench.one(desired(limit=limit))
    bench.simulator.set_usage(bench.key()["hash"], limit)
    proof = proven(bench, sold, limit=limit)
    assert proof.exhausted
    assert all(gate["passed"] for gate in proof.gates)
    assert list(gates(proof)) == ["key", "cap", "allowlist"]
    assert bench.simulator.count("POST", "/chat/completions") == 0


def test_nearly_used_up_is_not_used_up(client: Bench, sold: Sold) -> None:
    client.simulator.set_usage(client.key()["hash"], 99.99)
    proof = proven(client, sold)
    assert (proof.exhausted, len(proof.gates)) == (False, 4)


def test_without_a_cap_nothing_is_used_up(bench: Bench, sold: Sold) -> None:
    bench.one(desired(limit=None))
    bench.simulator.set_usage(bench.key()["hash"], 900)
    assert not proven(bench, sold, limit=None).exhausted


# --- the allowlist --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("slugs", "seen"),
    [
        ([MINI_SLUG], f"1 too many, such as {GPT_SLUG}"),
        ([MINI_SLUG, GPT_SLUG, FLASH_SLUG], f"missing {FLASH_SLUG}"),
        ([FLASH_SLUG], f"missing {FLASH_SLUG}; 2 too many, such as {MINI_SLUG}, {GPT_SLUG}"),
        (
            [f"{MINI_SLUG}:batch", GPT_SLUG],
            f"missing {MINI_SLUG}:batch; 1 too many, such as {MINI_SLUG}",
        ),
        ([], f"2 too many, such as {MINI_SLUG}, {GPT_SLUG}"),
    ],
)
def test_another_allowlist_than_sold(
    client: Bench, sold: Sold, slugs: list[str], seen: str
) -> None:
    gate = failed(proven(client, sold, slugs=slugs))
    assert (gate["gate"], gate["seen"]) == ("allowlist", seen)
    assert gate["expected"] == f"{len(slugs)} models"
    assert "default guardrail" in gate["todo"]


def test_a_key_without_a_fence_is_never_asked_to_chat(client: Bench, sold: Sold) -> None:
    """What should be refused would be answered, and paid for."""
    client.quietly("DELETE", f"/guardrails/{client.guardrail()['id']}")
    proof = proven(client, sold)
    gate = failed(proof)
    assert gate["gate"] == "allowlist"
    assert "too many, such as" in gate["seen"]
    assert client.simulator.count("POST", "/chat/completions") == 0


def test_an_allowlist_that_cannot_be_read(client: Bench, sold: Sold) -> None:
    client.simulator.fault(path="/models/user", status=500, times=0)
    gate = failed(proven(client, sold))
    assert (gate["gate"], gate["expected"]) == ("allowlist", "2 models")
    assert "HTTP 500" in gate["seen"]


# --- the fence ------------------------------------------------------------------------------------

PRIVACY = "No endpoints available matching your guardrail restrictions and data policy."


def reasons(*names: str) -> Row:
    return {"ineligibility_reasons": [{"endpoint": "A", "reason": name} for name in names]}


@pytest.mark.parametrize(
    ("fault", "passes"),
    [
        ({"status": 404, "message": PRIVACY, "metadata": reasons("model-ignored-by-guardrail")}, 1),
        (
            {
                "status": 404,
                "message": PRIVACY,
                "metadata": reasons("zdr-violation-by-account", "model-not-allowed-by-guardrail"),
            },
            1,
        ),
        ({"status": 403, "message": "Model not allowed by guardrail"}, 1),
        ({"status": 404, "message": PRIVACY}, 1),
        ({"status": 404, "message": PRIVACY, "metadata": reasons("zdr-violation-by-account")}, 0),
        (
            {
                "status": 404,
                "message": PRIVACY,
                "metadata": reasons("paid-model-training-violation-by-guardrail"),
            },
            0,
        ),
        (
            {
                "status": 404,
                "message": PRIVACY,
                "metadata": reasons("provider-not-allowed-by-guardrail"),
            },
            0,
        ),
        (
            {
                "status": 403,
                "message": "Guardrail budget exceeded (monthly limit)",
                "metadata": {"limit_source": "openrouter_guardrail_budget"},
            },
            0,
        ),
        ({"status": 403, "message": "Guardrail budget exceeded (monthly limit)"}, 0),
        ({"status": 403, "message": "Key limit exceeded (total limit)"}, 0),
        ({"status": 403, "message": "Your input was flagged"}, 0),
        ({"status": 404, "message": "No endpoints found for the model."}, 0),
        ({"status": 400, "message": f"{FLASH} is not a valid model ID"}, 0),
        ({"status": 400, "message": "guardrail"}, 0),
        ({"status": 401, "message": "User not found. guardrail"}, 0),
        ({"status": 402, "message": "Insufficient credits"}, 0),
        ({"status": 500, "message": "guardrail"}, 0),
        ({"status": 503, "message": "guardrail", "retry_after": 0}, 0),
        ({"cut": "before"}, 0),
    ],
    ids=lambda value: str(value.get("message") or value) if isinstance(value, dict) else "",
)
def test_what_proves_the_fence(client: Bench, sold: Sold, fault: Row, passes: int) -> None:
    client.simulator.fault(path="/chat/completions", **fault)
    gate = gates(proven(client, sold))["fence"]
    assert gate["passed"] == bool(passes)
    assert gate["expected"] == REFUSED
    if not passes:
        assert fault.get("message", "no answer") in gate["seen"]


def test_a_refusal_inside_a_200_is_a_refusal(client: Bench, sold: Sold) -> None:
    client.simulator.fault(
        path="/chat/completions",
        status=403,
        http_status=200,
        message=PRIVACY,
        metadata=reasons("model-ignored-by-guardrail"),
    )
    assert gates(proven(client, sold))["fence"]["passed"]


def test_a_model_that_answers_is_tried_once_more_and_no_oftener(client: Bench, sold: Sold) -> None:
    """As if the fence held for the list and not for chats."""
    clock = Clock(client.simulator)
    gate = failed(proven(client, sold, fence_model=MINI, patience=30, clock=clock))
    assert (gate["gate"], gate["seen"]) == ("fence", f"{MINI} answered")
    assert "any model can be used" in gate["todo"]
    assert client.simulator.count("POST", "/chat/completions") == 2
    assert clock.slept == [5.0]
    assert 0 < client.simulator.state["total_usage"] < 0.0001


def test_a_model_that_never_was_proves_nothing(client: Bench, sold: Sold) -> None:
    gate = failed(proven(client, sold, fence_model="nobody/nothing"))
    assert "is not a valid model ID" in gate["seen"]


def test_a_model_that_is_gone_proves_nothing(client: Bench, sold: Sold) -> None:
    client.simulator.expire_model(FLASH)
    gate = failed(proven(client, sold))
    assert "deprecated" in gate["seen"]
    assert "proves nothing" in gate["todo"]


def test_an_account_out_of_credit(client: Bench, sold: Sold) -> None:
    client.simulator.set_credit(0)
    gate = failed(proven(client, sold))
    assert "Insufficient credits" in gate["seen"]
    assert "openrouter.ai/settings/credits" in gate["todo"]


# --- what takes a while ---------------------------------------------------------------------------


def delayed(bench: Bench) -> None:
    bench.simulator.configure(enforcement_delay=2.5)


def test_a_fence_that_takes_a_while(bench: Bench, sold: Sold) -> None:
    delayed(bench)
    bench.one(desired())
    clock = Clock(bench.simulator)
    proof = proven(bench, sold, patience=30, clock=clock)
    assert all(gate["passed"] for gate in proof.gates)
    assert len(proof.gates) == 4
    # The simulator's time goes on by itself too, while a slow machine thinks.
    assert clock.slept in ([1.0], [1.0] * 2, [1.0] * 3)


def test_another_allowlist_that_takes_a_while(client: Bench, sold: Sold) -> None:
    delayed(client)
    client.one(desired(slugs=[FLASH_SLUG]))
    proof = proven(client, sold, slugs=[FLASH_SLUG], fence_model=MINI, patience=30)
    assert all(gate["passed"] for gate in proof.gates)


@pytest.mark.parametrize("suspended", [True, False])
def test_suspending_and_resuming_take_a_while(client: Bench, sold: Sold, suspended: bool) -> None:
    client.one(desired(state="present" if suspended else "suspended"))
    delayed(client)
    client.one(desired(state="suspended" if suspended else "present"))
    proof = proven(client, sold, suspended=suspended, patience=30)
    assert all(gate["passed"] for gate in proof.gates)


def test_patience_ends(bench: Bench, sold: Sold) -> None:
    bench.simulator.configure(enforcement_delay=3600)
    bench.one(desired())
    clock = Clock(bench.simulator)
    proof = proven(bench, sold, patience=2.5, clock=clock)
    assert failed(proof)["gate"] == "allowlist"
    assert clock.slept == [1.0] * 3
    assert bench.simulator.count("GET", "/models/user") == 4


def test_patience_ends_by_the_real_clock_too(bench: Bench, sold: Sold) -> None:
    bench.simulator.configure(enforcement_delay=3600)
    bench.one(desired())
    proof = prove(bench.api(bench.secret()), sold, patience=0.01, fence=True)
    assert failed(proof)["gate"] == "allowlist"


# --- suspended ------------------------------------------------------------------------------------


def test_a_suspended_client(client: Bench, sold: Sold) -> None:
    client.one(desired(state="suspended"))
    client.simulator.clear_log()
    proof = proven(client, sold, suspended=True)
    assert list(gates(proof)) == ["key"]
    assert proof.gates[0]["passed"]
    assert [row.path for row in client.simulator.requests] == ["/key"]


def test_a_suspended_client_whose_key_works(client: Bench, sold: Sold) -> None:
    gate = failed(proven(client, sold, suspended=True))
    assert gate["expected"] == "refused, because the client is suspended"
    assert gate["seen"] == "the key authenticates"
    assert "until then the key works" in gate["todo"]


def test_no_network_is_no_refusal(client: Bench, sold: Sold) -> None:
    client.simulator.fault(path="/key", cut="before", times=0)
    assert "no answer" in failed(proven(client, sold, suspended=True))["seen"]


# --- secrets --------------------------------------------------------------------------------------


def test_no_gate_shows_the_key(client: Bench, sold: Sold) -> None:
    secret = client.secret() or ""
    client.simulator.fault(path="/key", status=403, message=f"no {secret}")
    proofs = [proven(client, sold), proven(client, sold, suspended=True), proven(client, sold)]
    assert secret not in repr(proofs)


# --- spending on the new key --------------------------------------------------------------------


class Rotated:
    """A client with a new key beside its old one, and the purse before a chat."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.old = bench.secret() or ""
        bench.one(desired(replace=True))
        self.new = bench.secret() or ""

    def purse(self, **options: Any) -> Purse:
        record = self.bench.record("acme")
        former = [one.hash for one in record.former]
        return Purse(self.bench.api(), record.key_hash, former, **{"patience": 0, **options})

    def chat(self, secret: str) -> None:
        self.bench.api(secret).chat(MINI, "Hello", 16)


@pytest.fixture
def rotated(client: Bench) -> Rotated:
    return Rotated(client)


def test_a_chat_is_paid_for_with_the_new_key(rotated: Rotated) -> None:
    rotated.chat(rotated.old)
    purse = rotated.purse()
    rotated.chat(rotated.new)
    gate = purse.gate()
    assert (gate["gate"], gate["passed"], gate["todo"]) == ("spend", True, "")


def test_an_instance_that_goes_on_with_the_old_key(rotated: Rotated) -> None:
    purse = rotated.purse()
    rotated.chat(rotated.old)
    gate = purse.gate()
    assert not gate["passed"]
    assert gate["seen"] == (
        f"it was paid for with the key that was replaced, sha256:{sha256(rotated.old)[:12]}"
    )
    assert "the old key goes on working" in gate["todo"]


def test_a_chat_that_nobody_paid_for(rotated: Rotated) -> None:
    clock = Clock(rotated.bench.simulator)
    gate = rotated.purse(patience=3, clock=clock).gate()
    assert not gate["passed"]
    assert gate["seen"] == "nothing was spent with the new key within 3 s"
    assert clock.slept == [1.0] * 3


def test_what_is_spent_is_counted_a_little_later(rotated: Rotated) -> None:
    class Late(Clock):
        def sleep(self, secs: float) -> None:
            super().sleep(secs)
            rotated.chat(rotated.new)

    clock = Late(rotated.bench.simulator)
    assert rotated.purse(patience=30, clock=clock).gate()["passed"]
    assert clock.slept == [1.0]


def test_an_openrouter_that_does_not_say_what_was_spent(rotated: Rotated) -> None:
    purse = rotated.purse()
    rotated.bench.simulator.fault(path="/keys/.*", status=403)
    gate = purse.gate()
    assert not gate["passed"]
    assert "HTTP 403" in gate["seen"]
