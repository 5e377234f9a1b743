# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the mai.fleet collection
"""From what ``fleet.yml`` says of a store to the store."""

from __future__ import annotations

import os.path
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.parsing.vault import VaultLib
from ansible_collections.mai.fleet.plugins.module_utils._fleet.stores import DEFAULT, PATHS, filled
from ansible_collections.mai.fleet.plugins.plugin_utils._secret_stores.base import SecretStore
from ansible_collections.mai.fleet.plugins.plugin_utils._secret_stores.command import Command
from ansible_collections.mai.fleet.plugins.plugin_utils._secret_stores.hashi_vault import HashiVault
from ansible_collections.mai.fleet.plugins.plugin_utils._secret_stores.sops import SopsFiles
from ansible_collections.mai.fleet.plugins.plugin_utils._secret_stores.vault_files import (
    Cipher,
    VaultFiles,
)

Settings = dict[str, Any]
#: What makes a store this one and no other, by type. The rest may change without a move.
_PLACE = {
    "vault_files": ("directory",),
    "sops": ("directory",),
    "hashi_vault": ("url", "namespace", "mount", "path"),
    "command": ("command",),
}


def settings(config: Mapping[str, Any]) -> Settings:
    """What ``fleet.yml`` says, with the directory beside it, the same on every controller."""
    given = dict(config.get("secret_store") or DEFAULT)
    if "directory" in _PLACE[given["type"]]:
        secrets, root = Path(os.path.abspath(config["secrets"])), base(config)
        inside = secrets.is_relative_to(root)
        given["directory"] = str(secrets.relative_to(root) if inside else secrets)
    return given


def same_place(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    if one["type"] != other["type"]:
        return False
    ours, theirs = filled(one), filled(other)
    return all(ours.get(field) == theirs.get(field) for field in _PLACE[one["type"]])


def described(store: Mapping[str, Any]) -> str:
    place = [str(store[field]) for field in _PLACE[store["type"]] if store.get(field)]
    return " ".join([store["type"], *place])


def open_store(given: Mapping[str, Any], config: Mapping[str, Any], vault: VaultLib) -> SecretStore:
    """:param vault: with the vault passwords of the run"""
    options = filled(given)
    options.update({name: str(base(config) / options[name]) for name in PATHS if options.get(name)})
    if given["type"] == "sops":
        return SopsFiles(options["directory"], options)
    if given["type"] == "hashi_vault":
        return HashiVault(options, config["name"])
    if given["type"] == "command":
        return Command(options["command"], options["timeout"], config["name"], str(base(config)))
    return VaultFiles(options["directory"], Cipher(vault, options.get("vault_id", "")))


def base(config: Mapping[str, Any]) -> Path:
    """The directory of ``fleet.yml``."""
    return Path(config.get("file") or config["secrets"]).resolve().parent
