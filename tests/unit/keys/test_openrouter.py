# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""OpenRouter's API as the collection uses it. The simulator refuses what the contract lacks."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from ansible_collections.mai.fleet.plugins.module_utils._api.openrouter import OpenRouter
from ansible_collections.mai.fleet.plugins.module_utils._errors import (
    ApiError,
    FleetError,
    Forbidden,
    NotFound,
    Unauthorized,
)
from simulator.simulator import Simulator
from unit.keys.bench import FLASH, MINI, MINI_SLUG, Bench, exception_texts


@pytest.fixture
def api(bench: Bench) -> OpenRouter:
    return bench.api()


class Answers:
    """A transport whose every answer is the same JSON, as from a server that is not OpenRouter."""

    def __init__(self, answer: Any) -> None:
        self._answer = answer

    def get(self, _path: str, _query: Any = None) -> Any:
        return self._answer

    def post(self, _path: str, _body: Any) -> Any:
        return self._answer

    def patch(self, _path: str, _body: Any) -> Any:
        return self._answer

    def delete(self, _path: str) -> Any:
        return self._answer


def made(bench: Bench, count: int) -> list[str]:
    """The hashes of so many new keys."""
    bodies = [{"name": f"k{number}"} for number in range(count)]
    return [bench.quietly("POST", "/keys", body)["data"]["hash"] for body in bodies]


def test_every_call_there_is(api: OpenRouter, bench: Bench, simulator: Simulator) -> None:
    """Each route once, so that the contract table has seen every route and field that is sent."""
    assert api.current_key()["is_management_key"] is True
    assert api.credits_left() == 1000
    key, secret = api.create_key("mine", 12.5, "weekly")
    guardrail = api.create_guardrail("fence", "what it is for", [MINI])
    api.assign(guardrail.id, key.hash)
    api.update_guardrail(guardrail.id, [FLASH])
    api.update_key(key.hash, {"limit": None, "limit_reset": "never", "disabled": False})
    assert api.list_keys() == [api.key(key.hash)]
    assert [row.name for row in api.list_guardrails()] == ["fence"]
    assert api.assignments() == {key.hash: guardrail.id}
    client = bench.api(secret)
    assert client.current_key()["is_management_key"] is False
    assert [row["id"] for row in client.user_models()] == [FLASH]
    assert client.chat(FLASH, "yes?", 16)["usage"]["cost"] > 0
    api.delete_guardrail(guardrail.id)
    api.delete_key(key.hash)
    asked = {
        (row.method, row.path.replace(key.hash, "H").replace(guardrail.id, "G"))
        for row in simulator.requests
    }
    assert asked == {
        ("GET", "/key"), ("GET", "/credits"), ("POST", "/keys"), ("GET", "/keys"),
        ("GET", "/keys/H"), ("PATCH", "/keys/H"), ("DELETE", "/keys/H"), ("POST", "/guardrails"),
        ("GET", "/guardrails"), ("PATCH", "/guardrails/G"), ("DELETE", "/guardrails/G"),
        ("POST", "/guardrails/G/assignments/keys"), ("GET", "/guardrails/G/assignments/keys"),
        ("GET", "/guardrails/assignments/keys"), ("GET", "/models/user"),
        ("POST", "/chat/completions"),
    }  # fmt: skip


def test_fields_that_are_new_are_ignored(api: OpenRouter, simulator: Simulator) -> None:
    simulator.configure(unknown_fields=True)
    key, _secret = api.create_key("mine", None, "never")
    guardrail = api.create_guardrail("fence", "", [MINI])
    api.assign(guardrail.id, key.hash)
    assert api.list_keys() == [key]
    assert api.list_guardrails() == [guardrail]
    assert len(api.catalog()) >= 150


@pytest.mark.parametrize("limit", [None, 0, 0.01, 1000])
@pytest.mark.parametrize(
    ("word", "sent"),
    [("daily", "daily"), ("weekly", "weekly"), ("monthly", "monthly"), ("never", None)],
)
def test_a_key_as_it_was_ordered(
    api: OpenRouter, simulator: Simulator, limit: float | None, word: str, sent: str | None
) -> None:
    key, secret = api.create_key("mine", limit, word)
    assert (key.limit, key.limit_reset, key.disabled) == (limit, word, False)
    assert key.hash == hashlib.sha256(secret.encode()).hexdigest()
    (stored,) = simulator.keys
    assert (stored["limit"], stored["limit_reset"]) == (limit, sent)


@pytest.mark.parametrize("count", [0, 1, 100, 101, 205])
def test_all_pages_of_keys_the_disabled_too(
    api: OpenRouter, bench: Bench, simulator: Simulator, count: int
) -> None:
    hashes = made(bench, count)
    for key_hash in hashes[::7]:
        bench.quietly("PATCH", f"/keys/{key_hash}", {"disabled": True})
    found = api.list_keys()
    assert [key.hash for key in found] == hashes[::-1]
    assert sum(key.disabled for key in found) == len(hashes[::7])
    assert simulator.count("GET", "/keys") == count // 100 + 1


@pytest.mark.parametrize(("count", "requests"), [(0, 1), (100, 1), (101, 2)])
def test_all_pages_of_guardrails(
    api: OpenRouter, bench: Bench, simulator: Simulator, count: int, requests: int
) -> None:
    for number in range(count):
        bench.quietly("POST", "/guardrails", {"name": f"g{number}"})
    assert len({row.id for row in api.list_guardrails()}) == count
    assert simulator.count("GET", "/guardrails") == requests


def test_assignments_with_gaps_where_keys_were_deleted(api: OpenRouter, bench: Bench) -> None:
    """Rows of deleted keys take a place on their page and are not shown."""
    guardrail = api.create_guardrail("fence", "", [MINI])
    hashes = made(bench, 230)
    path = f"/guardrails/{guardrail.id}/assignments/keys"
    bench.quietly("POST", path, {"key_hashes": hashes})
    gone = set(hashes[20:150])
    for key_hash in gone:
        bench.quietly("DELETE", f"/keys/{key_hash}")
    assert api.assignments() == {
        key_hash: guardrail.id for key_hash in hashes if key_hash not in gone
    }
    assert api.assigned_keys(guardrail.id) == set(hashes) - gone


def test_an_assignment_that_did_not_happen_is_noticed(
    api: OpenRouter, simulator: Simulator
) -> None:
    """OpenRouter skips unknown hashes and answers 200."""
    guardrail = api.create_guardrail("fence", "", [MINI])
    with pytest.raises(FleetError, match="does not list it"):
        api.assign(guardrail.id, "0" * 64)


def test_what_is_gone_already_is_deleted(api: OpenRouter, simulator: Simulator) -> None:
    key, _secret = api.create_key("mine", None, "never")
    guardrail = api.create_guardrail("fence", "", [MINI])
    for _twice in range(2):
        api.delete_key(key.hash)
        api.delete_guardrail(guardrail.id)
    assert api.key(key.hash) is None
    assert simulator.keys == simulator.guardrails == []


def test_a_lost_answer_to_a_delete_is_a_success(api: OpenRouter, simulator: Simulator) -> None:
    key, _secret = api.create_key("mine", None, "never")
    simulator.fault(method="DELETE", path="/keys/.*", cut="after")
    api.delete_key(key.hash)
    assert [row.status for row in simulator.requests if row.method == "DELETE"] == [200, 404]


def test_images_and_embeddings_are_models_too(
    api: OpenRouter, bench: Bench, simulator: Simulator
) -> None:
    picture, numbers = "black-forest-labs/flux.2-pro", "openai/text-embedding-3-small"
    assert {picture, numbers} <= {row["id"] for row in api.catalog()}
    key, secret = api.create_key("mine", None, "never")
    guardrail = api.create_guardrail("fence", "", [picture, numbers, MINI])
    api.assign(guardrail.id, key.hash)
    assert {row["id"] for row in bench.api(secret).user_models()} == {picture, numbers, MINI}


def test_a_guardrail_holds_canonical_slugs_and_variants(api: OpenRouter) -> None:
    asked = ["openai/gpt-5.4", "openai/gpt-4o-mini:batch", MINI, MINI]
    guardrail = api.create_guardrail("fence", "", asked)
    assert guardrail.allowed_models == (
        "openai/gpt-5.4-20260305",
        "openai/gpt-4o-mini:batch",
        MINI_SLUG,
    )


def test_an_error_inside_a_200_is_an_error(
    api: OpenRouter, bench: Bench, simulator: Simulator
) -> None:
    _key, secret = api.create_key("mine", None, "never")
    simulator.fault(
        path="/chat/completions",
        status=403,
        http_status=200,
        message="No",
        metadata={"limit_source": "openrouter_key_limit"},
    )
    with pytest.raises(ApiError) as raised:
        bench.api(secret).chat(MINI, "yes?", 16)
    assert (raised.value.status, raised.value.what) == (403, "No [openrouter_key_limit]")


@pytest.mark.parametrize(
    ("status", "kind"), [(401, Unauthorized), (402, ApiError), (403, Forbidden), (404, NotFound)]
)
def test_errors_have_a_kind(
    api: OpenRouter, simulator: Simulator, status: int, kind: type[ApiError]
) -> None:
    simulator.fault(path="/keys", status=status)
    with pytest.raises(ApiError) as raised:
        api.list_keys()
    assert raised.type is kind
    assert raised.value.status == status


CALLS = {
    "current_key": lambda api: api.current_key(),
    "credits_left": lambda api: api.credits_left(),
    "catalog": lambda api: api.catalog(),
    "user_models": lambda api: api.user_models(),
    "list_keys": lambda api: api.list_keys(),
    "key": lambda api: api.key("0" * 64),
    "create_key": lambda api: api.create_key("mine", None, "never"),
    "list_guardrails": lambda api: api.list_guardrails(),
    "create_guardrail": lambda api: api.create_guardrail("a", "", [MINI]),
    "assignments": lambda api: api.assignments(),
    "assigned_keys": lambda api: api.assigned_keys("g"),
}


@pytest.mark.parametrize(
    "answer",
    [None, [], "text", 5, {}, {"data": None}, {"data": 5}, {"data": [5]}, {"data": [{"id": 1}]}],
    ids=repr,
)
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_answers_of_something_else_are_errors_of_the_api(call: Any, answer: Any) -> None:
    with pytest.raises(ApiError):
        call(OpenRouter(Answers(answer)))  # type: ignore[arg-type]


SECRET = "sk-or-v1-" + "12" * 32


@pytest.mark.parametrize(
    "answer",
    [
        {"key": SECRET},
        {"key": SECRET, "data": None},
        {"key": SECRET, "data": {"hash": hashlib.sha256(SECRET.encode()).hexdigest()}},
        {"data": {"key": SECRET}},
        {"key": SECRET, "data": {"limit": None, "limit_reset": None, "usage": None}},
    ],
    ids=range(5),
)
def test_a_secret_that_came_is_never_lost_to_what_else_is_missing(answer: Any) -> None:
    key, secret = OpenRouter(Answers(answer)).create_key("mine", 5, "daily")  # type: ignore[arg-type]
    assert secret == SECRET
    assert (key.hash, key.name) == (hashlib.sha256(SECRET.encode()).hexdigest(), "mine")


def test_no_error_of_a_strange_answer_quotes_a_secret() -> None:
    api = OpenRouter(Answers({"data": [{"key": SECRET}]}))  # type: ignore[arg-type]
    for call in CALLS.values():
        with pytest.raises(ApiError) as raised:
            call(api)
        assert SECRET not in exception_texts(raised.value)
