# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the mai.fleet collection
"""Which store the secrets are in now, whatever ``fleet.yml`` says.

Without this, a run after a change of ``fleet.yml`` would find an empty store and make new keys for
everybody. ``state/secret-store`` says it, in clear, but for a fleet that has always kept Ansible
Vault files in ``secrets/``.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible_collections.mai.fleet.plugins.module_utils._atomic import write_atomically
from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError
from ansible_collections.mai.fleet.plugins.module_utils._fleet.stores import check_store
from ansible_collections.mai.fleet.plugins.plugin_utils._secret_stores.base import SecretStore
from ansible_collections.mai.fleet.plugins.plugin_utils._secret_stores.opening import (
    Settings,
    base,
    described,
    same_place,
    settings,
)

_SCHEMA = 1
_FIRST: Settings = {"type": "vault_files", "directory": "secrets"}
_COMMAND = "ansible-playbook mai.fleet.move_secrets"


@dataclasses.dataclass(frozen=True)
class Whereabouts:
    """:param store: where the secrets are: the truth
    :param to: where a move that is under way goes
    :param copied: the clients whose copies there are that move's
    :param left: where a move that is nearly done has still to remove its copies
    """

    store: Settings
    to: Settings | None = None
    copied: tuple[str, ...] = ()
    left: Settings | None = None


class Home:
    def __init__(self, config: Mapping[str, Any]) -> None:
        self._path = Path(config["state"]) / "secret-store"
        self._first_files = base(config) / _FIRST["directory"]
        self.configured = settings(config)
        self._remembered = False

    def known(self) -> Whereabouts | None:
        """None when it was never written down: nothing was stored, or in the default store.

        :raises FleetError: the file is damaged
        """
        try:
            data = json.loads(self._path.read_text(encoding="utf-8"))
            return _read(data)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise FleetError(
                f"it does not say where the secrets are: {error}",
                str(self._path),
                "restore the file from the inventory's history",
            ) from error

    def verify(self, store: SecretStore, keyed: set[str]) -> None:
        """:param keyed: the clients that have a key, whose secrets have to be somewhere
        :raises FleetError: they are not in the store that ``fleet.yml`` names
        """
        known = self.known()
        at = known.store if known else self.assumed()
        if same_place(at, self.configured):
            return
        if known is None and (not keyed or keyed & set(store.clients())):
            return
        raise FleetError(
            f"the secrets are in {described(at)}, and fleet.yml names "
            f"{described(self.configured)}: new keys would be made for everybody",
            "fleet.yml: secret_store",
            f"move them, which changes no key: {_COMMAND}; or set fleet.yml back",
        )

    def assumed(self) -> Settings:
        """Where they are when nothing says it: in the store that was the first and only one."""
        if self.configured["type"] == "vault_files" and not any(self._first_files.glob("*.yml")):
            return self.configured
        return _FIRST

    def remember(self) -> None:
        """Write down where the first secret goes, before it goes there.

        Once is enough: what comes after a create has to be stored, whatever is wrong meanwhile.

        :raises FleetError: all of them were moved since this run began
        """
        if self._remembered:
            return
        known = self.known()
        if known is None:
            if not same_place(self.configured, _FIRST):
                self.save(Whereabouts(self.configured))
        elif not same_place(known.store, self.configured):
            raise FleetError(
                f"the secrets were moved to {described(known.store)} while this run was at work, "
                f"which knows {described(self.configured)}",
                str(self._path),
                "run again: nothing was stored in the old place",
            )
        self._remembered = True

    def save(self, whereabouts: Whereabouts) -> None:
        said = {"schema": _SCHEMA, **dataclasses.asdict(whereabouts)}
        data = json.dumps(said, indent=2, sort_keys=True) + "\n"
        try:
            write_atomically(str(self._path), data.encode(), 0o600)
        except OSError as error:
            raise FleetError(
                f"cannot be written: {error.strerror}", str(self._path), "make room"
            ) from error


def _read(data: Mapping[str, Any]) -> Whereabouts:
    """:raises ValueError: (or its like) not what :meth:`Home.save` wrote"""
    if data["schema"] != _SCHEMA:
        raise ValueError(f"schema {data['schema']} is of another release of mai.fleet")
    for given in (data["store"], data["to"], data["left"]):
        bare = {name: value for name, value in (given or _FIRST).items() if name != "directory"}
        for problem in check_store(bare, "secret-store"):
            raise ValueError(f"{problem.where}: {problem.what}")
    return Whereabouts(data["store"], data["to"], tuple(data["copied"]), data["left"])
