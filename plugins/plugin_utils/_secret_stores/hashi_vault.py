# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the mai.fleet collection
"""Version 2 of the key-value engine of HashiCorp Vault or OpenBao, one secret a client.

The collection ``community.hashi_vault``, which is part of the package ``ansible``, signs in, in any
way that it knows. It has no plugin that deletes, so what follows is asked with its library, hvac.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.loader import lookup_loader
from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError, Unreachable
from ansible_collections.mai.fleet.plugins.module_utils._fleet.names import is_name
from ansible_collections.mai.fleet.plugins.plugin_utils._secret_stores.base import (
    Secrets,
    SecretStore,
    mapping,
)

_LOGIN = "community.hashi_vault.vault_login"
_FIELD = "fleet.yml: secret_store"
#: What a token has to be allowed to do with the secrets of this fleet.
_NEEDED = {"create", "read", "update"}


class HashiVault(SecretStore):
    """:param options: of ``fleet.yml``, with their defaults
    :param fleet: whose secrets lie below ``path``
    """

    def __init__(self, options: Mapping[str, Any], fleet: str) -> None:
        self._options = options
        self._mount = str(options["mount"]).strip("/")
        self._path = str(options["path"] or f"mai/{fleet}").strip("/")
        self._signing_in = threading.Lock()
        self._connection: Any = None
        #: By client, the version that was seen last: nobody else's write is overwritten.
        self._versions: dict[str, int] = {}

    def where(self, client: str) -> str:
        return f"{self._options['url']}, {self._mount}/{self._path}/{client}"

    def read(self, client: str) -> Secrets | None:
        where = self.where(client)
        with self._asking(where) as kv:
            try:
                answer = kv.read_secret_version(
                    f"{self._path}/{client}",
                    mount_point=self._mount,
                    raise_on_deleted_version=False,
                )
            except _hvac().exceptions.InvalidPath:
                self._versions[client] = 0
                return None
        self._versions[client] = int(answer["data"]["metadata"]["version"])
        content = answer["data"]["data"]
        if content is None:
            return None
        return mapping(content, where, "mend it there, or go back to a version before")

    def remove(self, client: str) -> None:
        """With all its versions."""
        with self._asking(self.where(client)) as kv:
            kv.delete_metadata_and_all_versions(f"{self._path}/{client}", mount_point=self._mount)
        self._versions[client] = 0

    def clients(self) -> list[str]:
        with self._asking(f"{self._options['url']}, {self._mount}/{self._path}/") as kv:
            try:
                answer = kv.list_secrets(self._path, mount_point=self._mount)
            except _hvac().exceptions.InvalidPath:
                return []
        return sorted(name for name in answer["data"]["keys"] if is_name(name))

    def verify(self) -> None:
        where = f"{self._options['url']}, {self._mount}/{self._path}"
        with self._asking(where):
            client = self._client()
            client.auth.token.lookup_self()
            mount = client.adapter.get(f"/v1/sys/internal/ui/mounts/{self._mount}")["data"]
            data = f"{self._mount}/data/{self._path}/client"
            allowed = set(client.sys.get_capabilities([data])["data"][data])
        if mount.get("type") != "kv" or (mount.get("options") or {}).get("version") != "2":
            raise FleetError(
                "there is no key-value engine of version 2",
                f"{_FIELD}.mount: {self._mount}",
                "name one, or make it: bao secrets enable -path=NAME kv-v2",
            )
        missing = sorted(_NEEDED - allowed) if "root" not in allowed else []
        if missing:
            raise FleetError(
                f"the token may not {', '.join(missing)}",
                where,
                "give it the policy that docs/secrets.md shows",
            )

    def _put(self, client: str, secrets: Secrets) -> None:
        if client not in self._versions:
            self.read(client)
        where = self.where(client)
        with self._asking(where, write=True) as kv:
            try:
                answer = kv.create_or_update_secret(
                    f"{self._path}/{client}",
                    secrets,
                    cas=self._versions[client],
                    mount_point=self._mount,
                )
            except _hvac().exceptions.InvalidRequest as error:
                if "check-and-set" not in str(error):
                    raise
                del self._versions[client]
                raise FleetError(
                    "somebody else wrote it since it was read; nothing was changed",
                    where,
                    "run again, after the other run",
                ) from None
        self._versions[client] = int(answer["data"]["version"])

    def _client(self) -> Any:
        # Clients are worked on side by side, and Ansible loads plugins in one thread only.
        with self._signing_in:
            if self._connection is None:
                self._connection = _hvac().Client(
                    url=self._options["url"],
                    token=self._login(),
                    namespace=self._options["namespace"],
                    verify=self._options["ca_cert"] or True,
                    timeout=self._options["timeout"],
                )
            return self._connection

    def _login(self) -> str:
        _hvac()
        lookup = lookup_loader.get(_LOGIN)
        if lookup is None:
            raise FleetError(
                "the collection community.hashi_vault is not there",
                f"{_FIELD}.type",
                "ansible-galaxy collection install community.hashi_vault",
            )
        ours = ("mount", "path", "type")
        given = {name: value for name, value in self._options.items() if name not in ours}
        try:
            (answer,) = lookup.run(
                [], {}, **{name: value for name, value in given.items() if value is not None}
            )
        except AnsibleError as error:
            raise FleetError(
                f"signing in failed: {error}",
                f"{_FIELD}.auth_method: {self._options['auth_method']}",
                "export what it needs, such as VAULT_TOKEN; docs/secrets.md has the names",
            ) from None
        return str(answer["auth"]["client_token"])

    @contextlib.contextmanager
    def _asking(self, where: str, write: bool = False) -> Iterator[Any]:
        """The engine, with hvac's errors as ours. They are not chained: they have the answers."""
        errors = _hvac().exceptions
        # hvac needs it, too. Fleets with other stores need neither.
        import requests

        try:
            yield self._client().secrets.kv.v2
        except errors.VaultDown:
            raise FleetError(
                "it is sealed, or a standby that nobody stands before",
                self._options["url"],
                "unseal it (bao operator unseal), then run again",
            ) from None
        except (errors.Forbidden, errors.Unauthorized):
            raise FleetError(
                "the token is not valid, or may not do this",
                where,
                "sign in anew, or give the token the policy that docs/secrets.md shows",
            ) from None
        except (errors.InternalServerError, errors.BadGateway, errors.UnexpectedError) as error:
            kind = Unreachable if write else FleetError
            raise kind(f"it answered with an error: {error.args[0]}", where, "run again") from None
        except errors.VaultError as error:
            raise FleetError(f"it refused: {error.args[0]}", where, "look at its log") from None
        except requests.RequestException as error:
            raise Unreachable(
                f"no answer ({type(error).__name__})",
                where,
                f"see whether it runs, and mend {_FIELD}.url or .ca_cert",
            ) from None


def _hvac() -> Any:
    try:
        import hvac
        import hvac.exceptions
    except ImportError:
        raise FleetError(
            "the Python package hvac is not there", f"{_FIELD}.type", "pip install hvac"
        ) from None
    return hvac
