# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the mai.fleet collection
"""One SOPS file a client: names in clear, values encrypted for the recipients that SOPS is given.

The collection ``community.sops``, which is part of the package ``ansible``, calls the program.
"""

from __future__ import annotations

import contextlib
import json
import secrets as randomness
from collections.abc import Iterator, Mapping
from typing import Any

from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError
from ansible_collections.mai.fleet.plugins.plugin_utils._secret_stores.base import Secrets, mapping
from ansible_collections.mai.fleet.plugins.plugin_utils._secret_stores.files import (
    FileStore,
    verify_writable,
)

#: Characters of what the program complains of that are worth showing: its end.
_SHOWN = 500


class SopsFiles(FileStore):
    """:param options: of ``community.sops``, with absolute paths"""

    SUFFIX = ".sops.yml"

    def __init__(self, directory: str, options: Mapping[str, Any]) -> None:
        super().__init__(directory)
        self._options = options

    def read(self, client: str) -> Secrets | None:
        path, data = self.where(client), self._content(client)
        if data is None:
            return None
        todo = f"mend it with sops {path}, or restore it from a backup"
        return mapping(self._decrypt(data, path, todo), path, todo)

    def _put(self, client: str, secrets: Secrets) -> None:
        if not secrets:
            # SOPS encrypts values, and there is none.
            self.remove(client)
            return
        self._replace(client, self._encrypt(secrets, self.where(client)))

    def verify(self) -> None:
        probe = {"probe": randomness.token_hex(8)}
        where = self.where("probe")
        todo = "give SOPS the private key to one of the recipients: SOPS_AGE_KEY_FILE for age"
        if self._decrypt(self._encrypt(probe, where), "fleet.yml: secret_store", todo) != probe:
            raise FleetError("what was encrypted came back different", "sops", "update sops")
        for client in self.clients()[:1]:
            self.read(client)
        verify_writable(self._directory)

    def _encrypt(self, secrets: Secrets, path: str) -> bytes:
        todo = "name recipients, as secret_store.age or in a .sops.yaml whose rules fit this path"
        with _sops(path, todo) as sops:
            encrypted = sops.encrypt(
                json.dumps(secrets, sort_keys=True).encode(),
                cwd=self._existing(),
                input_type="json",
                output_type="yaml",
                filename=path,
                get_option_value=self._options.get,
            )
        return bytes(encrypted)

    def _decrypt(self, data: bytes, path: str, todo: str) -> Any:
        with _sops(path, todo) as sops:
            text = sops.decrypt(
                path,
                content=data,
                input_type="yaml",
                output_type="json",
                get_option_value=self._options.get,
            )
        try:
            return json.loads(text)
        except ValueError:
            # Not chained: that error quotes what it does not understand.
            raise FleetError("what is encrypted in it is not a mapping", path, todo) from None

    def _existing(self) -> str:
        """Where SOPS begins to look for .sops.yaml."""
        places = (self._directory, *self._directory.parents)
        return str(next(place for place in places if place.is_dir()))


@contextlib.contextmanager
def _sops(path: str, todo: str) -> Iterator[Any]:
    """The bundled collection's way to call SOPS, with its errors as ours."""
    try:
        from ansible_collections.community.sops.plugins.module_utils.sops import (
            Sops,
            SopsError,
        )
    except ImportError:
        raise FleetError(
            "the collection community.sops is not there",
            "fleet.yml: secret_store.type",
            "ansible-galaxy collection install community.sops",
        ) from None
    try:
        yield Sops
    except SopsError as error:
        raise FleetError(f"sops: {_end(str(error))}", path, todo) from None
    except OSError as error:
        raise FleetError(
            f"the program sops cannot be run: {error.strerror}",
            "fleet.yml: secret_store.sops_binary",
            "install sops (https://getsops.io), or name the program",
        ) from None


def _end(text: str) -> str:
    return " ".join(text.split())[-_SHOWN:]
