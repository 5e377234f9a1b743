# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the mai.fleet collection
"""Reconciles what Open WebUI keeps in its own database, through its admin API and while it runs.

After an instance's first start its database decides, not its environment. The fleet owns there: its
connection, the sharing of its models, its two accounts, that strangers cannot sign up, the public
URL and the notice of a suspension. All else is the client's.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any

from ansible_collections.mai.fleet.plugins.module_utils._api.openwebui import (
    EVERYBODY,
    Connection,
    ModelRow,
    OpenWebUI,
    Provider,
)
from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError, Unreachable
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.accounts import (
    MISSING,
    PROBE,
    SERVICE,
    Doorman,
    Instance,
    Owner,
    exists,
)
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.ownership import (
    REPORT,
    Custody,
    Whose,
    classify,
)
from ansible_collections.mai.fleet.plugins.module_utils._rows import Row
from ansible_collections.mai.fleet.plugins.module_utils._secrets import fingerprint

# In the `meta` of a model's row that we made; holds the name that we gave it.
_MARK = "mai_fleet"
_BANNER = "mai.fleet.suspended"
# Settings that Open WebUI's own form may add to a connection, with the values that suit ours.
_PLAIN = {
    "auth_type": (None, "bearer"),
    "provider": (None, "", "openai"),
    "api_type": (None, "", "chat_completions"),
    "azure": (None, False),
}


@dataclass(frozen=True)
class Settings:
    """What one client's instance shall have.

    :param names: name to show, by model id
    :param retired: model ids that the client once had from us
    :param custody: says what becomes of a key that somebody else typed into our connection
    :param notice: what users of a suspended client read
    :param starts: whether the instance, in check mode, would be running by now
    """

    url: str
    key: str = field(repr=False)
    model_ids: list[str]
    tags: list[str]
    names: dict[str, str]
    retired: list[str]
    webui_url: str
    suspended: bool
    notice: str
    starts: bool = False
    custody: Custody = field(default_factory=Custody)


@dataclass(frozen=True)
class State:
    """The part of an instance's settings that we look at."""

    provider: Provider = field(default_factory=lambda: Provider(enabled=False, connections=()))
    rows: dict[str, ModelRow] = field(default_factory=dict)
    admin_config: dict[str, Any] = field(default_factory=dict)
    banners: list[dict[str, Any]] = field(default_factory=list)


def reconcile(instance: Instance, settings: Settings, owner: Owner, check: bool) -> Row:
    """Make one client's instance have its settings. Never raises a :class:`FleetError`."""
    row = Row()
    doorman = Doorman(instance, None if check else owner)
    access = doorman.access
    try:
        _require(instance, settings, check)
        access = doorman.open()
        old = State() if access.admin is None else read(access.admin)
        found, whose = found_key(instance.client, settings, old.provider)
        new = wanted(settings, old, instance.now, settings.custody.stays(whose))
        row.before = _view(access.claimed, access.roles, settings, old if access.admin else None)
        row.after = _view(True, _healthy(), settings, new)
        row.changed = old != new
        if not check and access.admin is not None:
            apply(access.admin, old, new)
        judge(row, instance.client, settings, found, whose)
    except FleetError as error:
        if check and isinstance(error, Unreachable) and not exists(instance):
            row.changed = True
            row.after = _view(True, _healthy(), settings, wanted(settings, State(), instance.now))
            row.before = dict.fromkeys(row.after)
        elif check and isinstance(error, Unreachable) and settings.starts:
            row.warnings.append(
                "the instance does not run yet, so nobody knows what would change in its settings"
            )
        else:
            row.error = instance.explain(error)
    row.changed |= access.changed or (check and access.lacking)
    if access.made:
        row.more["accounts"] = access.made
    if row.changed and row.before:
        row.diff = [_diff(instance.client, row)]
    return row


def read(api: OpenWebUI) -> State:
    return State(
        provider=api.provider(),
        rows={row.id: row for row in api.model_rows()},
        admin_config=api.admin_config(),
        banners=api.banners(),
    )


def wanted(settings: Settings, old: State, now: int, keep_key: bool = False) -> State:
    """``old`` with our part as it shall be and everything else as it was.

    :param keep_key: leave the key of our connection as it is
    """
    provider = _with_our_connection(settings, old.provider, keep_key)
    return State(
        provider=provider,
        rows=_with_our_rows(settings, old.rows, provider),
        admin_config=_with_our_config(settings, old.admin_config),
        banners=_with_our_banner(settings, old.banners, now),
    )


def apply(api: OpenWebUI, old: State, new: State) -> None:
    """Write what differs. What closes a door comes first."""
    if new.admin_config != old.admin_config:
        api.set_admin_config(new.admin_config)
    if new.provider != old.provider:
        api.set_provider(old.provider, new.provider)
    for model_id in old.rows.keys() - new.rows.keys():
        api.delete_model_row(model_id)
    for model_id, row in new.rows.items():
        there = old.rows.get(model_id)
        if there is None:
            api.create_model_row(row)
            continue
        if replace(there, grants=row.grants) != row:
            api.update_model_row(row)
        if there.grants != row.grants:
            api.share_model(model_id, row.grants)
    if _listed(new) != _listed(old):
        api.models()  # What is stored by now is what chats go by.
    if new.banners != old.banners:
        api.set_banners(new.banners)


def _listed(state: State) -> tuple[Provider, dict[str, ModelRow]]:
    """What Open WebUI makes its list of models of: everything but the keys."""
    connections = tuple(replace(one, key="") for one in state.provider.connections)
    return replace(state.provider, connections=connections), state.rows


def our_connection(
    connections: tuple[Connection, ...], url: str, key_fingerprint: str, tags: list[str]
) -> int | None:
    """The index of the connection that is ours, by its URL; a client may add one of its own to the
    same place. Our key proves a connection ours wherever it leads."""

    def likeness(index: int) -> tuple[bool, bool, bool]:
        one = connections[index]
        ours = bool(one.key) and fingerprint(one.key) == key_fingerprint
        return ours, _same_url(one.url, url) and _tags(one) == tags, _same_url(one.url, url)

    candidates = [index for index in range(len(connections)) if any(likeness(index))]
    return max(candidates, key=lambda index: (likeness(index), -index), default=None)


def drift(connection: Connection, url: str, model_ids: list[str], tags: list[str]) -> list[str]:
    """What of our connection is not as it shall be, its key aside. Empty: nothing.

    The order of the models is the client's to choose.
    """
    config = connection.config
    wrong = {
        "URL": connection.url != url,  # a slash at its end makes Open WebUI ask for `//models`
        "switched off": not connection.enabled,
        "models": sorted(connection.model_ids) != sorted(model_ids),
        "tags": _tags(connection) != tags,
        "type": config.get("connection_type", "external") != "external",
        "prefix": bool(config.get("prefix_id")),
        **{name: config.get(name) not in good for name, good in _PLAIN.items()},
    }
    return [name for name, is_wrong in wrong.items() if is_wrong]


def _require(instance: Instance, settings: Settings, check: bool) -> None:
    where = f"{instance.client}: option"
    if not settings.model_ids:
        # Open WebUI takes an empty list for "every model of the provider".
        raise FleetError("expected at least one model", f"{where} connection.model_ids")
    if not settings.key and not check:
        raise FleetError(
            "there is no key for the connection",
            f"{where} secrets, field api_key",
            "run the keys stage first",
        )


def found_key(client: str, settings: Settings, provider: Provider) -> tuple[str, Whose]:
    """The fingerprint of the key in our connection, and whose it is."""
    ours = fingerprint(settings.key)
    index = our_connection(provider.connections, settings.url, ours, settings.tags)
    key = provider.connections[index].key if index is not None else ""
    found = fingerprint(key) if key else ""
    return found, classify(found, client, ours, settings.custody.owners)


def judge(row: Row, client: str, settings: Settings, found: str, whose: Whose) -> None:
    """What is to be said of a key that somebody else typed in."""
    custody = settings.custody
    if row.changed and whose in (Whose.NEIGHBOURS, Whose.FOREIGN) and not custody.stays(whose):
        row.more["replaced_key"] = {"found": found, "whose": whose.value}
    if whose is Whose.NEIGHBOURS:
        # The client's own key is there again by now, and yet a person has to know.
        row.error = custody.breach(client, found)
    elif whose is Whose.FOREIGN:
        error = custody.foreign(client, found)
        if custody.policy == REPORT:
            row.error = error
        else:
            row.warnings.append(f"{error.what}; foreign_keys: {custody.policy}")


def _with_our_connection(settings: Settings, provider: Provider, keep_key: bool) -> Provider:
    connections = list(provider.connections)
    found = our_connection(
        provider.connections, settings.url, fingerprint(settings.key), settings.tags
    )
    if found is None:
        connections.append(_connection(settings, {}))
    else:
        there = connections[found]
        if drift(there, settings.url, settings.model_ids, settings.tags):
            there = _connection(settings, there.config)
        connections[found] = replace(
            there, key=provider.connections[found].key if keep_key else settings.key
        )
    return Provider(enabled=True, connections=tuple(connections))


def _connection(settings: Settings, config: dict[str, Any]) -> Connection:
    kept = {name: value for name, value in config.items() if name not in _PLAIN}
    ours = {
        "enable": True,
        "model_ids": settings.model_ids,
        "tags": [{"name": tag} for tag in settings.tags],
        "connection_type": "external",
        "prefix_id": "",
    }
    return Connection(settings.url, settings.key, {**kept, **ours})


def _with_our_rows(
    settings: Settings, rows: dict[str, ModelRow], provider: Provider
) -> dict[str, ModelRow]:
    kept = {
        model_id: row
        for model_id, row in rows.items()
        if model_id in settings.model_ids or not _is_leftover(settings, row, provider)
    }
    ours = {model_id: _shared(settings, model_id, rows) for model_id in settings.model_ids}
    return {**kept, **ours}


def _is_leftover(settings: Settings, row: ModelRow, provider: Provider) -> bool:
    if _MARK in row.meta:
        return True
    # Without our mark the row may by now be that of a client's own connection.
    return row.id in settings.retired and not any(
        _may_serve(one, row.id)
        for one in provider.connections
        if one.enabled and not _same_url(one.url, settings.url)
    )


def _may_serve(connection: Connection, model_id: str) -> bool:
    prefix = connection.config.get("prefix_id")
    ids = [f"{prefix}.{one}" if prefix else one for one in connection.model_ids]
    return model_id in ids or not ids


def _shared(settings: Settings, model_id: str, rows: dict[str, ModelRow]) -> ModelRow:
    name = settings.names.get(model_id, model_id)
    row = rows.get(model_id)
    if row is None:
        return ModelRow(model_id, name, meta={_MARK: {"name": name}})
    row = replace(row, active=True, grants=row.grants | {EVERYBODY})
    given = (row.meta.get(_MARK) or {}).get("name", model_id)
    if row.name == given and name != given:
        # Still the name that we gave it: the client has not chosen one.
        row = replace(row, name=name, meta={**row.meta, _MARK: {"name": name}})
    return row


def _with_our_config(settings: Settings, config: dict[str, Any]) -> dict[str, Any]:
    return {**config, "ENABLE_SIGNUP": False, "WEBUI_URL": settings.webui_url}


def _with_our_banner(
    settings: Settings, banners: list[dict[str, Any]], now: int
) -> list[dict[str, Any]]:
    others = [banner for banner in banners if banner.get("id") != _BANNER]
    if not settings.suspended:
        return others
    ours = {
        "id": _BANNER,
        "type": "warning",
        "content": settings.notice,
        "dismissible": False,
    }
    for banner in banners:
        if {**banner, **ours} == banner:
            return banners
    return [*others, {**ours, "timestamp": now}]


def _view(
    claimed: bool, roles: dict[str, str], settings: Settings, state: State | None
) -> dict[str, Any]:
    """What a reader wants to know. None: nothing can be read yet."""
    view: dict[str, Any] = {
        "claimed": claimed,
        "service_account": roles.get(SERVICE.key, MISSING),
        "probe_account": roles.get(PROBE.key, MISSING),
        "sign_up": None,
        "url": None,
        "provider_enabled": None,
        "connection": None,
        "models": {},
        "notice": "",
    }
    if state is not None:
        ours = {*settings.model_ids, *settings.retired}
        view.update(
            sign_up="open" if state.admin_config.get("ENABLE_SIGNUP") else "closed",
            url=state.admin_config.get("WEBUI_URL"),
            provider_enabled=state.provider.enabled,
            connection=_connection_view(settings, state.provider),
            models={
                row.id: _row_view(row)
                for row in sorted(state.rows.values(), key=lambda row: row.id)
                if row.id in ours or _MARK in row.meta
            },
            notice=next((b["content"] for b in state.banners if b["id"] == _BANNER), ""),
        )
    return view


def _connection_view(settings: Settings, provider: Provider) -> dict[str, Any] | None:
    found = our_connection(
        provider.connections, settings.url, fingerprint(settings.key), settings.tags
    )
    if found is None:
        return None
    one = provider.connections[found]
    return {
        "url": one.url,
        "key": fingerprint(one.key) if one.key else "none",
        "models": sorted(one.model_ids),
        "tags": _tags(one),
        "enabled": one.enabled,
        "unsuitable": [
            name
            for name in drift(one, settings.url, settings.model_ids, settings.tags)
            if name in {"type", "prefix", *_PLAIN}
        ],
    }


def _row_view(row: ModelRow) -> str:
    flaws = [] if EVERYBODY in row.grants else ["not shared"]
    flaws += [] if row.active else ["switched off"]
    return ", ".join([row.name, *flaws])


def _healthy() -> dict[str, str]:
    return {account.key: account.role for account in (SERVICE, PROBE)}


def _tags(connection: Connection) -> list[str]:
    return [tag["name"] for tag in connection.config.get("tags") or [] if "name" in tag]


def _same_url(one: str, other: str) -> bool:
    return one.rstrip("/") == other.rstrip("/")


def _diff(client: str, row: Row) -> dict[str, str]:
    before, after = (
        json.dumps(view, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
        for view in (row.before, row.after)
    )
    header = f"{client}: Open WebUI's settings"
    return {"before_header": header, "after_header": header, "before": before, "after": after}
