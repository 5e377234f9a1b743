# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the mai.fleet collection
"""Whose key it is that stands in an instance's connection to OpenRouter.

A client's administrator can type any key there. Only fingerprints are compared, so that a server
can tell without knowing the secret of anybody else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum

from ansible_collections.mai.fleet.plugins.module_utils._reconcile.changes import fingerprint_of
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.records import Record


class Whose(str, Enum):
    """:cvar NOBODYS: there is no key"""

    CURRENT = "the client's key"
    FORMER = "a former key of the client"
    NEIGHBOURS = "another client's key"
    FOREIGN = "a foreign key"
    NOBODYS = "no key"


def classify(found: str, client: str, current: str, owners: Mapping[str, str]) -> Whose:
    """Whose key has the fingerprint ``found``.

    :param current: fingerprint of the client's key
    :param owners: clients by the fingerprints of all keys of the fleet, former ones too
    """
    if not found:
        return Whose.NOBODYS
    if found == current:
        return Whose.CURRENT
    owner = owners.get(found)
    if owner is None:
        return Whose.FOREIGN
    return Whose.FORMER if owner == client else Whose.NEIGHBOURS


def owners(records: Iterable[Record], living: Mapping[str, Iterable[str]]) -> dict[str, str]:
    """Whose the fleet's keys are, by fingerprint.

    :param living: hashes or fingerprints of further keys, by client
    """
    known: dict[str, str] = {}
    for client, keys in living.items():
        known.update({_fingerprint(key): client for key in keys})
    for record in records:
        hashes = [record.key_hash, *(former.hash for former in record.former)]
        known.update({fingerprint_of(key_hash): record.client for key_hash in hashes if key_hash})
    return known


def _fingerprint(key: str) -> str:
    return key if key.startswith("sha256:") else fingerprint_of(key)
