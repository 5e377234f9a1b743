# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Records in clear and secrets in Ansible Vault files: what is kept, and what is said when not."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible import constants as C
from ansible.parsing.vault import VaultLib
from ansible_collections.mai.fleet.plugins.module_utils import _atomic
from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.records import (
    Attempt,
    Former,
    Record,
    Remainder,
    Why,
)
from ansible_collections.mai.fleet.plugins.module_utils._secrets import (
    fingerprint,
    seal,
    sha256,
    unseal,
)
from ansible_collections.mai.fleet.plugins.plugin_utils._store import Store
from unit.keys.bench import exception_texts, files, full_disk, vault

SECRETS = {"api_key": "sk-or-v1-" + "ab" * 32, "admin_password": "Zażółć: gęślą #'\"$ jaźń"}


def store_at(folder: Path, passwords: VaultLib | None = None) -> Store:
    directories = {name: str(folder / name) for name in ("secrets", "state", "journal")}
    return Store(directories, passwords or vault())


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return store_at(tmp_path)


def record(**changes: object) -> Record:
    base = Record("acme", "server1", "Gęślą & Söhne", "mai_client_00000000")
    return dataclasses.replace(base, **changes)  # type: ignore[arg-type]


def mode(path: str | Path) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


# --- records ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kept",
    [
        record(),
        record(attempts=[Attempt("mai/hosting/acme/g1/0123abcd", "2026-01-01T00:00:00Z")]),
        record(former=[Former("a", "b", Why.ORPHAN)], remainder=Remainder(1.5, "")),
        record(models={"openai/o3": "openai/o3-2025"}, slot=3, port=18003),
    ],
    ids=range(4),
)
def test_a_record_comes_back_as_it_was(store: Store, kept: Record) -> None:
    store.save_record(kept)
    assert store.record("acme") == kept
    assert list(store.records()) == ["acme"]


def test_no_record(store: Store) -> None:
    assert store.record("acme") is None
    assert list(store.records()) == []


def test_a_record_is_private_sorted_and_in_clear(store: Store, tmp_path: Path) -> None:
    store.save_record(record())
    path = tmp_path / "state" / "acme.json"
    text = path.read_text(encoding="utf-8")
    assert list(json.loads(text)) == sorted(json.loads(text))
    assert text.endswith("}\n")
    assert (mode(path), mode(path.parent)) == (0o600, 0o700)


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b"{}",
        b'{"client": "acme"}',
        b'{"attempt": {"what": 1}}',
        b'{"attempt": null, "client": "acme", "unheard_of": 1}',
    ],
)
def test_a_damaged_record_is_named(store: Store, tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "state" / "acme.json"
    path.parent.mkdir()
    path.write_bytes(damage)
    with pytest.raises(FleetError, match="not this client's record") as raised:
        store.record("acme")
    assert raised.value.where == str(path)
    assert "history" in raised.value.todo


def test_a_copied_record_does_not_overwrite_its_original(store: Store, tmp_path: Path) -> None:
    store.save_record(record())
    shutil.copy(tmp_path / "state" / "acme.json", tmp_path / "state" / "beta.json")
    with pytest.raises(FleetError, match="it is client acme's"):
        store.record("beta")


# --- secrets ------------------------------------------------------------------------------------


def test_secrets_come_back_as_they_were_and_are_encrypted(store: Store, tmp_path: Path) -> None:
    store.save_secrets("acme", SECRETS)
    path = tmp_path / "secrets" / "acme.yml"
    assert store.secrets("acme") == SECRETS
    assert path.read_bytes().startswith(b"$ANSIBLE_VAULT;1.1;AES256\n")
    assert (mode(path), mode(path.parent)) == (0o600, 0o700)
    assert store.secrets_path("acme") == str(path)


def test_values_that_look_like_something_else_stay_text(store: Store) -> None:
    odd = {"a": "123", "b": "yes", "c": "null", "d": "1e3", "e": "", "f": " x\n", "g": "2026-01-01"}
    store.save_secrets("acme", odd)
    assert store.secrets("acme") == odd


def test_ansible_vault_shows_the_file(store: Store, tmp_path: Path) -> None:
    store.save_secrets("acme", SECRETS)
    password = tmp_path / "password"
    password.write_bytes(b"the vault's password")
    program = Path(sys.executable).with_name("ansible-vault")
    if not program.exists():
        pytest.skip("ansible-vault does not lie beside this Python")
    shown = subprocess.run(
        [str(program), "view", "--vault-password-file", str(password), store.secrets_path("acme")],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "HOME": str(tmp_path), "LC_ALL": "C.UTF-8"},
    )
    assert f"api_key: {SECRETS['api_key']}\n" in shown.stdout


def test_no_secrets(store: Store) -> None:
    assert store.secrets("acme") == {}
    assert not store.has_secrets("acme")


def test_the_wrong_password(store: Store, tmp_path: Path) -> None:
    store.save_secrets("acme", SECRETS)
    before = files(tmp_path)
    wrong = store_at(tmp_path, vault(("default", b"another")))
    for attempt in (
        lambda: wrong.secrets("acme"),
        lambda: wrong.save_secrets("acme", {}),
        wrong.verify,
    ):
        with pytest.raises(FleetError, match="password does not open this file") as raised:
            attempt()
        assert raised.value.where == store.secrets_path("acme")
    assert files(tmp_path) == before


def test_no_password(store: Store, tmp_path: Path) -> None:
    store.save_secrets("acme", SECRETS)
    before = files(tmp_path)
    none = store_at(tmp_path, VaultLib([]))
    for attempt in (
        none.verify,
        lambda: none.secrets("acme"),
        lambda: none.save_secrets("acme", {}),
        lambda: none.save_secrets("beta", {}),
    ):
        with pytest.raises(FleetError, match="no vault password was given") as raised:
            attempt()
        assert "--vault-password-file" in raised.value.todo
    assert files(tmp_path) == before


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("just a word: sk-or-secret: twice", "not YAML"),
        ("api_key: 'sk-or-secret", "not YAML"),
        ("- sk-or-secret", "not a mapping"),
        ("sk-or-secret", "not a mapping"),
        ("", "not a mapping"),
        ("api_key: sk-or-secret\nadmin_password: 12345678", "need quotes, in admin_password"),
        ("api_key: {sk-or-secret: 1}", "need quotes, in api_key"),
    ],
)
def test_a_badly_edited_file_is_named_and_not_quoted(
    store: Store, tmp_path: Path, content: str, said: str
) -> None:
    """YAML's own errors quote the line, with the secret in it."""
    library = vault()
    path = tmp_path / "secrets" / "acme.yml"
    path.parent.mkdir()
    path.write_bytes(library.encrypt(content, library.secrets[0][1]))
    with pytest.raises(FleetError, match=said) as raised:
        store.secrets("acme")
    assert raised.value.where == str(path)
    assert "sk-or-secret" not in exception_texts(raised.value)


@pytest.mark.parametrize("content", [b"", b"api_key: sk-or-secret\n"])
def test_a_file_in_clear_is_said_to_be(store: Store, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "secrets" / "acme.yml"
    path.parent.mkdir()
    path.write_bytes(content)
    for attempt in (
        store.verify,
        lambda: store.secrets("acme"),
        lambda: store.save_secrets("acme", {}),
    ):
        with pytest.raises(FleetError, match="not encrypted") as raised:
            attempt()
        assert f"ansible-vault encrypt {path}" in raised.value.todo
    assert path.read_bytes() == content


def test_a_damaged_vault_file(store: Store, tmp_path: Path) -> None:
    store.save_secrets("acme", SECRETS)
    path = tmp_path / "secrets" / "acme.yml"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(FleetError, match="or the file is damaged"):
        store.secrets("acme")


def test_what_is_no_file_is_an_error_of_this_client(store: Store, tmp_path: Path) -> None:
    (tmp_path / "secrets" / "acme.yml").mkdir(parents=True)
    with pytest.raises(FleetError, match="cannot be read") as raised:
        store.secrets("acme")
    assert raised.value.where == store.secrets_path("acme")


def test_values_of_client_files(store: Store) -> None:
    library = vault()
    encrypt = library.encrypt
    text = encrypt("geheim, müde", library.secrets[0][1]).decode()
    assert store.decrypt_value(text, "acme.yml: env.A") == "geheim, müde"
    binary = encrypt(b"sk-or-secret\xff", library.secrets[0][1]).decode()
    with pytest.raises(FleetError, match="not text") as raised:
        store.decrypt_value(binary, "acme.yml: env.A")
    assert raised.value.where == "acme.yml: env.A"


# --- several passwords --------------------------------------------------------------------------


def header(path: str) -> str:
    return Path(path).read_text(encoding="ascii").splitlines()[0]


def test_new_files_get_the_first_password_and_its_label(tmp_path: Path) -> None:
    store = store_at(tmp_path, vault(("prod", b"one"), ("dev", b"two")))
    store.save_secrets("acme", SECRETS)
    assert header(store.secrets_path("acme")) == "$ANSIBLE_VAULT;1.2;AES256;prod"
    assert store_at(tmp_path, vault(("prod", b"one"))).secrets("acme") == SECRETS


def test_a_file_keeps_its_password_and_its_label(tmp_path: Path) -> None:
    """Whatever passwords a run is given besides, and in whatever order."""
    store_at(tmp_path, vault(("prod", b"one"))).save_secrets("acme", {})
    store_at(tmp_path, vault(("default", b"three"))).save_secrets("beta", {})
    both = store_at(tmp_path, vault(("dev", b"two"), ("default", b"three"), ("prod", b"one")))
    for client in ("acme", "beta"):
        both.save_secrets(client, SECRETS)
    assert header(both.secrets_path("acme")) == "$ANSIBLE_VAULT;1.2;AES256;prod"
    assert header(both.secrets_path("beta")) == "$ANSIBLE_VAULT;1.1;AES256"
    assert store_at(tmp_path, vault(("prod", b"one"))).secrets("acme") == SECRETS
    assert store_at(tmp_path, vault(("default", b"three"))).secrets("beta") == SECRETS


def test_the_identity_to_encrypt_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANSIBLE_VAULT_ENCRYPT_IDENTITY", "dev")
    assert C.config.get_config_value("DEFAULT_VAULT_ENCRYPT_IDENTITY") == "dev"
    store = store_at(tmp_path, vault(("prod", b"one"), ("dev", b"two")))
    store.save_secrets("acme", SECRETS)
    assert header(store.secrets_path("acme")) == "$ANSIBLE_VAULT;1.2;AES256;dev"


def test_an_identity_without_a_password_is_found_before_it_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANSIBLE_VAULT_ENCRYPT_IDENTITY", "other")
    store = store_at(tmp_path, vault(("prod", b"one")))
    for attempt in (store.verify, lambda: store.save_secrets("acme", {})):
        with pytest.raises(FleetError, match="no password was given for the vault id other"):
            attempt()
    assert files(tmp_path) == {}


# --- before anything is created -----------------------------------------------------------------


def test_verify_writes_nothing(store: Store, tmp_path: Path) -> None:
    store.verify()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["secrets", "state"])
def test_verify_finds_a_file_where_a_directory_belongs(
    store: Store, tmp_path: Path, name: str
) -> None:
    (tmp_path / name).write_text("")
    (tmp_path / name).chmod(0o755)
    with pytest.raises(FleetError, match="directory cannot be written") as raised:
        store.verify()
    assert raised.value.where == str(tmp_path / name)


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    """Root can write everywhere."""
    if os.geteuid() != 0:
        yield
        return
    os.setresuid(65534, 65534, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)


@pytest.mark.parametrize("name", ["secrets", "state"])
def test_verify_finds_a_directory_that_cannot_be_written(name: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)
        for directory in ("secrets", "state"):
            mode = 0o555 if directory == name else 0o777
            (Path(folder) / directory).mkdir()
            (Path(folder) / directory).chmod(mode)
        with as_nobody(), pytest.raises(FleetError, match="directory cannot be written") as raised:
            store_at(Path(folder)).verify()
        assert raised.value.where == f"{folder}/{name}"


def test_two_runs_do_not_make_keys_at_the_same_time(store: Store, tmp_path: Path) -> None:
    other = store_at(tmp_path)
    with store.lock():
        with pytest.raises(FleetError, match="another run") as raised, other.lock(patience=0):
            pass
        assert raised.value.where == str(tmp_path / "state")
    with other.lock(patience=0):
        pass


@pytest.mark.parametrize("free", [0, 100])
def test_a_full_disk_changes_nothing(store: Store, tmp_path: Path, free: int) -> None:
    store.save_secrets("acme", SECRETS)
    store.save_record(record())
    before = files(tmp_path)
    with full_disk(free):
        for attempt in (
            lambda: store.save_secrets("acme", {}),
            lambda: store.save_record(record(port=5)),
        ):
            with pytest.raises(FleetError, match="cannot be written: File too large") as raised:
                attempt()
            assert "make room" in raised.value.todo
    assert files(tmp_path) == before
    assert raised.value.where == str(tmp_path / "state" / "acme.json")


# --- files that are either the old or the new one -----------------------------------------------


def test_a_file_and_its_new_directories_are_flushed_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By what the kernel was asked for: the file before the rename, each directory after it."""
    path = tmp_path / "a" / "b" / "file"
    log: list[str] = []
    fsync, rename = os.fsync, os.replace

    def flushed(descriptor: int) -> None:
        log.append(f"flush {Path(os.readlink(f'/proc/self/fd/{descriptor}')).name[:5]}")
        fsync(descriptor)

    def renamed(source: str, target: str) -> None:
        log.append("rename")
        assert mode(source) == 0o640
        rename(source, target)

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(os, "replace", renamed)
    _atomic.write_atomically(str(path), b"content", 0o640, 0o750)
    assert log == [f"flush {tmp_path.name[:5]}", "flush a", "flush .file", "rename", "flush b"]
    assert path.read_bytes() == b"content"
    assert (mode(path), mode(path.parent)) == (0o640, 0o750)


def test_an_interruption_leaves_the_old_file_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def interrupted(_source: str, _target: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        _atomic.write_atomically(str(path), b"new", 0o600)
    assert files(tmp_path) == {str(path): b"old"}


def test_an_existing_directory_keeps_its_mode(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir(mode=0o755)
    _atomic.write_atomically(str(tmp_path / "shared" / "file"), b"", 0o600)
    assert mode(tmp_path / "shared") == 0o755


# --- what may be shown of a secret --------------------------------------------------------------


def test_fingerprints() -> None:
    """The example of the standard that defines SHA-256."""
    assert sha256("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert fingerprint("abc") == "sha256:ba7816bf8f01"


@pytest.mark.parametrize("secret", ["", "sk-or-v1-" + "ab" * 32, "Zażółć gęślą jaźń"])
def test_a_sealed_secret_comes_back_and_does_not_show(secret: str) -> None:
    pad = os.urandom(128).hex()
    sealed = seal(secret, pad)
    assert unseal(sealed, pad) == secret
    assert not secret or secret not in sealed
    assert not secret or seal(secret, os.urandom(128).hex()) != sealed


def test_a_pad_is_never_used_twice_over() -> None:
    with pytest.raises(ValueError, match="shorter"):
        seal("ab", "00")
