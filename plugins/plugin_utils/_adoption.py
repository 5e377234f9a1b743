# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the mai.fleet collection
"""From an instance as it was found to a client: its file, its record, its secrets, its key."""

from __future__ import annotations

import contextlib
import ipaddress
import re
import secrets as random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import yaml
from ansible_collections.mai.fleet.plugins.module_utils._api.openrouter import (
    Guardrail,
    Key,
    OpenRouter,
)
from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError
from ansible_collections.mai.fleet.plugins.module_utils._fleet.catalog import Catalog
from ansible_collections.mai.fleet.plugins.module_utils._fleet.environment import (
    MANAGED,
    build,
    usd,
)
from ansible_collections.mai.fleet.plugins.module_utils._fleet.names import (
    KeyName,
    external_user,
    guardrail_name,
)
from ansible_collections.mai.fleet.plugins.module_utils._fleet.schema import FIELDS, SCHEMA
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.adoption import Kind, Match
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.caps import (
    spent_before,
    window_start,
)
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.changes import Changes
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.records import (
    Attempt,
    Former,
    Record,
    Why,
    now,
    stamp,
    succeeded,
)
from ansible_collections.mai.fleet.plugins.module_utils._secrets import fingerprint_of, sha256
from ansible_collections.mai.fleet.plugins.plugin_utils._store import Store

#: Variables whose values are written encrypted, as an operator would have.
_SECRETIVE = re.compile(r"KEY|SECRET|PASSWORD|TOKEN|CREDENTIAL", re.IGNORECASE)

_SUBNET = 16


@dataclass(frozen=True)
class Holdings:
    """What there is at OpenRouter for a client that is adopted.

    :ivar guardrail: the one around its key
    :ivar alone: whether that is around no other key
    :ivar others: living keys that bear the client's name besides its own
    """

    key: Key
    guardrail: Guardrail | None
    alone: bool
    others: list[Key]


@dataclass
class Adoption:
    """:ivar content: of the client's file

    :ivar notes: what did not come along
    """

    content: dict[str, Any]
    record: Record
    secrets: dict[str, str]
    notes: list[str] = field(default_factory=list)


class Vaulted(str):
    """A text that is written with ``!vault``."""


class _Dumper(yaml.SafeDumper):
    pass


_Dumper.add_representer(
    Vaulted, lambda dumper, text: dumper.represent_scalar("!vault", str(text), style="|")
)


def file_text(content: Mapping[str, Any]) -> str:
    return str(
        yaml.dump(dict(content), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1000)
    )


class Adopter:
    """:param config: of the fleet"""

    def __init__(self, config: Mapping[str, Any], store: Store, catalog: Catalog) -> None:
        self._config = config
        self._store = store
        self._catalog = catalog

    def prepare(
        self, match: Match, row: Mapping[str, Any], secret: Mapping[str, Any], held: Holdings
    ) -> Adoption:
        """All that is to be written, and nothing written yet.

        :param secret: what was sealed of the instance
        :raises FleetError: something is missing without which there is no client
        """
        env = {**secret["environment"], **secret["dotenv"]}
        ours = match.kind is Kind.OURS
        notes: list[str] = []
        capped = cap(held.key, env if ours else {})
        organization = env.get("ORGANIZATION_NAME") or _called(env) or match.client
        content: dict[str, Any] = {
            "schema": SCHEMA,
            "organization": organization,
            "server": match.server,
            "admin_email": env.get("WEBUI_ADMIN_EMAIL") if ours else row["admin_email"],
            "models": self._models(match, secret, env, held, notes),
            **capped,
            "version": row["version"],
        }
        if row["port"]:
            content["port"] = row["port"]
        shown = _called(env)
        if shown and shown != organization:
            content["display_name"] = shown
        domain = re.fullmatch(r"https://([a-z0-9.-]+)/?", row["webui_url"])
        if domain:
            content["domain"] = domain[1]
        if held.key.disabled:
            content["state"] = "suspended"
        if row["volume"] != f"{match.client}_data":
            content["volume"] = row["volume"]
        record = self._record(match, content, env, held)
        secrets = self._secrets(match, secret, env)
        if ours:
            gone = lost_spending(held, content["spending_limit"])
            record = replace(record, former=[*record.former, *gone])
            record = self._like_before(record, content, secret, env, secrets)
        else:
            notes += _lost(secret)
        notes += ahead(held.key, capped["spending_limit"], ours)
        rail, wanted = held.guardrail, guardrail_name(self._config["name"], match.client)
        if rail is not None and not held.alone and rail.name != wanted:
            notes.append(
                f"the guardrail {rail.name} is around other keys too: mai.fleet.site gives its key "
                "one of its own"
            )
        return Adoption(content, record, secrets, notes)

    def _record(
        self, match: Match, content: Mapping[str, Any], env: Mapping[str, str], held: Holdings
    ) -> Record:
        mark = KeyName.parse(held.key.name)
        record = self._store.record(match.client) or Record(
            client=match.client,
            server=match.server,
            organization=str(content["organization"]),
            external_user=env.get("OPENROUTER_EXTERNAL_USER")
            or external_user(self._config["name"], match.client),
        )
        at = stamp(now())
        # A key of the client's that still works may be in use: that is for a person to decide.
        former = [
            Former(key.hash, key.name, Why.REPLACED, since=at)
            for key in held.others
            if key.disabled and not record.former_key(key.hash)
        ]
        return replace(
            record,
            domain=str(content.get("domain", "")),
            port=int(content.get("port", 0)),
            generation=mark.generation if mark else max(record.generation, 1),
            key_hash=held.key.hash,
            former=[*record.former, *former],
            state=str(content.get("state", "present")),
            # The administrator has had a password for long.
            handed_over=record.handed_over or at,
        )

    def _secrets(
        self, match: Match, secret: Mapping[str, Any], env: Mapping[str, str]
    ) -> dict[str, str]:
        """What is stored already, with the key's secret, and what the instance goes on with."""
        held = [*(one["key"] for one in secret["connections"]), *secret["keys"]]
        key = next(one for one in held if one and sha256(one) == match.key_hash)
        stored = self._store.secrets(match.client)
        found = {
            "webui_secret_key": secret["secret_key"],
            "admin_password": env.get("WEBUI_ADMIN_PASSWORD", ""),
        }
        kept = {name: value for name, value in found.items() if value}
        same = stored.get("api_key") == key
        return {**kept, **(stored if same else succeeded(stored, key))}

    def _models(
        self,
        match: Match,
        secret: Mapping[str, Any],
        env: Mapping[str, str],
        held: Holdings,
        notes: list[str],
    ) -> list[str]:
        """The allowlist, in the order in which people see it.

        :raises FleetError: there is none
        """
        used = [one for one in secret["connections"] if sha256(one["key"]) == match.key_hash]
        listed: list[str] = used[0]["model_ids"] if used else []
        if match.kind is Kind.OURS:
            sold = env.get("OPENROUTER_ALLOWED_MODELS", "")
            return sold.split(",") if sold else listed
        known = [model for model in listed if model in self._catalog]
        fence = held.guardrail.allowed_models if held.guardrail else None
        if fence is not None:
            first = [model for model in known if self._catalog[model].canonical in fence]
            rest = set(fence) - {self._catalog[model].canonical for model in first}
            more = {slug: self._catalog.id_of(slug) for slug in fence if slug in rest}
            models = [*first, *(model for model in more.values() if model)]
            notes += [f"{slug} has left OpenRouter" for slug, model in more.items() if not model]
        else:
            models = known
            if known:
                notes.append("its key has no guardrail yet; the models of its connection become it")
        if not models:
            raise FleetError(
                "neither a guardrail around its key nor its connection says which models it has",
                todo="give its key a guardrail with the models that it was sold, and run again",
            )
        return models

    def _like_before(
        self,
        record: Record,
        content: dict[str, Any],
        secret: Mapping[str, Any],
        env: Mapping[str, str],
        secrets: Mapping[str, str],
    ) -> Record:
        """What makes the client's files come out as they are: nothing is to be recreated."""
        compose = _compose(secret["compose"])
        service = compose["services"]["webui"]
        content["memory"] = str(service["mem_limit"])
        content["cpus"] = service["cpus"]
        subnet = compose["networks"]["default"]["ipam"]["config"][0]["subnet"]
        base = ipaddress.IPv4Network(self._config["subnets"]).network_address
        first = ipaddress.IPv4Network(subnet).network_address
        client = {field: rule.default for field, rule in FIELDS.items()}
        limit = content["spending_limit"]
        client.update(content, spending_limit=None if limit == "unlimited" else limit)
        client["display_name"] = content.get("display_name") or content["organization"]
        usual = build(
            client,
            {"admin_password": "", "webui_secret_key": "", **secrets},
            openrouter_url=self._config["openrouter_url"],
            external_user=record.external_user,
            port=record.port,
            models=content["models"],
            extra={},
        )
        extra = {
            name: self._written(name, value)
            for name, value in secret["dotenv"].items()
            if name not in MANAGED and usual.get(name) != value
        }
        if extra:
            content["env"] = extra
        return replace(record, slot=(int(first) - int(base)) // _SUBNET)

    def _written(self, name: str, value: str) -> str:
        return Vaulted(self._store.encrypt_value(value)) if _SECRETIVE.search(name) else value

    def take_over(self, api: OpenRouter, adoption: Adoption, held: Holdings) -> None:
        """The key and its guardrail get the fleet's mark, and secrets and record are stored.

        A run that is cut off is gone on with by the next one, which finds the key by its hash. The
        client's file comes last: without it there is no client.
        """
        record = adoption.record
        fleet, client = self._config["name"], record.client
        if KeyName.parse(held.key.name) is None:
            name = KeyName(fleet, client, record.generation, random.token_hex(4))
            attempt = Attempt(str(name), stamp(now()))
            self._save(replace(record, attempts=[*record.attempts, attempt]), adoption.secrets)
            Changes(api, self._store, client).update_key(held.key.hash, {"name": str(name)})
        self._save(record, adoption.secrets)
        wanted = guardrail_name(fleet, client)
        rail = held.guardrail
        if rail is not None and held.alone and rail.name != wanted:
            Changes(api, self._store, client).rename_guardrail(rail, wanted)
        self._store.note(client, "adopt", "done", key=fingerprint_of(held.key.hash))

    def _save(self, record: Record, secrets: Mapping[str, str]) -> None:
        if self._store.secrets(record.client) != secrets:
            self._store.save_secrets(record.client, secrets)
        self._store.save_record(record)


def lost_spending(held: Holdings, sold: Any) -> list[Former]:
    """What deleted keys had spent of the cap, as an entry of the record.

    The record that knew is lost. The key's own cap is what others had left of the one that was
    sold, and what those spent that are not deleted OpenRouter says itself.
    """
    key = held.key
    if key.limit is None or not isinstance(sold, (int, float)):
        return []
    at = now()
    reset = key.limit_reset
    spent = round(sold - key.limit - spent_before([], held.others, reset, at), 6)
    if spent <= 0:
        return []
    start = window_start(reset, at)
    return [
        Former(
            hash="",
            name="",
            why=Why.REPLACED,
            since=stamp(at),
            deleted=stamp(at),
            spent=spent,
            start=stamp(start) if start else "",
        )
    ]


def _called(env: Mapping[str, str]) -> str:
    name = env.get("WEBUI_NAME", "").strip()
    return "" if name == "Open WebUI" else name


def cap(key: Key, env: Mapping[str, str]) -> dict[str, Any]:
    """The cap as the client's file says it. A remainder is on the key; what was sold is not.

    :raises FleetError: one has a cap and the other has none, which nobody can decide here
    """
    sold: Any = "unlimited" if key.limit is None else key.limit
    said = env.get("SPENDING_LIMIT", "")
    if said and (said == "unlimited") != (key.limit is None):
        raise FleetError(
            f"its .env says that a cap of {said} was sold, and at OpenRouter its key's is "
            f"{_money(key.limit)}",
            todo="give the key at OpenRouter the cap that was sold, with its reset, and run again",
        )
    with contextlib.suppress(ValueError):
        sold = float(said)
    if isinstance(sold, float) and sold.is_integer():
        sold = int(sold)
    return {"spending_limit": sold, "limit_reset": key.limit_reset}


def _money(limit: float | None) -> str:
    return "unlimited" if limit is None else f"{usd(limit)} USD"


def ahead(key: Key, sold: Any, ours: bool) -> list[str]:
    """What the client's key is, that an operator may not expect or want."""
    notes = []
    if key.limit is None and not ours:
        notes.append(
            "its key has no cap, and may spend all of the account's credit; if that is not what "
            "was sold, put spending_limit and limit_reset into its file"
        )
    if key.limit is not None and key.limit > sold:
        notes.append(
            f"its key's cap is {_money(key.limit)}, and {usd(sold)} USD were sold: mai.fleet.site "
            "puts that back"
        )
    if key.expires_at:
        notes.append(
            f"its key ends at {key.expires_at}: mai.fleet.site replaces it ahead of that, by one "
            "without an end unless key_lifetime_days is put into its file"
        )
    return notes


def _compose(text: str) -> dict[str, Any]:
    try:
        compose = yaml.safe_load(text)
        webui, network = compose["services"]["webui"], compose["networks"]["default"]
        if not (webui["mem_limit"] and webui["cpus"] and network["ipam"]["config"][0]["subnet"]):
            raise KeyError
        return dict(compose)
    except (yaml.YAMLError, KeyError, TypeError, IndexError):
        raise FleetError(
            "its compose.yml is not as this collection writes it",
            todo="write the client's file by hand; mai.fleet.site puts its secrets back",
        ) from None


def _lost(secret: Mapping[str, Any]) -> list[str]:
    """What a container of the collection's own will not have any more."""
    notes = []
    extra = sorted(set(secret["variables"]) - MANAGED - {"OPENROUTER_API_KEY"})
    if extra:
        notes.append(
            f"these variables are not taken over, put them into the client's env if they matter: "
            f"{', '.join(extra)}"
        )
    if not secret["secret_key"]:
        notes.append("its secret key is not known: everybody has to sign in again")
    return notes
