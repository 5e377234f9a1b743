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
from dataclasses import dataclass, field
from enum import Enum

from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.records import Record
from ansible_collections.mai.fleet.plugins.module_utils._secrets import fingerprint_of

#: What becomes of a foreign key: ``foreign_keys`` in client files, plans and fleet.yml.
REPORT, KEEP, ADOPT, REVERT = POLICIES = ("report", "keep", "adopt", "revert")


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


@dataclass(frozen=True)
class Custody:
    """What is known of the fleet's keys, and what becomes of others.

    :ivar owners: clients by the fingerprints of all keys of the fleet, former ones too
    :ivar policy: one of ``POLICIES``
    """

    owners: Mapping[str, str] = field(default_factory=dict)
    policy: str = REVERT

    def stays(self, whose: Whose) -> bool:
        return whose is Whose.FOREIGN and self.policy != REVERT

    def breach(self, client: str, found: str) -> FleetError:
        owner = self.owners[found]
        return FleetError(
            f"isolation breach: the connection to OpenRouter holds the key {found} of client "
            f"{owner}, so {client} spends what {owner} was sold",
            f"{client}: Open WebUI's connections",
            f"find out how it came there; mai.fleet.site -e fleet_select={client} puts {client}'s "
            f"own key back; give {owner} another key: mai.fleet.rotate -e fleet_select={owner}",
        )

    def foreign(self, client: str, found: str) -> FleetError:
        return FleetError(
            f"the connection to OpenRouter holds the key {found}, which is none of this fleet's",
            f"{client}: Open WebUI's connections",
            "ask the client's administrator; then let the client's field foreign_keys say what "
            "becomes of it: keep, adopt or revert",
        )


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
