# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the mai.fleet collection
"""What a client file, a plan and fleet.yml may say, and what they mean.

One table, :data:`FIELDS`, says it all of clients and plans: the field's rule, whether a plan may
set it, and its default. Errors are data, so that one client's mistake stops that client only.
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ansible_collections.mai.fleet.plugins.module_utils._fleet.environment import MANAGED
from ansible_collections.mai.fleet.plugins.module_utils._fleet.names import (
    DUE,
    NAME_RULE,
    did_you_mean,
    is_name,
)

SCHEMA = 1

#: Sold when neither the client nor its plan names models.
DEFAULT_MODELS = [
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

DEFAULT_VERSION = "0.12.4"

#: Unicode categories: control characters, line and paragraph separators, halves of characters.
_CONTROL = ("Cc", "Zl", "Zp", "Cs")

_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
_LABEL = r"(?!-)[a-z0-9-]{1,63}(?<!-)"
_DOMAIN = re.compile(rf"(?=.{{4,253}}$){_LABEL}(\.{_LABEL})+")
_MODEL = re.compile(r"~?[A-Za-z0-9][\w.-]*/[\w.-]+(:[\w.-]+)?")
_VERSION = re.compile(r"[0-9]+(\.[0-9]+){1,2}([.-][0-9A-Za-z.-]+)?")
_MEMORY = re.compile(r"[1-9][0-9]*[mg]")
_VOLUME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]+")
_ENV_NAME = re.compile(r"[A-Z_][A-Z0-9_]*")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_URL = re.compile(r"https?://[^\s/?#]+(/[^\s?#]*)?")


class Invalid(ValueError):
    """A value breaks its field's rule; the text says what is expected."""


@dataclass(frozen=True)
class Problem:
    """A mistake in the inventory. ``client`` is empty when it concerns the fleet as a whole."""

    what: str
    where: str
    todo: str = ""
    client: str = ""

    def as_dict(self) -> dict[str, str]:
        return asdict(self)


@dataclass(frozen=True)
class Field:
    check: Callable[[Any], Any]
    default: Any = None
    required: bool = False
    in_plan: bool = False


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise Invalid(f"expected text, got {_show(value)}; YAML may need it in quotes")
    if any(unicodedata.category(char) in _CONTROL for char in value):
        raise Invalid("expected one line of text without control characters")
    return value


def _matching(pattern: re.Pattern[str], expected: str) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        text = _text(value)
        if not pattern.fullmatch(text):
            raise Invalid(f"expected {expected}, got {_show(value)}")
        return text

    return check


def _choice(*choices: str) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if value not in choices:
            raise Invalid(f"expected one of {', '.join(choices)}, got {_show(value)}")
        return str(value)

    return check


def _number(low: float, high: float, expected: str) -> Callable[[Any], float]:
    def check(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise Invalid(f"expected {expected}, got {_show(value)}")
        if not low <= value <= high:
            raise Invalid(f"expected {expected} from {low:g} to {high:g}, got {value}")
        return value

    return check


def _integer(low: int, high: int) -> Callable[[Any], int]:
    def check(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise Invalid(f"expected a whole number from {low} to {high}, got {_show(value)}")
        return value

    return check


def _limit(value: Any) -> float | None:
    """USD. None is no cap at all, which has to be said in words."""
    if value == "unlimited":
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise Invalid(f"expected USD as a number, or unlimited, got {_show(value)}")
    if not 0 <= value < 1e9:
        raise Invalid(f"expected USD of 0 or more, or unlimited, got {value}")
    return float(value)


def _lifetime(value: Any) -> float | None:
    """Days. None is no end at all, which a client has to say in words when its plan says one."""
    return None if value == "unlimited" else _number(2, 3650, "days (or unlimited)")(value)


def _models(value: Any) -> list[str]:
    if not isinstance(value, list) or not value:
        raise Invalid("expected a list of at least one model id")
    for model in value:
        if not isinstance(model, str) or not _MODEL.fullmatch(model):
            raise Invalid(f"expected model ids like author/model, got {_show(model)}")
    twice = sorted({model for model in value if value.count(model) > 1})
    if twice:
        raise Invalid(f"{', '.join(twice)} is listed more than once")
    return list(value)


def _env(value: Any) -> dict[str, Any]:
    """Values are text, or ``{"vault": ciphertext}`` for what was written with ``!vault``."""
    if not isinstance(value, dict):
        raise Invalid(f"expected names and values, got {_show(value)}")
    for name, content in value.items():
        if not isinstance(name, str) or not _ENV_NAME.fullmatch(name):
            raise Invalid(f"expected names of capitals, digits and underscores, got {_show(name)}")
        if name in MANAGED:
            raise Invalid(f"{name} is managed by the collection; remove it here")
        if isinstance(content, dict) and set(content) == {"vault"}:
            continue
        if not isinstance(content, str):
            raise Invalid(f"expected text for {name}, got {_show(content)}; put it in quotes")
        if "\n" in content or "\0" in content:
            raise Invalid(f"the value of {name} has a line break, which .env files cannot carry")
    return dict(value)


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _name(value: Any) -> str:
    if not isinstance(value, str) or not is_name(value):
        raise Invalid(f"expected {NAME_RULE}, got {_show(value)}")
    return value


def _network(value: Any) -> str:
    try:
        return str(ipaddress.IPv4Network(value))
    except ValueError as error:
        raise Invalid(f"expected a network such as 10.201.0.0/16: {error}") from error


def _with_version(value: Any) -> str:
    try:
        _text(value).format(version="0")
    except (ValueError, LookupError, AttributeError) as error:
        expected = "text in which only {version} stands in braces"
        raise Invalid(f"expected {expected}, got {_show(value)}") from error
    return str(value)


def _lock(value: Any) -> dict[str, str]:
    """Where the fleet is locked at OpenRouter: empty, or one of two places."""
    if not value:
        return {}
    if not isinstance(value, dict) or len(value) != 1 or not {*value} <= {"server", "directory"}:
        raise Invalid(
            "expected a server that everybody reaches, {server: NAME}, or a directory that "
            f"everybody sees, {{directory: PATH}}, got {_show(value)}"
        )
    return {name: _text(place) for name, place in value.items()}


def _digests(value: Any) -> dict[str, str]:
    for version, digest in value.items():
        if not isinstance(version, str) or not _DIGEST.fullmatch(str(digest)):
            raise Invalid(
                f"expected versions in quotes with sha256:... each, got {_show({version: digest})}"
            )
    return dict(value)


_days = _integer(0, 3650)
_email = _matching(_EMAIL, "an e-mail address")
_version = _matching(_VERSION, "a version such as 0.12.4")

FIELDS: dict[str, Field] = {
    "organization": Field(_text, required=True),
    "server": Field(_text, required=True),
    "domain": Field(_matching(_DOMAIN, "a lowercase host name such as chat.example.com")),
    "port": Field(_integer(1024, 65535)),
    "plan": Field(_text),
    "ring": Field(_name, in_plan=True),
    "models": Field(_models, in_plan=True),
    "spending_limit": Field(_limit, default=1000.0, in_plan=True),
    "limit_reset": Field(
        _choice("daily", "weekly", "monthly", "never"), default="monthly", in_plan=True
    ),
    "key_lifetime_days": Field(_lifetime, in_plan=True),
    "key_renew_days": Field(_number(1, 365, "days"), default=7, in_plan=True),
    "admin_email": Field(_email, required=True),
    "billing_email": Field(_email),
    "markup": Field(_number(0, 100, "a factor"), default=1.3, in_plan=True),
    "display_name": Field(_text),
    "version": Field(_version, in_plan=True),
    "memory": Field(_matching(_MEMORY, "a size such as 768m or 1g"), default="1g", in_plan=True),
    "cpus": Field(_number(0.1, 64, "a number of CPUs"), default=1.0, in_plan=True),
    "state": Field(_choice("present", "suspended", "absent"), default="present"),
    "instance": Field(_choice("webui", "none"), default="webui", in_plan=True),
    "volume": Field(_matching(_VOLUME, "the name of a volume of Docker's")),
    "env": Field(_env, in_plan=True),
    "foreign_keys": Field(_choice("report", "keep", "adopt", "revert"), in_plan=True),
    "volume_hold_days": Field(_days, in_plan=True),
}

#: Options of fleet.yml that have a rule beyond their type.
OPTIONS: dict[str, Callable[[Any], Any]] = {
    "fleet": _name,
    "openrouter_url": _matching(_URL, "an address such as https://openrouter.ai/api/v1"),
    "directory": _matching(re.compile(r"/[^\s]*[^\s/]"), "an absolute path"),
    "version": _version,
    "image": _with_version,
    "image_archive": _with_version,
    "image_digests": _digests,
    "first_port": _integer(1024, 65535),
    "subnets": _network,
    "lock": _lock,
    "volume_hold_days": _days,
}


def check_options(values: Mapping[str, Any], known: Iterable[str], where: str) -> list[Problem]:
    """What is wrong with fleet.yml.

    :param values: the options with their defaults, and whatever else the file says
    :param known: all names of options
    """
    known = list(known)
    problems = [
        Problem(
            f"unknown option {name}",
            f"{where}: {name}",
            did_you_mean(str(name), known) or f"known options: {', '.join(known)}",
        )
        for name in values
        if name not in known
    ]
    for name, check in OPTIONS.items():
        if values[name] is None:
            continue
        try:
            check(values[name])
        except Invalid as error:
            problems.append(Problem(str(error), f"{where}: {name}"))
    return problems


def check_schema(data: Mapping[str, Any], where: str, client: str = "") -> list[Problem]:
    """Is this file written for this release?"""
    found = data.get("schema")
    if found == SCHEMA and not isinstance(found, bool):
        return []
    if found is None:
        what, todo = "the schema version is missing", f"add the line: schema: {SCHEMA}"
    elif isinstance(found, int) and found > SCHEMA:
        what = f"schema {found} is newer than this release of mai.fleet knows ({SCHEMA})"
        todo = "update the collection"
    else:
        what, todo = f"unknown schema {_show(found)}", f"write: schema: {SCHEMA}"
    return [Problem(what, f"{where}: schema", todo, client)]


def _check_fields(
    data: Mapping[str, Any], allowed: Iterable[str], where: str, client: str
) -> tuple[dict[str, Any], list[Problem]]:
    known = list(allowed)
    values: dict[str, Any] = {}
    problems = []
    for name, value in data.items():
        if name == "schema":
            continue
        if name not in known:
            todo = did_you_mean(str(name), known) or f"known fields: {', '.join(known)}"
            problems.append(Problem(f"unknown field {name}", f"{where}: {name}", todo, client))
        elif value is None:
            problems.append(
                Problem(
                    "the field is empty", f"{where}: {name}", "give a value or remove it", client
                )
            )
        else:
            try:
                values[name] = FIELDS[name].check(value)
            except Invalid as error:
                problems.append(Problem(str(error), f"{where}: {name}", client=client))
    return values, problems


def read_plans(data: Any, where: str) -> tuple[dict[str, dict[str, Any]], list[Problem]]:
    """The plans by name. Any problem in them concerns the whole fleet."""
    if not isinstance(data, dict) or not isinstance(data.get("plans"), dict):
        return {}, [Problem("expected schema and plans", where, "see the example inventory")]
    problems = check_schema(data, where)
    for name in set(data) - {"schema", "plans"}:
        todo = "the fields of a plan stand below plans and its name"
        problems.append(Problem(f"unknown field {name}", f"{where}: {name}", todo))
    plans: dict[str, dict[str, Any]] = {}
    for name, content in data["plans"].items():
        place = f"{where}: plans.{name}"
        if not isinstance(name, str) or not is_name(name):
            problems.append(Problem(f"bad plan name {_show(name)}", place, f"use {NAME_RULE}"))
            continue
        if not isinstance(content, dict):
            problems.append(Problem("expected fields and values", place))
            continue
        allowed = [field for field, rule in FIELDS.items() if rule.in_plan]
        plans[name], found = _check_fields(content, allowed, place, "")
        problems += found
    return plans, problems


def resolve(
    name: str,
    data: Any,
    where: str,
    plans: Mapping[str, Mapping[str, Any]],
    servers: Iterable[str],
    version: str = DEFAULT_VERSION,
) -> tuple[dict[str, Any], list[Problem]]:
    """One client with its plan's and our defaults filled in, and what is wrong with it.

    The first element is meaningful only when there are no problems. ``spending_limit`` is USD or
    None for unlimited.
    """
    if name == DUE or not is_name(name):
        todo = f"{DUE} has a meaning in fleet_select" if name == DUE else NAME_RULE
        return {}, [Problem("bad client name", where, f"rename the file: {todo}", name)]
    if not isinstance(data, dict):
        return {}, [Problem("expected fields and values", where, client=name)]
    problems = check_schema(data, where, name)
    own, found = _check_fields(data, FIELDS, where, name)
    problems += found
    plan: Mapping[str, Any] = {}
    if "plan" in own and own["plan"] not in plans:
        todo = did_you_mean(own["plan"], plans) or f"known plans: {', '.join(plans) or 'none'}"
        problems.append(Problem(f"unknown plan {own['plan']}", f"{where}: plan", todo, name))
    elif "plan" in own:
        plan = plans[own["plan"]]
    # Of a client that goes, whose file may be written anew for that, nobody signs in any more.
    optional = ("admin_email",) if own.get("state") == "absent" else ()
    for field, rule in FIELDS.items():
        if rule.required and field not in data and field not in optional:
            problems.append(Problem("the field is missing", f"{where}: {field}", client=name))
    known = list(servers)
    if "server" in own and own["server"] not in known:
        todo = did_you_mean(own["server"], known) or (
            f"servers in the inventory so far: {', '.join(known) or 'none'}; "
            "the source that lists the servers has to come before fleet.yml"
        )
        problems.append(Problem(f"unknown server {own['server']}", f"{where}: server", todo, name))
    if problems:
        return {}, problems
    client = {field: rule.default for field, rule in FIELDS.items()}
    client.update(plan)
    client.update(own)
    client["env"] = {**plan.get("env", {}), **own.get("env", {})}
    client["models"] = client["models"] or DEFAULT_MODELS
    client["version"] = client["version"] or version
    client["billing_email"] = client["billing_email"] or client["admin_email"]
    client["display_name"] = client["display_name"] or client["organization"]
    client["name"] = name
    client["file"] = where
    if client["key_lifetime_days"] and client["key_lifetime_days"] <= client["key_renew_days"]:
        what = (
            f"a key of {client['key_lifetime_days']:g} days would be replaced at once, because "
            f"that is done {client['key_renew_days']:g} days before its end"
        )
        todo = "give key_renew_days fewer days than key_lifetime_days"
        return {}, [Problem(what, f"{where}: key_renew_days", todo, name)]
    return client, []


def clashes(clients: Mapping[str, Mapping[str, Any]]) -> list[Problem]:
    """Two clients that want the same domain, or the same port or volume of one server."""
    problems = []
    seen: dict[tuple[str, ...], str] = {}
    for name, client in clients.items():
        if client["state"] == "absent" or client["instance"] == "none":
            continue
        wants: dict[str, tuple[str, ...]] = {}
        if client["domain"]:
            wants["domain"] = ("domain", client["domain"])
        wants["volume"] = ("volume", client["server"], client["volume"] or f"{name}_data")
        if client["port"]:
            wants["port"] = ("port", client["server"], str(client["port"]))
        for field, claim in wants.items():
            other = seen.setdefault(claim, name)
            if other != name:
                problems.append(
                    Problem(
                        f"{field} {claim[-1]} is also client {other}'s",
                        f"{client['file']}: {field}",
                        f"give {name} or {other} another {field}",
                    )
                )
    return problems
