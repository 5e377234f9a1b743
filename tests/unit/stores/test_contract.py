# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every secret store owes, whatever its type, and what each says when it cannot do it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import stat
import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from ansible.parsing.vault import VaultLib
from ansible_collections.mai.fleet.plugins.module_utils import _atomic
from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError
from ansible_collections.mai.fleet.plugins.plugin_utils._secret_stores.base import SecretStore
from ansible_collections.mai.fleet.plugins.plugin_utils._secret_stores.opening import (
    open_store,
    settings,
)
from standins.supply import TYPES, Supply
from unit.keys.bench import exception_texts, full_disk, vault

SECRETS = {"api_key": "sk-or-v1-" + "ab" * 32, "admin_password": "Zażółć: gęślą #'\"$ jaźń\\"}
ODD = {"a": "yes", "b": "0123", "c": "null", "d": " x ", "e": "~", "f": "{{ 7 * 7 }}", "g": "=1"}
Opened = Callable[..., SecretStore]


@pytest.fixture
def opened(tmp_path: Path, supplied: Supply) -> Opened:
    """Opens a store of a type, with changes to its settings; the same place each time."""

    def open_it(kind: str, passwords: VaultLib | None = None, **changes: Any) -> SecretStore:
        folder = tmp_path / "inventory"
        folder.mkdir(exist_ok=True)
        given = {**supplied.settings(kind), **changes}
        config = {
            "name": "hosting",
            "file": str(folder / "fleet.yml"),
            "secrets": str(folder / "secrets"),
            "secret_store": {name: value for name, value in given.items() if value is not ...},
        }
        return open_store(settings(config), config, passwords or vault())

    return open_it


@pytest.fixture(params=TYPES)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def store(kind: str, opened: Opened) -> SecretStore:
    return opened(kind)


# --- the contract -------------------------------------------------------------------------------


def test_an_empty_store(store: SecretStore) -> None:
    store.verify()
    assert store.read("acme") is None
    assert store.clients() == []


@pytest.mark.parametrize(
    "secrets", [SECRETS, ODD, {"long": "x" * 5000}], ids=["text", "odd", "long"]
)
def test_secrets_come_back_as_they_were(kind: str, opened: Opened, secrets: dict[str, str]) -> None:
    opened(kind).write("acme", secrets)
    store = opened(kind)
    store.verify()
    assert store.read("acme") == secrets
    assert store.read("beta") is None
    assert store.clients() == ["acme"]


def test_secrets_are_replaced_as_a_whole(store: SecretStore) -> None:
    store.write("acme", SECRETS)
    store.write("beta", ODD)
    store.write("acme", {"api_key": "new"})
    assert store.read("acme") == {"api_key": "new"}
    assert store.read("beta") == ODD
    assert store.clients() == ["acme", "beta"]


def test_no_secrets_at_all(store: SecretStore) -> None:
    store.write("acme", SECRETS)
    store.write("acme", {})
    assert not store.read("acme")


def test_what_is_removed_is_gone_and_can_come_back(store: SecretStore) -> None:
    store.write("acme", SECRETS)
    store.write("beta", ODD)
    store.remove("acme")
    store.remove("acme")
    assert store.read("acme") is None
    assert store.clients() == ["beta"]
    store.write("acme", ODD)
    assert store.read("acme") == ODD


def test_many_clients_at_once(store: SecretStore) -> None:
    """A run reconciles clients side by side."""
    names = [f"client_{number}" for number in range(6)]
    begin = threading.Barrier(len(names))

    def work(name: str) -> dict[str, str] | None:
        begin.wait()
        store.write(name, {"api_key": name})
        return store.read(name)

    with ThreadPoolExecutor(len(names)) as pool:
        assert list(pool.map(work, names)) == [{"api_key": name} for name in names]
    assert store.clients() == names


def test_the_place_is_named(store: SecretStore) -> None:
    assert "acme" in store.where("acme")


def no_writing(kind: str, supplied: Supply, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Keeps a store from taking anything more, within the context that it gives."""
    if kind == "command":
        supplied.order("fail", "put")
    elif kind == "hashi_vault":
        token = supplied.server.token(**{"*": ["read", "list"]})
        monkeypatch.setenv("VAULT_TOKEN", token)
    else:
        return full_disk(200)
    return contextlib.nullcontext()


def test_a_write_that_fails_changes_nothing(
    kind: str, opened: Opened, supplied: Supply, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(kind).write("acme", SECRETS)
    with no_writing(kind, supplied, monkeypatch), pytest.raises(FleetError) as raised:
        opened(kind).write("acme", {**SECRETS, "webui_secret_key": "s3cret" * 200})
    shown = exception_texts(raised.value)
    assert not any(secret in shown for secret in [*SECRETS.values(), "s3cret"])
    supplied.order()
    assert opened(kind).read("acme") == SECRETS


@pytest.mark.parametrize("kind", ["vault_files", "sops"])
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_process_that_is_killed_while_it_writes(kind: str, opened: Opened, moment: str) -> None:
    """Before the one step that counts it is the old secrets, after it the new ones."""
    opened(kind).write("acme", SECRETS)
    assert child(lambda: killed(moment, lambda: opened(kind).write("acme", ODD))) == -9
    assert opened(kind).read("acme") == (SECRETS if moment == "before" else ODD)
    opened(kind).write("acme", SECRETS)
    assert opened(kind).read("acme") == SECRETS


def child(work: Callable[[], None]) -> int:
    process = os.fork()
    if process == 0:
        try:
            work()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def killed(moment: str, work: Callable[[], None]) -> None:
    """Ends this process at the step that puts the new file in place."""
    replace = os.replace

    def dying(*paths: Any) -> None:
        if moment == "after":
            replace(*paths)
        os.kill(os.getpid(), signal.SIGKILL)

    _atomic.os.replace = dying  # type: ignore[attr-defined]
    work()


# --- no leak ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["vault_files", "sops"])
def test_files_are_private_and_hold_nothing_in_clear(
    kind: str, opened: Opened, tmp_path: Path, supplied: Supply
) -> None:
    store = opened(kind)
    store.verify()
    store.write("acme", SECRETS)
    store.read("acme")
    found = [path for path in tmp_path.rglob("*") if path.is_file()]
    texts = [path.read_bytes() for path in found]
    assert not any(secret.encode() in text for secret in SECRETS.values() for text in texts)
    ours = [path for path in found if path.is_relative_to(tmp_path / "inventory")]
    assert [str(path) for path in ours] == [store.where("acme")]
    assert stat.S_IMODE(ours[0].stat().st_mode) == 0o600


def test_nothing_secret_is_in_the_arguments_of_sops(opened: Opened, supplied: Supply) -> None:
    store = opened("sops")
    store.write("acme", SECRETS)
    assert store.read("acme") == SECRETS
    calls = supplied.log.read_text()
    assert "encrypt" in calls and "decrypt" in calls
    assert not any(secret in calls for secret in SECRETS.values())


def test_what_a_command_is_given(
    opened: Opened, supplied: Supply, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OPENROUTER_MANAGEMENT_KEY", "sk-or-v1-management")
    store = opened("command")
    store.write("acme", SECRETS)
    store.read("acme")
    store.clients()
    store.remove("acme")
    text = (supplied.kept / "calls").read_text()
    calls = [json.loads(line) for line in text.splitlines()]
    assert [call["verb"] for call in calls] == ["put", "get", "get", "list", "delete"]
    assert {call["directory"] for call in calls} == {str(tmp_path / "inventory")}
    assert not any(secret in text for secret in [*SECRETS.values(), "sk-or-v1-management"])


def test_what_a_command_complains_of_is_shown_without_secrets(
    opened: Opened, supplied: Supply
) -> None:
    supplied.order("fail", "put")
    with pytest.raises(FleetError, match="status 3: no room for") as raised:
        opened("command").write("acme", {"api_key": SECRETS["api_key"]})
    assert "sha256:" in raised.value.what
    assert SECRETS["api_key"] not in exception_texts(raised.value)


@pytest.mark.parametrize("verb", ["get", "list", "put"])
def test_a_command_that_answers_nonsense(opened: Opened, supplied: Supply, verb: str) -> None:
    store = opened("command")
    store.write("acme", SECRETS)
    supplied.order("garble", verb)
    calls = {
        "get": lambda: store.read("acme"),
        "list": store.verify,
        "put": lambda: store.write("acme", SECRETS),
    }
    with pytest.raises(FleetError, match="no JSON object") as raised:
        calls[verb]()
    assert SECRETS["api_key"] not in exception_texts(raised.value)


# --- answers that are lost ----------------------------------------------------------------------


def test_an_answer_that_is_lost_after_the_write(opened: Opened, supplied: Supply) -> None:
    store = opened("hashi_vault")
    store.write("acme", SECRETS)
    supplied.server.lose_answer = True
    store.write("acme", ODD)
    assert not supplied.server.lose_answer
    assert opened("hashi_vault").read("acme") == ODD
    store.write("acme", SECRETS)
    assert store.read("acme") == SECRETS


def test_a_write_that_never_arrives(opened: Opened, supplied: Supply) -> None:
    store = opened("hashi_vault")
    store.write("acme", SECRETS)
    supplied.server.lose_request = True
    with pytest.raises(FleetError, match=r"no answer.*nothing was changed"):
        store.write("acme", ODD)
    assert store.read("acme") == SECRETS


def test_a_server_that_is_gone_after_the_write_leaves_it_open(
    opened: Opened, supplied: Supply
) -> None:
    store = opened("hashi_vault")
    store.write("acme", SECRETS)
    supplied.server.lose_answer = True
    answer = supplied.server.answer

    def then_gone(method: str, *rest: Any) -> Any:
        if method == "GET":
            raise ConnectionError
        return answer(method, *rest)

    supplied.server.answer = then_gone  # type: ignore[method-assign, assignment]
    with pytest.raises(FleetError, match="not known whether the secrets were stored"):
        store.write("acme", ODD)


def test_a_command_that_is_killed_after_it_has_stored(opened: Opened, supplied: Supply) -> None:
    store = opened("command")
    supplied.order("die-after")
    store.write("acme", SECRETS)
    assert store.read("acme") == SECRETS


def test_a_command_that_hangs(opened: Opened, supplied: Supply) -> None:
    store = opened("command", timeout=4)
    supplied.order("hang-first")
    with pytest.raises(FleetError, match=r"ended after 4 s; nothing was changed"):
        store.write("acme", SECRETS)


def test_nobody_elses_write_is_overwritten(opened: Opened) -> None:
    mine, theirs = opened("hashi_vault"), opened("hashi_vault")
    mine.write("acme", SECRETS)
    assert theirs.read("acme") == SECRETS
    mine.write("acme", ODD)
    with pytest.raises(FleetError, match="somebody else wrote it"):
        theirs.write("acme", {**SECRETS, "admin_token": "t"})
    assert mine.read("acme") == ODD
    assert theirs.read("acme") == ODD


def test_what_somebody_deleted_there_can_be_written_again(opened: Opened, supplied: Supply) -> None:
    """A deleted version is nothing, and still a version."""
    opened("hashi_vault").write("acme", SECRETS)
    supplied.server.kept["mai/hosting/acme"].append(None)
    store = opened("hashi_vault")
    assert store.read("acme") is None
    store.write("acme", ODD)
    assert opened("hashi_vault").read("acme") == ODD


def test_a_store_that_lies_is_found_out(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    store = opened("vault_files")
    monkeypatch.setattr(type(store), "_put", lambda *_given: None)
    with pytest.raises(FleetError, match="came back different"):
        store.write("acme", SECRETS)


# --- verify -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "changes", "environment", "message"),
    [
        ("sops", {"sops_binary": "/nowhere/sops"}, {}, "program sops cannot be run: No such file"),
        ("sops", {"age": ...}, {}, "config file not found"),
        ("sops", {"age": ["age1nonsense"]}, {}, "failed to parse"),
        ("sops", {}, {"SOPS_AGE_KEY_FILE": "/nowhere"}, "Failed to get the data key"),
        ("hashi_vault", {}, {"VAULT_TOKEN": "s.wrong"}, "Invalid Vault Token"),
        ("hashi_vault", {}, {"VAULT_TOKEN": ""}, "signing in failed: No Vault Token"),
        ("hashi_vault", {"mount": "old"}, {}, "no key-value engine of version 2"),
        ("hashi_vault", {"mount": "none"}, {}, "may not do this"),
        ("hashi_vault", {"url": "http://127.0.0.1:1"}, {}, r"no answer \(ConnectionError\)"),
        ("command", {"command": "/nowhere/keeper"}, {}, "cannot be run: No such file"),
    ],
)
def test_verify_says_what_is_missing(
    opened: Opened,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    changes: dict[str, Any],
    environment: dict[str, str],
    message: str,
) -> None:
    opened(kind).verify()
    for name, value in environment.items():
        if value:
            monkeypatch.setenv(name, value)
        else:
            monkeypatch.delenv(name)
    with pytest.raises(FleetError, match=message) as raised:
        opened(kind, **changes).verify()
    assert raised.value.where and raised.value.todo


def test_verify_finds_a_sealed_server(opened: Opened, supplied: Supply) -> None:
    supplied.server.sealed = True
    with pytest.raises(FleetError, match="it is sealed") as raised:
        opened("hashi_vault").verify()
    assert "unseal" in raised.value.todo


def test_verify_finds_a_token_that_may_not_write(
    opened: Opened, supplied: Supply, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = supplied.server.token(**{"secret__data__mai__hosting__*": ["read"]})
    monkeypatch.setenv("VAULT_TOKEN", token)
    with pytest.raises(FleetError, match="the token may not create, update"):
        opened("hashi_vault").verify()
    assert not [request for request in supplied.server.requests if "secret/data" in request[1]]


def test_a_token_with_the_documented_policy_can_do_it_all(
    opened: Opened, supplied: Supply, monkeypatch: pytest.MonkeyPatch, repository: Path
) -> None:
    text = (repository / "docs" / "secrets.md").read_text()
    rules: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line.strip().startswith('path "'):
            path, _middle, can = (
                line.strip().removeprefix('path "').partition('" { capabilities = ')
            )
            rules[path.replace("FLEET", "hosting")] = json.loads(can.removesuffix(" }"))
    token = supplied.server.token()
    supplied.server.tokens[token] = rules
    monkeypatch.setenv("VAULT_TOKEN", token)
    store = opened("hashi_vault")
    store.verify()
    store.write("acme", SECRETS)
    assert store.clients() == ["acme"]
    store.remove("acme")
    assert store.read("acme") is None


def test_signing_in_with_a_role(
    opened: Opened, supplied: Supply, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VAULT_TOKEN")
    supplied.server.roles["fleet", "s3cret-id"] = {"*": ["root"]}
    monkeypatch.setenv("ANSIBLE_HASHI_VAULT_SECRET_ID", "s3cret-id")
    store = opened("hashi_vault", auth_method="approle", role_id="fleet")
    store.verify()
    store.write("acme", SECRETS)
    assert store.read("acme") == SECRETS
    monkeypatch.setenv("ANSIBLE_HASHI_VAULT_SECRET_ID", "wrong-one")
    with pytest.raises(FleetError, match="refused: invalid role or secret ID") as raised:
        opened("hashi_vault", auth_method="approle", role_id="fleet").verify()
    assert "wrong-one" not in exception_texts(raised.value)


def test_sops_takes_recipients_from_its_own_rules(
    opened: Opened, supplied: Supply, tmp_path: Path
) -> None:
    rule = r"^secrets/[a-z0-9_-]+\.sops\.yml$"
    (tmp_path / "inventory").mkdir()
    (tmp_path / "inventory" / ".sops.yaml").write_text(
        f"creation_rules:\n  - path_regex: '{rule}'\n    age: {supplied.recipient}\n"
    )
    store = opened("sops", age=...)
    store.verify()
    store.write("acme", SECRETS)
    assert store.read("acme") == SECRETS


def test_a_sops_file_that_was_changed_by_hand_is_found_out(opened: Opened) -> None:
    store = opened("sops")
    store.write("acme", SECRETS)
    path = Path(store.where("acme"))
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if not line.startswith("admin_password")))
    with pytest.raises(FleetError, match="MAC mismatch"):
        store.read("acme")
    path.write_text("api_key: in clear\n")
    with pytest.raises(FleetError, match="sops metadata not found"):
        store.read("acme")


# --- vault ids ----------------------------------------------------------------------------------


def test_fleet_yml_says_which_vault_id_encrypts(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANSIBLE_VAULT_ENCRYPT_IDENTITY", "dev")
    passwords = vault(("dev", b"one"), ("prod", b"two"))
    store = opened("vault_files", passwords, vault_id="prod")
    store.verify()
    store.write("acme", SECRETS)
    assert Path(store.where("acme")).read_bytes().startswith(b"$ANSIBLE_VAULT;1.2;AES256;prod\n")
    with pytest.raises(FleetError, match="no password was given for the vault id other") as raised:
        opened("vault_files", passwords, vault_id="other").verify()
    assert raised.value.where == "fleet.yml: secret_store.vault_id"


def test_files_go_on_after_ansible_vault_rekey(opened: Opened, tmp_path: Path) -> None:
    store = opened("vault_files")
    store.write("acme", SECRETS)
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_bytes(b"the vault's password")
    new.write_bytes(b"another one")
    subprocess.run(
        [
            "ansible-vault",
            "rekey",
            f"--vault-password-file={old}",
            f"--new-vault-id=prod@{new}",
            store.where("acme"),
        ],
        check=True,
        capture_output=True,
    )
    rekeyed = opened("vault_files", vault(("prod", b"another one")), vault_id="prod")
    rekeyed.verify()
    assert rekeyed.read("acme") == SECRETS
    rekeyed.write("acme", ODD)
    assert rekeyed.read("acme") == ODD
    with pytest.raises(FleetError, match="does not open"):
        store.read("acme")
