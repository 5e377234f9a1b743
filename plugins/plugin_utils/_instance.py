# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the mai.fleet collection
"""What several stages have to agree upon about an instance."""

from __future__ import annotations

import contextlib
import secrets as random
import time
from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.mai.fleet.plugins.module_utils._api.openwebui import mint_token
from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.changes import has_failed
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.ownership import (
    REPORT,
    owners,
)
from ansible_collections.mai.fleet.plugins.plugin_utils._store import Store

#: Seconds. A token that has ended is minted anew without anybody noticing.
_TOKEN_LIFETIME = 90 * 24 * 3600

#: The secrets of an instance. Open WebUI refuses passwords of more than 72 bytes, silently: the
#: instance would come up unclaimed. 24 random bytes are 32 characters.
_SECRET_BYTES = {
    "webui_secret_key": 32,
    "admin_password": 24,
    "service_password": 24,
    "probe_password": 24,
}


def with_instance_secrets(stored: Mapping[str, str]) -> dict[str, str]:
    """What is stored, and a fresh secret for each that is missing."""
    fresh = {name: random.token_urlsafe(size) for name, size in _SECRET_BYTES.items()}
    return {**fresh, **stored}


def image_reference(config: Mapping[str, Any], version: str) -> str:
    """The image of a version, by digest where the inventory knows it, through the mirror if any."""
    reference = config["image"].format(version=version)
    if config["image_mirror"]:
        head, slash, rest = reference.partition("/")
        registry = slash and ("." in head or ":" in head or head == "localhost")
        reference = f"{config['image_mirror'].rstrip('/')}/{rest if registry else reference}"
    digest = config["image_digests"].get(version)
    return f"{reference}@{digest}" if digest else reference


def foreign_keys(client: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    """What becomes of a key that the client's administrator typed in."""
    return str(client["foreign_keys"] or config.get("foreign_keys") or REPORT)


def known_owners(store: Store, names: Iterable[str]) -> dict[str, str]:
    """Clients by the fingerprints of all keys of the fleet.

    Records have the keys that live; the journals of those who are named have all that ever did.
    """
    journals: dict[str, list[str]] = {}
    for name in names:
        with contextlib.suppress(FleetError):
            lines = store.verify_journal(name).lines
            # A key may be named as one that was to become the client's, and did not.
            done = [line for line in lines if not has_failed(line["result"])]
            journals[name] = [line["key"] for line in done if line.get("key")]
    records = []
    for name in store.records():
        with contextlib.suppress(FleetError):
            records.append(store.record(name))
    return owners([record for record in records if record], journals)


def keep_tokens(
    store: Store, payload: Mapping[str, Mapping[str, str]], rows: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Store tokens for the accounts that the server had to look up again.

    The server reports who the accounts are; the same tokens that it minted for itself are minted
    here, so that no token ever travels back.

    :returns: rows of the clients whose tokens could not be stored
    """
    broken: dict[str, dict[str, Any]] = {}
    now = int(time.time())
    for name, row in rows.items():
        tokens = {
            f"{account}_token": mint_token(
                payload[name]["webui_secret_key"], who["id"], who["stamp"], now, _TOKEN_LIFETIME
            )
            for account, who in row.get("accounts", {}).items()
        }
        if not tokens:
            continue
        try:
            store.save_secrets(name, {**store.secrets(name), **tokens})
        except FleetError as error:
            broken[name] = {"failed": True, "failure": error.failure()}
    return broken
