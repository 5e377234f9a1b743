# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the mai.fleet collection
"""A program of the operator's that keeps the secrets, wherever that is.

It is called as ``COMMAND VERB`` with a JSON document on its standard input, and answers with one on
its standard output. ``docs/secrets.md`` has the contract.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from typing import Any

from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError, Unreachable
from ansible_collections.mai.fleet.plugins.module_utils._fleet.names import is_name
from ansible_collections.mai.fleet.plugins.module_utils._secrets import fingerprint
from ansible_collections.mai.fleet.plugins.plugin_utils._secret_stores.base import (
    Secrets,
    SecretStore,
    mapping,
)

SCHEMA = 1
#: What it has no use for: with these, keys and servers are made.
_KEPT_BACK = ("OPENROUTER_MANAGEMENT_KEY", "OPENROUTER_PROVISIONING_KEY", "HCLOUD_TOKEN")
_FIELD = "fleet.yml: secret_store.command"
_SHOWN = 500


class Command(SecretStore):
    """:param command: as for a shell, without the verb
    :param timeout: seconds for one call
    """

    def __init__(self, command: str, timeout: float, fleet: str, directory: str) -> None:
        self._words = shlex.split(command)
        self._timeout = timeout
        self._fleet = fleet
        self._cwd = directory

    def where(self, client: str) -> str:
        return f"{shlex.join(self._words)}, client {client}"

    def read(self, client: str) -> Secrets | None:
        found = self._call("get", {"client": client}).get("secrets", ...)
        if found is None:
            return None
        return mapping(found, self.where(client), "get answers {'secrets': {NAME: TEXT}} or null")

    def remove(self, client: str) -> None:
        self._call("delete", {"client": client})

    def clients(self) -> list[str]:
        found = self._call("list", {}).get("clients")
        if not isinstance(found, list):
            what = "list did not answer {'clients': [NAME]}"
            raise FleetError(what, _FIELD, "mend the command")
        return sorted(name for name in found if isinstance(name, str) and is_name(name))

    def verify(self) -> None:
        """That it can store is proven for each client before a key is made."""
        self.clients()

    def _put(self, client: str, secrets: Secrets) -> None:
        self._call("put", {"client": client, "secrets": secrets})

    def _call(self, verb: str, given: dict[str, Any]) -> dict[str, Any]:
        """:raises Unreachable: it was ended before it could say what it did"""
        document = json.dumps({"schema": SCHEMA, "fleet": self._fleet, **given})
        done = self._run(verb, document)
        complaint = _safe(done.stderr, given.get("secrets", {}))
        place = f"{shlex.join(self._words)} {verb}"
        if done.returncode < 0:
            raise Unreachable(f"it was ended by signal {-done.returncode}", place, "run again")
        if done.returncode:
            text = f"it failed with status {done.returncode}: {complaint or 'it said nothing'}"
            raise FleetError(text, place, "mend what it complains of")
        try:
            answer = json.loads(done.stdout or "{}")
        except ValueError:
            # Not chained, and not shown: there may be secrets in it.
            answer = None
        if not isinstance(answer, dict):
            raise FleetError("its answer is no JSON object", place, "mend the command")
        return answer

    def _run(self, verb: str, document: str) -> subprocess.CompletedProcess[str]:
        environment = {name: value for name, value in os.environ.items() if name not in _KEPT_BACK}
        try:
            return subprocess.run(
                [*self._words, verb],
                input=document,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                check=False,
                cwd=self._cwd,
                env=environment,
                timeout=self._timeout,
            )
        except OSError as error:
            raise FleetError(
                f"{self._words[0]} cannot be run: {error.strerror}",
                _FIELD,
                "name a program, relative to fleet.yml's directory or on PATH",
            ) from None
        except subprocess.TimeoutExpired:
            # Not chained: that error has the output.
            raise Unreachable(
                f"it was ended after {self._timeout:g} s",
                f"{shlex.join(self._words)} {verb}",
                "find out what it waits for, or raise secret_store.timeout",
            ) from None


def _safe(text: str, secrets: Secrets) -> str:
    """What a program complains of, with fingerprints where it shows what it was given."""
    for secret in secrets.values():
        if secret:
            text = text.replace(secret, fingerprint(secret))
    return " ".join(text.split())[-_SHOWN:]
