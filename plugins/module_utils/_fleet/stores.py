# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the mai.fleet collection
"""What ``secret_store`` in ``fleet.yml`` may say: where the secrets of clients are kept."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.mai.fleet.plugins.module_utils._fleet.names import did_you_mean
from ansible_collections.mai.fleet.plugins.module_utils._fleet.schema import Invalid, Problem

DEFAULT = {"type": "vault_files"}

Check = Callable[[Any], Any]


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip() or "\n" in value:
        raise Invalid("expected one line of text; YAML may need it in quotes")
    return value


def _url(value: Any) -> str:
    if not re.fullmatch(r"https?://[^\s/?#]+(/[^\s?#]*)?", _text(value)):
        raise Invalid(f"expected an address such as https://bao.example.com:8200, got {value!r}")
    return str(value)


def _path(value: Any) -> str:
    if not re.fullmatch(r"[^\s/]+(/[^\s/]+)*", _text(value).strip("/")):
        raise Invalid(f"expected a path such as mai/fleet, got {value!r}")
    return str(value)


def _texts(value: Any) -> list[str]:
    if not isinstance(value, list) or not value:
        raise Invalid(f"expected a list, got {value!r}")
    return [_text(item) for item in value]


def _seconds(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= 3600:
        raise Invalid(f"expected seconds from 1 to 3600, got {value!r}")
    return value


def _command(value: Any) -> str:
    try:
        words = shlex.split(_text(value))
    except ValueError as error:
        raise Invalid(f"no command line: {error}") from error
    if not words:
        raise Invalid("expected a program, with arguments as for a shell")
    return str(value)


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise Invalid(f"expected true or false, got {value!r}")
    return value


def _method(value: Any) -> str:
    if value not in _METHODS:
        raise Invalid(f"expected one of {', '.join(_METHODS)}, got {value!r}")
    return str(value)


_METHODS = ("token", "approle", "userpass", "ldap", "jwt", "cert", "aws_iam", "azure", "gcp")

#: The options of each type beside the type itself.
OPTIONS: dict[str, dict[str, Check]] = {
    "vault_files": {"vault_id": _text},
    "sops": {
        "age": _texts,
        "pgp": _texts,
        "kms": _texts,
        "gcp_kms": _texts,
        "azure_kv": _texts,
        "hc_vault_transit": _texts,
        "aws_profile": _text,
        "age_keyfile": _text,
        "config_path": _text,
        "keyservice": _texts,
        "enable_local_keyservice": _boolean,
        "sops_binary": _text,
    },
    "hashi_vault": {
        "url": _url,
        "mount": _path,
        "path": _path,
        "namespace": _text,
        "ca_cert": _text,
        "timeout": _seconds,
        "auth_method": _method,
        "mount_point": _path,
        "token_path": _text,
        "token_file": _text,
        "role_id": _text,
        "username": _text,
        "aws_profile": _text,
        "region": _text,
        "aws_iam_server_id": _text,
        "azure_tenant_id": _text,
        "azure_client_id": _text,
        "azure_resource": _text,
        "cert_auth_public_key": _text,
        "cert_auth_private_key": _text,
    },
    "command": {"command": _command, "timeout": _seconds},
}

_REQUIRED = {"hashi_vault": ("url",), "command": ("command",)}

_DEFAULTS: dict[str, dict[str, Any]] = {
    "hashi_vault": {
        "mount": "secret",
        "path": "",
        "namespace": None,
        "ca_cert": None,
        "timeout": 30,
        "auth_method": "token",
    },
    "command": {"timeout": 60},
}

#: Options that are relative to fleet.yml.
PATHS = (
    "directory",
    "age_keyfile",
    "config_path",
    "ca_cert",
    "token_path",
    "cert_auth_public_key",
    "cert_auth_private_key",
)

#: Options of the bundled collections that are secrets, and the variable that has each.
_FROM_ENVIRONMENT = {
    "token": "VAULT_TOKEN",
    "password": "ANSIBLE_HASHI_VAULT_PASSWORD",
    "secret_id": "ANSIBLE_HASHI_VAULT_SECRET_ID",
    "jwt": "ANSIBLE_HASHI_VAULT_JWT",
    "azure_client_secret": "ANSIBLE_HASHI_VAULT_AZURE_CLIENT_SECRET",
    "aws_secret_key": "AWS_SECRET_ACCESS_KEY",
    "aws_secret_access_key": "AWS_SECRET_ACCESS_KEY",
    "age_key": "SOPS_AGE_KEY",
}


def filled(given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with their defaults."""
    return {**_DEFAULTS.get(given["type"], {}), **given}


def check_store(given: Any, place: str) -> list[Problem]:
    """What is wrong with a store's settings.

    :param place: the file and field where they stand
    """
    if not isinstance(given, dict) or "type" not in given:
        todo = f"give a type: {', '.join(OPTIONS)}"
        return [Problem("expected a type and its options", place, todo)]
    known = OPTIONS.get(given["type"] if isinstance(given["type"], str) else "")
    if known is None:
        todo = did_you_mean(str(given["type"]), OPTIONS) or f"use one of {', '.join(OPTIONS)}"
        return [Problem(f"unknown type {given['type']!r}", f"{place}.type", todo)]
    problems = [
        Problem("the option is missing", f"{place}.{name}")
        for name in _REQUIRED.get(given["type"], ())
        if name not in given
    ]
    for name, value in given.items():
        if name != "type":
            problems += _check(str(name), value, known, f"{place}.{name}")
    return problems


def _check(name: str, value: Any, known: Mapping[str, Check], place: str) -> list[Problem]:
    if name in _FROM_ENVIRONMENT and name not in known:
        todo = f"remove it here and export {_FROM_ENVIRONMENT[name]}"
        return [Problem("a secret in clear", place, todo)]
    if name not in known:
        todo = did_you_mean(name, known) or f"known options: {', '.join(known)}"
        return [Problem(f"unknown option {name}", place, todo)]
    try:
        known[name](value)
    except Invalid as error:
        return [Problem(str(error), place)]
    return []
