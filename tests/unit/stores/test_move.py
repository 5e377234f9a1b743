# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets that go from one store to another: none is lost, wherever the move is cut off."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.records import Record
from ansible_collections.mai.fleet.plugins.plugin_utils._move import Move, Way, note_move
from ansible_collections.mai.fleet.plugins.plugin_utils._secret_home import Home
from ansible_collections.mai.fleet.plugins.plugin_utils._secret_stores.base import SecretStore
from ansible_collections.mai.fleet.plugins.plugin_utils._secret_stores.opening import (
    Settings,
    open_store,
)
from ansible_collections.mai.fleet.plugins.plugin_utils._store import Store
from standins.supply import TYPES, Supply
from unit.keys.bench import vault

SECRETS: dict[str, dict[str, str]] = {
    "acme": {"api_key": "sk-or-v1-acme", "admin_password": "one"},
    "beta": {"api_key": "sk-or-v1-beta"},
    "gone": {},
}


class Killed(BaseException):
    """The run ends here."""


class Fleet:
    """An inventory whose fleet.yml can name another store from one run to the next."""

    def __init__(self, folder: Path, supplied: Supply) -> None:
        self.folder = folder
        self.supplied = supplied
        folder.mkdir()

    def config(self, kind: str, **changes: Any) -> dict[str, Any]:
        return {
            "name": "hosting",
            "file": str(self.folder / "fleet.yml"),
            **{name: str(self.folder / name) for name in ("secrets", "state", "journal")},
            "secret_store": {**self.supplied.settings(kind), **changes},
        }

    def store(self, kind: str, **changes: Any) -> Store:
        return Store(self.config(kind, **changes), vault())

    def opened(self, kind: str, **changes: Any) -> SecretStore:
        config = self.config(kind, **changes)
        return open_store(Home(config).configured, config, vault())

    def fill(self, kind: str) -> None:
        """Clients with a key, made by runs with such a store."""
        store = self.store(kind)
        for name, secrets in SECRETS.items():
            store.save_record(Record(name, "web1", name, f"u_{name}", key_hash="ab" * 32))
            store.save_secrets(name, secrets)
        store.verify()

    def move(
        self,
        kind: str,
        source: Settings | None = None,
        step: Callable[[str], None] = lambda _what: None,
        **changes: Any,
    ) -> Move:
        """:param step: is told of every write, before it and after it"""
        config = self.config(kind, **changes)
        home = Home(config)
        save = home.save

        def saved(whereabouts: Any) -> None:
            step("before saving where it is")
            save(whereabouts)
            step("after saving where it is")

        home.save = saved  # type: ignore[method-assign]
        return Move(
            home,
            source,
            lambda given: watched(open_store(given, config, vault()), step),
            lambda client, way: self.note(kind, client, way, step),
        )

    def note(self, kind: str, client: str, way: Way, step: Callable[[str], None]) -> None:
        step(f"before noting {client}")
        note_move(self.store(kind), client, way)
        step(f"after noting {client}")

    def moves(self, client: str) -> list[Any]:
        """Where to the client's journal knows that its secrets went."""
        lines = self.store("vault_files").verify_journal(client).lines
        return [line["to"] for line in lines if line["what"] == "move secrets"]

    def everything(self, kind: str) -> dict[str, dict[str, str]]:
        store = self.opened(kind)
        return {name: store.read(name) or {} for name in SECRETS}


def watched(store: SecretStore, step: Callable[[str], None]) -> SecretStore:
    for name in ("write", "remove"):
        act = getattr(store, name)

        def watching(*given: Any, act: Any = act, name: str = name) -> None:
            step(f"before {name} {given[0]}")
            act(*given)
            step(f"after {name} {given[0]}")

        setattr(store, name, watching)
    return store


@pytest.fixture
def fleet(tmp_path: Path, supplied: Supply) -> Fleet:
    return Fleet(tmp_path / "inventory", supplied)


@pytest.mark.parametrize(("old", "new"), [*pairwise([*TYPES, TYPES[0]])])
def test_secrets_move_there_and_back_and_stay_as_they_are(fleet: Fleet, old: str, new: str) -> None:
    fleet.fill(old)
    with pytest.raises(FleetError, match=f"the secrets are in {old}.*new keys would be") as raised:
        fleet.store(new).verify()
    assert "ansible-playbook mai.fleet.move_secrets" in raised.value.todo
    move = fleet.move(new)
    assert not move.done
    assert set(move.run()) >= {"acme", "beta"}
    assert fleet.everything(new) == SECRETS
    assert fleet.opened(old).clients() == []
    fleet.store(new).verify()
    assert fleet.move(new).done
    with pytest.raises(FleetError, match=f"the secrets are in {new}"):
        fleet.store(old).verify()
    fleet.move(old).run()
    assert fleet.everything(old) == SECRETS
    assert fleet.opened(new).clients() == []


def test_a_move_can_be_cut_off_anywhere(fleet: Fleet) -> None:
    """At every write, before it and after it; the runs in between find every secret."""
    steps: list[str] = []
    fleet.fill("vault_files")
    fleet.move("hashi_vault", step=steps.append).run()
    fleet.move("vault_files").run()
    assert len(steps) == 2 * (1 + 1 + 1 + 3 + 1 + 3 + 3 + 1)
    for number in range(len(steps)):
        at = count()

        def cut(_what: str, number: int = number, at: Any = at) -> None:
            if next(at) == number:
                raise Killed

        with pytest.raises(Killed):
            fleet.move("hashi_vault", step=cut).run()
        truth = [kind for kind in ("vault_files", "hashi_vault") if is_home(fleet, kind)]
        assert len(truth) == 1, steps[number]
        assert fleet.everything(truth[0]) == SECRETS, steps[number]
        again = fleet.move("hashi_vault")
        if not again.done:
            again.run()
        assert fleet.everything("hashi_vault") == SECRETS, steps[number]
        assert fleet.opened("vault_files").clients() == []
        fleet.move("vault_files").run()
        assert fleet.opened("hashi_vault").clients() == []
        # There and back, and each of it once, also where the run was cut off after the line.
        there, back = "hashi_vault", "vault_files secrets"
        for client in SECRETS:
            assert [to.split(" http")[0] for to in fleet.moves(client)] == [there, back] * (
                number + 2
            ), (steps[number], client)


def is_home(fleet: Fleet, kind: str) -> bool:
    try:
        fleet.store(kind).verify()
    except FleetError:
        return False
    return True


def test_a_key_that_is_rotated_between_two_tries_is_moved_as_it_is_then(fleet: Fleet) -> None:
    fleet.fill("vault_files")

    def cut(what: str) -> None:
        if what == "before write beta":
            raise Killed

    with pytest.raises(Killed):
        fleet.move("hashi_vault", step=cut).run()
    rotated = {"api_key": "sk-or-v1-another"}
    fleet.store("vault_files").save_secrets("acme", rotated)
    fleet.move("hashi_vault").run()
    assert fleet.everything("hashi_vault") == {**SECRETS, "acme": rotated}


def test_a_change_during_the_move_stops_it_before_anything_is_removed(fleet: Fleet) -> None:
    fleet.fill("vault_files")

    def meddle(what: str) -> None:
        if what == "after write beta":
            fleet.store("vault_files").save_secrets("acme", {"api_key": "changed"})

    with pytest.raises(FleetError, match="its secrets were changed meanwhile"):
        fleet.move("hashi_vault", step=meddle).run()
    assert fleet.opened("vault_files").read("acme") == {"api_key": "changed"}
    fleet.store("vault_files").verify()
    fleet.move("hashi_vault").run()
    assert fleet.opened("hashi_vault").read("acme") == {"api_key": "changed"}


@pytest.mark.parametrize("cut", [False, True], ids=["first try", "second try"])
def test_other_secrets_in_the_old_place_are_never_removed(fleet: Fleet, cut: bool) -> None:
    """Whoever is right: the old copy may be the only one of a living key."""
    fleet.fill("vault_files")
    other = {"api_key": "sk-or-v1-other"}

    def meddle(what: str) -> None:
        if what == "before noting acme":
            fleet.opened("vault_files").write("beta", other)
            if cut:
                raise Killed

    move = fleet.move("hashi_vault", step=meddle)
    if cut:
        with pytest.raises(Killed):
            move.run()
        move = fleet.move("hashi_vault")
    with pytest.raises(FleetError, match=r"client beta: .*other secrets of it") as raised:
        move.run()
    wrong = raised.value.what
    assert "client acme" not in wrong and "client gone" not in wrong
    places = [fleet.opened(kind).where("beta") for kind in ("vault_files", "hashi_vault")]
    assert all(place in wrong for place in places)
    assert fleet.opened("vault_files").read("beta") == other
    assert fleet.everything("hashi_vault") == SECRETS
    assert fleet.moves("beta") == []
    fleet.opened("vault_files").remove("beta")
    fleet.move("hashi_vault").run()
    assert fleet.opened("vault_files").clients() == []
    assert fleet.move("hashi_vault").done


@pytest.mark.parametrize("renewed", [{"api_key": "sk-or-v1-renewed"}, None], ids=["new", "gone"])
def test_one_that_changed_after_the_switch_holds_up_nobody(
    fleet: Fleet, renewed: dict[str, str] | None
) -> None:
    fleet.fill("vault_files")

    def cut(what: str) -> None:
        if what == "before noting acme":
            raise Killed

    with pytest.raises(Killed):
        fleet.move("hashi_vault", step=cut).run()
    if renewed:
        fleet.store("hashi_vault").save_secrets("acme", renewed)
    else:
        fleet.opened("hashi_vault").remove("acme")
    move = fleet.move("hashi_vault")
    assert sorted(move.plan()) == sorted(SECRETS)
    assert list(move.stuck()) == ["acme"]
    with pytest.raises(FleetError, match="client acme: ") as raised:
        move.run()
    wrong = str(raised.value)
    assert "client beta" not in wrong and "client gone" not in wrong
    assert fleet.opened("vault_files").where("acme") in wrong
    assert "by hand" in wrong and "run it again" not in wrong
    assert fleet.opened("vault_files").clients() == ["acme"]
    assert fleet.everything("hashi_vault") == {**SECRETS, "acme": renewed or {}}
    fleet.opened("vault_files").remove("acme")
    assert fleet.move("hashi_vault").run() == []
    assert fleet.move("hashi_vault").done


def test_a_client_whose_line_cannot_be_written_keeps_its_old_copy(fleet: Fleet) -> None:
    """The next run writes the line, and removes the copy then."""
    fleet.fill("vault_files")
    journal = fleet.folder / "journal" / "beta.jsonl"
    journal.mkdir(parents=True)
    with pytest.raises(FleetError, match=r"client beta: .*journal") as raised:
        fleet.move("hashi_vault").run()
    assert "client acme" not in raised.value.what
    assert fleet.opened("vault_files").clients() == ["beta"]
    assert len(fleet.moves("acme")) == 1
    journal.rmdir()
    assert fleet.move("hashi_vault").run() == ["beta"]
    assert [len(fleet.moves(client)) for client in SECRETS] == [1, 1, 1]


def test_a_run_that_began_before_the_move_stores_nothing_in_the_old_place(fleet: Fleet) -> None:
    """Its next secret would be where no run looks for it."""
    fleet.fill("vault_files")
    earlier = fleet.store("vault_files")
    fleet.move("command").run()
    with pytest.raises(FleetError, match="moved to command"):
        earlier.save_secrets("acme", {"api_key": "sk-or-v1-later"})
    assert fleet.opened("vault_files").clients() == []
    assert fleet.store("command").secrets("acme") == SECRETS["acme"]


def test_what_others_have_there_is_not_overwritten(fleet: Fleet) -> None:
    fleet.fill("vault_files")
    theirs = {"api_key": "somebody else's"}
    fleet.opened("hashi_vault").write("beta", theirs)
    with pytest.raises(FleetError, match="there are other secrets of it already") as raised:
        fleet.move("hashi_vault").run()
    assert "client beta" in raised.value.what and "client acme" not in raised.value.what
    assert fleet.opened("hashi_vault").read("beta") == theirs
    assert fleet.opened("hashi_vault").read("acme") is None
    assert fleet.everything("vault_files") == SECRETS


def test_one_that_cannot_be_read_stops_the_move(fleet: Fleet) -> None:
    fleet.fill("vault_files")
    path = Path(fleet.opened("vault_files").where("beta"))
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(FleetError, match=r"client beta: .*damaged"):
        fleet.move("hashi_vault").run()
    assert fleet.opened("hashi_vault").clients() == []


def test_one_place_under_two_names_loses_nothing(fleet: Fleet) -> None:
    fleet.fill("hashi_vault")
    other_name = fleet.supplied.server.url.replace("127.0.0.1", "localhost")
    assert fleet.move("hashi_vault", url=other_name).run() == []
    assert fleet.everything("hashi_vault") == SECRETS
    fleet.store("hashi_vault", url=other_name).verify()


def test_two_directories_of_one_type(fleet: Fleet) -> None:
    fleet.fill("vault_files")
    config = {**fleet.config("vault_files"), "secrets": str(fleet.folder / "keys")}
    with pytest.raises(FleetError, match=r"in vault_files secrets, and fleet.yml names .* keys"):
        Store(config, vault()).verify()
    store = Store(config, vault())
    move = Move(
        Home(config),
        None,
        lambda given: open_store(given, config, vault()),
        lambda client, way: note_move(store, client, way),
    )
    move.run()
    assert Store(config, vault()).secrets("acme") == SECRETS["acme"]
    assert not list((fleet.folder / "secrets").glob("*.yml"))
    Store(config, vault()).verify()


def test_a_fleet_that_never_had_another_store_writes_nothing_down(fleet: Fleet) -> None:
    fleet.fill("vault_files")
    assert not (fleet.folder / "state" / "secret-store").exists()
    config = {**fleet.config("vault_files"), "secrets": str(fleet.folder / "elsewhere")}
    for name in SECRETS:
        Path(fleet.opened("vault_files").where(name)).unlink()
    Store(config, vault()).verify()


def test_where_it_is_was_lost(fleet: Fleet) -> None:
    """The next run accepts a store that has the secrets, and no other."""
    fleet.fill("sops")
    (fleet.folder / "state" / "secret-store").unlink()
    fleet.store("sops").verify()
    with pytest.raises(FleetError, match="new keys would be made"):
        fleet.store("hashi_vault").verify()
    source = Home(fleet.config("sops")).configured
    assert "acme" in fleet.move("hashi_vault", source).run()
    assert fleet.everything("hashi_vault") == SECRETS


def test_another_source_than_the_one_that_is_known(fleet: Fleet) -> None:
    fleet.fill("sops")
    with pytest.raises(FleetError, match="the secrets are in sops"):
        fleet.move("hashi_vault", fleet.supplied.settings("command"))


def test_copies_of_a_move_that_was_given_up_are_named(fleet: Fleet) -> None:
    fleet.fill("vault_files")

    def cut(what: str) -> None:
        if what == "before write beta":
            raise Killed

    with pytest.raises(Killed):
        fleet.move("hashi_vault", step=cut).run()
    move = fleet.move("command")
    assert "acme" in move.forgotten and "hashi_vault" in move.forgotten
    assert fleet.move("hashi_vault").forgotten == ""


@pytest.mark.parametrize("damage", ["", "[]", "{}", '{"schema": 2}', '{"schema": 1, "store": {}}'])
def test_a_damaged_note_is_named(fleet: Fleet, damage: str) -> None:
    fleet.fill("sops")
    path = fleet.folder / "state" / "secret-store"
    path.write_text(damage)
    with pytest.raises(FleetError, match="does not say where the secrets are") as raised:
        fleet.store("sops").verify()
    assert raised.value.where == str(path)


def test_the_note_holds_no_secret_and_no_path_of_this_machine(fleet: Fleet, tmp_path: Path) -> None:
    fleet.fill("vault_files")
    fleet.move("sops").run()
    text = (fleet.folder / "state" / "secret-store").read_text()
    said = json.loads(text)
    assert said["store"]["type"] == "sops" and said["store"]["directory"] == "secrets"
    assert str(fleet.folder) not in text and "sk-or" not in text
