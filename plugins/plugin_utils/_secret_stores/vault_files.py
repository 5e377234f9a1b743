# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the mai.fleet collection
"""One Ansible Vault file a client, so that ``ansible-vault view`` shows it."""

from __future__ import annotations

import yaml
from ansible import constants as C
from ansible.errors import AnsibleError
from ansible.parsing.vault import (
    VaultLib,
    VaultSecret,
    is_encrypted,
    match_encrypt_secret,
    parse_vaulttext_envelope,
)
from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError
from ansible_collections.mai.fleet.plugins.plugin_utils._secret_stores.base import Secrets, mapping
from ansible_collections.mai.fleet.plugins.plugin_utils._secret_stores.files import (
    FileStore,
    verify_writable,
)


class Cipher:
    """Ansible Vault with the passwords that the run was given.

    :param identity: the label of the password for new files; empty for what Ansible is set to
    """

    def __init__(self, vault: VaultLib, identity: str = "") -> None:
        self._vault = vault
        self._identity = identity

    def decrypt(self, data: bytes, where: str) -> tuple[bytes, VaultSecret]:
        """What is encrypted, and with what."""
        self._given()
        if not is_encrypted(data):
            raise FleetError(
                "the file is not encrypted", where, f"ansible-vault encrypt {where}, or remove it"
            )
        try:
            plain, _identity, password = self._vault.decrypt_and_get_vault_id(data)
        except AnsibleError as error:
            raise FleetError(
                "the vault password does not open this file, or the file is damaged",
                where,
                "give the password that it was encrypted with; "
                "ansible-vault view tells when it is right",
            ) from error
        return bytes(plain), password

    def encrypt(self, text: str, label: str | None, password: VaultSecret) -> bytes:
        return bytes(self._vault.encrypt(text, password, vault_id=_label(label)))

    def password(self) -> tuple[str, VaultSecret]:
        """What new files are encrypted with, and its label."""
        self._given()
        setting = "DEFAULT_VAULT_ENCRYPT_IDENTITY"
        wanted = self._identity or C.config.get_config_value(setting)
        try:
            label, password = match_encrypt_secret(self._vault.secrets, wanted)
        except AnsibleError as error:
            source = "Ansible Vault: vault_encrypt_identity"
            raise FleetError(
                f"no password was given for the vault id {wanted}, with which to encrypt",
                "fleet.yml: secret_store.vault_id" if self._identity else source,
                f"give --vault-id {wanted}@FILE",
            ) from error
        return label, password

    def _given(self) -> None:
        if not self._vault.secrets:
            raise FleetError(
                "no vault password was given, so keys could not be stored",
                "Ansible Vault",
                "give --vault-password-file, or set ANSIBLE_VAULT_PASSWORD_FILE",
            )


class VaultFiles(FileStore):
    SUFFIX = ".yml"

    def __init__(self, directory: str, cipher: Cipher) -> None:
        super().__init__(directory)
        self._cipher = cipher

    def read(self, client: str) -> Secrets | None:
        path, data = self.where(client), self._content(client)
        if data is None:
            return None
        todo = f"mend it with ansible-vault edit {path}, or restore it from a backup"
        try:
            content = yaml.safe_load(self._cipher.decrypt(data, path)[0])
        except yaml.YAMLError:
            # Not chained: that error quotes the line that it does not understand.
            raise FleetError("what is encrypted in it is not YAML", path, todo) from None
        return mapping(content, path, todo)

    def _put(self, client: str, secrets: Secrets) -> None:
        """A file that exists keeps the password and the label that it has."""
        text = yaml.safe_dump(secrets, default_flow_style=False)
        old = self._content(client)
        label: str | None
        if old is None:
            label, password = self._cipher.password()
        else:
            password = self._cipher.decrypt(old, self.where(client))[1]
            label = parse_vaulttext_envelope(old)[3]
        self._replace(client, self._cipher.encrypt(text, label, password))

    def verify(self) -> None:
        self._cipher.password()
        for client in self.clients()[:1]:
            # One file proves the password; the others are decrypted when they are needed.
            self._cipher.decrypt(self._content(client) or b"", self.where(client))
        verify_writable(self._directory)


def _label(identity: str | None) -> str | None:
    """The default identity is not written into files, as ansible-vault does."""
    default = C.config.get_config_value("DEFAULT_VAULT_IDENTITY")
    return None if identity in (None, default) else identity
