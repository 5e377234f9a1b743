# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What client files, plans and fleet.yml may say, and the message for everything else."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from ansible_collections.mai.fleet.plugins.module_utils._fleet.schema import (
    DEFAULT_MODELS,
    FIELDS,
    Problem,
    check_options,
    check_schema,
    clashes,
    read_plans,
    resolve,
)

FILE = "clients/acme.yml"
PLANS: dict[str, dict[str, Any]] = {
    "gold": {"spending_limit": 50.0, "models": ["openai/gpt-4o-mini"], "env": {"A": "1", "B": "2"}},
    "standard": {},
}
SERVERS = ["web1", "web2"]


def content(**changes: Any) -> dict[str, Any]:
    given = {
        "schema": 1,
        "organization": "Acme GmbH",
        "server": "web1",
        "admin_email": "it@acme.example",
        **changes,
    }
    return {field: value for field, value in given.items() if value is not ...}


def read(name: str = "acme", **changes: Any) -> tuple[dict[str, Any], list[Problem]]:
    return resolve(name, content(**changes), FILE, PLANS, SERVERS)


def good(**changes: Any) -> dict[str, Any]:
    client, problems = read(**changes)
    assert problems == []
    return client


def bad(**changes: Any) -> Problem:
    """The one problem that a client file has."""
    _client, problems = read(**changes)
    assert len(problems) == 1, problems
    assert problems[0].client == "acme"
    return problems[0]


def test_the_least_that_a_client_file_can_say() -> None:
    assert good() == {
        "name": "acme",
        "file": FILE,
        "organization": "Acme GmbH",
        "server": "web1",
        "domain": None,
        "port": None,
        "plan": None,
        "ring": None,
        "volume": None,
        "foreign_keys": None,
        "key_lifetime_days": None,
        "key_renew_days": 7,
        "models": DEFAULT_MODELS,
        "spending_limit": 1000.0,
        "limit_reset": "monthly",
        "admin_email": "it@acme.example",
        "billing_email": "it@acme.example",
        "markup": 1.3,
        "display_name": "Acme GmbH",
        "version": "0.12.4",
        "memory": "1g",
        "cpus": 1.0,
        "state": "present",
        "instance": "webui",
        "env": {},
        "volume_hold_days": None,
    }


def test_the_file_of_a_client_that_goes_may_say_less() -> None:
    assert good(state="absent", admin_email=...)["admin_email"] is None


def test_the_models_that_are_sold_by_default() -> None:
    assert DEFAULT_MODELS == [
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


def test_a_client_overrides_its_plan_and_a_plan_the_defaults() -> None:
    of_plan = good(plan="gold")
    assert of_plan["spending_limit"] == 50
    assert of_plan["models"] == ["openai/gpt-4o-mini"]
    own = good(plan="gold", spending_limit="unlimited", models=["openai/o3"], env={"B": "3"})
    assert own["spending_limit"] is None
    assert own["models"] == ["openai/o3"]
    assert own["env"] == {"A": "1", "B": "3"}


def test_a_client_whose_plan_says_that_keys_end_may_have_one_that_does_not() -> None:
    plan = {"ends": {"key_lifetime_days": 30}}
    for own, found in (({}, 30), ({"key_lifetime_days": "unlimited"}, None)):
        client, problems = resolve("acme", content(plan="ends", **own), FILE, plan, SERVERS)
        assert (client["key_lifetime_days"], problems) == (found, [])


def test_a_key_that_would_be_replaced_as_soon_as_it_is_there() -> None:
    problem = bad(key_lifetime_days=7)
    assert "a key of 7 days would be replaced at once" in problem.what
    assert good(key_lifetime_days=7, key_renew_days=2)["key_renew_days"] == 2


def test_two_clients_do_not_share_what_they_change() -> None:
    one, other = good(plan="gold"), good(plan="gold")
    one["env"]["A"] = "mine"
    assert other["env"]["A"] == "1"
    assert PLANS["gold"]["env"]["A"] == "1"


ACCEPTED = [
    ("organization", "Zakłady \"Łódź\" & 'Söhne' #1 $5 {{ 7 * 7 }}"),
    ("organization", "Zwei\u00a0Worte"),
    ("server", "web2"),
    ("domain", "chat.acme.example"),
    ("domain", "a-1.b2.c"),
    ("port", 1024),
    ("port", 65535),
    ("plan", "standard"),
    ("ring", "early"),
    ("volume", "chat_open-webui"),
    ("foreign_keys", "keep"),
    ("key_lifetime_days", 90),
    ("key_renew_days", 1),
    ("models", ["openai/gpt-4o-mini", "deepseek/deepseek-r1:free", "~openai/gpt-latest"]),
    ("spending_limit", 0),
    ("spending_limit", 12.5),
    ("limit_reset", "daily"),
    ("limit_reset", "weekly"),
    ("limit_reset", "monthly"),
    ("limit_reset", "never"),
    ("admin_email", "it+admin@acme.co.uk"),
    ("billing_email", "rechnung@acme.example"),
    ("markup", 0),
    ("markup", 2),
    ("display_name", "Łódź Chat"),
    ("version", "0.12.4"),
    ("version", "0.13.0-rc.1"),
    ("memory", "768m"),
    ("memory", "2g"),
    ("cpus", 0.5),
    ("cpus", 4),
    ("volume_hold_days", 0),
    ("state", "suspended"),
    ("state", "absent"),
    ("instance", "none"),
    ("env", {"TASK_MODEL_EXTERNAL": "openai/gpt-4o-mini", "X1": "", "_Y": "{{ $a 'b' }}"}),
    ("env", {"SECRET": {"vault": "$ANSIBLE_VAULT;1.1;AES256\n61"}}),
]


@pytest.mark.parametrize(("field", "value"), ACCEPTED)
def test_accepted(field: str, value: Any) -> None:
    assert good(**{field: value})[field] == value


REFUSED = [
    ("organization", 42, "expected text, got 42"),
    ("organization", False, "expected text, got False"),
    ("organization", "  ", "expected text"),
    ("organization", ["Acme"], "expected text, got ['Acme']"),
    ("organization", "two\nlines", "one line"),
    ("organization", "two\u2028lines", "one line"),
    ("organization", "bell\a", "control characters"),
    ("organization", datetime.date(2026, 1, 1), "expected text"),
    ("domain", "Chat.acme.example", "lowercase host name"),
    ("domain", "https://chat.acme.example", "lowercase host name"),
    ("domain", "localhost", "lowercase host name"),
    ("domain", "-a.example", "lowercase host name"),
    ("port", 80, "whole number from 1024 to 65535, got 80"),
    ("port", 65536, "whole number from 1024 to 65535"),
    ("port", "18000", "whole number"),
    ("port", 18000.0, "whole number"),
    ("port", True, "whole number"),
    ("volume", "../data", "the name of a volume"),
    ("foreign_keys", "ignore", "expected one of report, keep, adopt, revert"),
    ("ring", "1st", "expected 2 to 31 characters"),
    ("ring", "early-birds", "expected 2 to 31 characters"),
    ("key_lifetime_days", 1, "days (or unlimited) from 2 to 3650, got 1"),
    ("key_lifetime_days", "never", "days (or unlimited), got 'never'"),
    ("key_renew_days", 0, "days from 1 to 365, got 0"),
    ("models", [], "at least one model"),
    ("models", "openai/gpt-4o-mini", "a list of at least one model"),
    ("models", ["gpt-4o-mini"], "author/model, got 'gpt-4o-mini'"),
    ("models", ["openai/gpt 4o"], "author/model"),
    ("models", [4], "author/model, got 4"),
    ("models", ["openai/o3", "openai/o3"], "openai/o3 is listed more than once"),
    ("spending_limit", -1, "USD of 0 or more, or unlimited, got -1"),
    ("spending_limit", "a lot", "USD as a number, or unlimited, got 'a lot'"),
    ("spending_limit", "100", "USD as a number, or unlimited, got '100'"),
    ("spending_limit", True, "USD as a number"),
    ("spending_limit", float("nan"), "USD of 0 or more"),
    ("spending_limit", float("inf"), "USD of 0 or more"),
    ("spending_limit", {"vault": "$ANSIBLE_VAULT;1.1;AES256\n61"}, "USD as a number"),
    ("limit_reset", "yearly", "one of daily, weekly, monthly, never, got 'yearly'"),
    ("limit_reset", False, "one of daily, weekly, monthly, never"),
    ("admin_email", "it", "an e-mail address, got 'it'"),
    ("admin_email", "it@acme", "an e-mail address"),
    ("admin_email", "it @acme.example", "an e-mail address"),
    ("billing_email", "a@b@c.example", "an e-mail address"),
    ("markup", -0.1, "a factor from 0 to 100, got -0.1"),
    ("markup", "1.3", "a factor, got '1.3'"),
    ("display_name", 7, "expected text, got 7"),
    ("version", 0.12, "expected text, got 0.12"),
    ("version", "latest", "a version such as 0.12.4, got 'latest'"),
    ("memory", "1G", "a size such as 768m or 1g, got '1G'"),
    ("memory", 1, "expected text"),
    ("cpus", 0, "a number of CPUs from 0.1 to 64, got 0"),
    ("volume_hold_days", 1.5, "whole number from 0 to 3650, got 1.5"),
    ("state", "gone", "one of present, suspended, absent, got 'gone'"),
    ("instance", "both", "one of webui, none, got 'both'"),
    ("env", ["A=1"], "names and values"),
    ("env", {"a_b": "1"}, "names of capitals, digits and underscores, got 'a_b'"),
    ("env", {"A-B": "1"}, "names of capitals"),
    ("env", {5: "1"}, "names of capitals"),
    ("env", {"A": 1}, "expected text for A, got 1; put it in quotes"),
    ("env", {"A": "x\ny"}, "the value of A has a line break"),
    ("env", {"A": {"vault": "x", "more": "y"}}, "expected text for A"),
]


@pytest.mark.parametrize(("field", "value", "expected"), REFUSED)
def test_refused(field: str, value: Any, expected: str) -> None:
    problem = bad(**{field: value})
    assert expected in problem.what
    assert problem.where == f"{FILE}: {field}"


def test_every_field_has_both_kinds_of_values_here() -> None:
    assert {field for field, *_ignored in ACCEPTED} == set(FIELDS)
    # These two are compared with what there is, below.
    assert {field for field, *_ignored in REFUSED} | {"server", "plan"} == set(FIELDS)


@pytest.mark.parametrize(
    "name",
    [
        "OPENROUTER_API_KEY",
        "OPENAI_API_KEY",
        "OPENAI_API_BASE_URLS",
        "WEBUI_SECRET_KEY",
        "WEBUI_ADMIN_PASSWORD",
        "WEBUI_NAME",
        "WEBUI_URL",
        "ENABLE_SIGNUP",
        "ENABLE_PERSISTENT_CONFIG",
        "BYPASS_MODEL_ACCESS_CONTROL",
        "DATABASE_URL",
        "PORT",
        "SPENDING_LIMIT",
    ],
)
def test_names_that_the_collection_manages_are_refused_in_env(name: str) -> None:
    problem = bad(env={name: "x"})
    assert problem.what == f"{name} is managed by the collection; remove it here"
    assert problem.where == f"{FILE}: env"


@pytest.mark.parametrize("field", ["organization", "server", "admin_email"])
def test_required_fields(field: str) -> None:
    assert bad(**{field: ...}) == Problem("the field is missing", f"{FILE}: {field}", "", "acme")
    assert bad(**{field: None}).what == "the field is empty"


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("spendinglimit", "spending_limit"),
        ("limit-reset", "limit_reset"),
        ("modells", "models"),
        ("e_mail", "admin_email or billing_email"),
        ("Organization", "organization"),
    ],
)
def test_a_misspelt_field_names_the_nearest(wrong: str, right: str) -> None:
    problem = bad(**{wrong: "x"})
    assert problem.what == f"unknown field {wrong}"
    assert problem.where == f"{FILE}: {wrong}"
    assert all(field in problem.todo for field in right.split(" or "))


def test_a_field_like_no_other_shows_all_there_are() -> None:
    assert bad(qqq="x").todo == f"known fields: {', '.join(FIELDS)}"


def test_an_unknown_server_names_the_nearest_and_the_order_of_sources() -> None:
    problem = bad(server="wbe1")
    assert problem.what == "unknown server wbe1"
    assert problem.where == f"{FILE}: server"
    assert "web1" in problem.todo
    assert "has to come before fleet.yml" in bad(server="zz").todo
    _client, (problem,) = resolve("acme", content(), FILE, PLANS, [])
    assert "servers in the inventory so far: none" in problem.todo


def test_an_unknown_plan_names_the_nearest() -> None:
    assert bad(plan="glod") == Problem(
        "unknown plan glod", f"{FILE}: plan", "Did you mean gold?", "acme"
    )
    assert bad(plan="zz").todo == "known plans: gold, standard"
    _client, (problem,) = resolve("acme", content(plan="gold"), FILE, {}, SERVERS)
    assert problem.todo == "known plans: none"


@pytest.mark.parametrize("name", ["a", "Acme", "1acme", "ac-me", "acme.de", "a" * 32, "łódź", ""])
def test_bad_names(name: str) -> None:
    _client, problems = read(name)
    assert [problem.what for problem in problems] == ["bad client name"]
    assert "2 to 31 characters" in problems[0].todo


@pytest.mark.parametrize("name", ["ab", "acme_2", "a" * 31])
def test_good_names(name: str) -> None:
    assert read(name)[1] == []


def test_a_long_value_is_shown_in_part() -> None:
    assert bad(admin_email="x" * 58).what.endswith(f"got '{'x' * 58}'")
    assert bad(admin_email="x" * 59).what.endswith(f"got '{'x' * 56}...")


def test_every_mistake_of_a_file_is_told_at_once() -> None:
    _client, problems = read(server=..., port=1, spending_limit=-1, modles=[])
    assert {problem.where for problem in problems} == {
        f"{FILE}: {field}" for field in ("server", "port", "spending_limit", "modles")
    }


@pytest.mark.parametrize("data", [None, [], "organization: Acme", 5])
def test_a_file_that_holds_no_fields(data: Any) -> None:
    _client, problems = resolve("acme", data, FILE, PLANS, SERVERS)
    assert [(p.what, p.where) for p in problems] == [("expected fields and values", FILE)]


@pytest.mark.parametrize(
    ("schema", "what", "todo"),
    [
        (..., "the schema version is missing", "add the line: schema: 1"),
        (2, "schema 2 is newer than this release", "update the collection"),
        ("1", "unknown schema '1'", "write: schema: 1"),
        (0, "unknown schema 0", "write: schema: 1"),
        (True, "unknown schema True", "write: schema: 1"),
    ],
)
def test_the_schema_version(schema: Any, what: str, todo: str) -> None:
    problem = bad(schema=schema)
    assert what in problem.what
    assert (problem.todo, problem.where) == (todo, f"{FILE}: schema")
    assert check_schema({"schema": schema} if schema is not ... else {}, FILE) != []


def plans(**changes: Any) -> tuple[dict[str, dict[str, Any]], list[Problem]]:
    return read_plans({"schema": 1, "plans": {"gold": {"markup": 1.1}}, **changes}, "plans.yml")


def test_plans() -> None:
    assert plans() == ({"gold": {"markup": 1.1}}, [])
    assert plans(plans={}) == ({}, [])


def test_what_a_plan_may_say() -> None:
    own = {"organization", "server", "domain", "port", "plan", "admin_email", "billing_email"}
    own |= {"display_name", "state", "volume"}
    values = {field: value for field, value in ACCEPTED if field not in own}
    assert plans(plans={"gold": values}) == ({"gold": values}, [])
    for field, value in ACCEPTED:
        _plans, problems = plans(plans={"gold": {field: value}})
        assert len(problems) == (field in own)
    assert own | set(values) == set(FIELDS)


@pytest.mark.parametrize(
    ("changes", "what", "where"),
    [
        ({"plans": ["gold"]}, "expected schema and plans", "plans.yml"),
        ({"plans": {"gold": None}}, "expected fields and values", "plans.yml: plans.gold"),
        ({"plans": {"Gold!": {}}}, "bad plan name 'Gold!'", "plans.yml: plans.Gold!"),
        ({"plans": {"gold": {"port": 2000}}}, "unknown field port", "plans.yml: plans.gold: port"),
        ({"plans": {"gold": {"markup": "x"}}}, "a factor", "plans.yml: plans.gold: markup"),
        ({"plnas": {}}, "unknown field plnas", "plans.yml: plnas"),
        ({"schema": 9}, "schema 9 is newer", "plans.yml: schema"),
    ],
)
def test_a_mistake_in_the_plans_concerns_the_whole_fleet(
    changes: dict[str, Any], what: str, where: str
) -> None:
    _plans, problems = plans(**changes)
    assert len(problems) == 1
    assert what in problems[0].what
    assert (problems[0].where, problems[0].client) == (where, "")


def test_clients_that_clash() -> None:
    def clients(**of_both: Any) -> dict[str, dict[str, Any]]:
        return {name: read(name, **of_both)[0] for name in ("acme", "beta")}

    domain, port = clashes(clients(domain="a.example", port=18000))
    assert domain.what == "domain a.example is also client acme's"
    assert port.what == "port 18000 is also client acme's"
    assert domain.client == port.client == ""
    assert clashes(clients()) == []
    (volume,) = clashes({**clients(), "beta": read("beta", volume="acme_data")[0]})
    assert volume.what == "volume acme_data is also client acme's"
    assert volume.where.endswith(": volume")
    apart = clients(port=18000)
    apart["beta"]["server"] = "web2"
    assert clashes(apart) == []
    for field, value in (("state", "absent"), ("instance", "none")):
        gone = clients(domain="a.example", port=18000)
        gone["beta"][field] = value
        assert clashes(gone) == []


OPTIONS: dict[str, Any] = {
    "fleet": "hosting",
    "openrouter_url": "https://openrouter.ai/api/v1",
    "directory": "/srv/mai",
    "version": "0.12.4",
    "image": "ghcr.io/open-webui/open-webui:v{version}-slim",
    "image_archive": None,
    "image_digests": {"0.12.4": "sha256:" + "0a" * 32},
    "first_port": 18000,
    "subnets": "10.201.0.0/16",
    "lock": {},
    "volume_hold_days": 30,
}


def test_options_of_the_fleet() -> None:
    assert check_options(OPTIONS, OPTIONS, "fleet.yml") == []


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("fleet", "Acme Hosting", "2 to 31 characters"),
        ("openrouter_url", "openrouter.ai", "an address such as https://openrouter.ai/api/v1"),
        ("directory", "srv/mai", "an absolute path"),
        ("directory", "/", "an absolute path"),
        ("version", "latest", "a version such as"),
        ("image", "open-webui:{tag}", "only {version} stands in braces"),
        ("image", "open-webui:{", "only {version} stands in braces"),
        ("image_archive", "images/{}.tar", "only {version} stands in braces"),
        ("image_digests", {"0.12.4": "abc"}, "sha256:..."),
        ("image_digests", {0.12: "sha256:" + "0a" * 32}, "versions in quotes"),
        ("first_port", 80, "whole number from 1024 to 65535"),
        ("subnets", "10.201.0.1/16", "a network such as 10.201.0.0/16"),
        ("lock", {"host": "web1"}, "a server that everybody reaches, {server: NAME}, or"),
        ("lock", {"server": "web1", "directory": "/mnt"}, "a directory that everybody sees"),
        ("lock", {"server": 1}, "expected text, got 1"),
        ("lock", {"directory": ""}, "expected text, got ''"),
        ("volume_hold_days", -1, "whole number from 0 to 3650"),
    ],
)
def test_refused_options_of_the_fleet(option: str, value: Any, expected: str) -> None:
    (problem,) = check_options({**OPTIONS, option: value}, OPTIONS, "fleet.yml")
    assert expected in problem.what
    assert (problem.where, problem.client) == (f"fleet.yml: {option}", "")


def test_a_misspelt_option_of_the_fleet_names_the_nearest() -> None:
    (problem,) = check_options({**OPTIONS, "direcotry": "/srv"}, OPTIONS, "fleet.yml")
    assert problem == Problem(
        "unknown option direcotry", "fleet.yml: direcotry", "Did you mean directory?"
    )
