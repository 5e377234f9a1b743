# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a record says of a departure, and how a client's file is made to say that it goes."""

from __future__ import annotations

import datetime
import hashlib
import os
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.playbook.play_context import PlayContext
from ansible.playbook.task import Task
from ansible.plugins.loader import connection_loader
from ansible.template import Templar
from ansible_collections.mai.fleet.plugins.action import fleet_export
from ansible_collections.mai.fleet.plugins.action.fleet_absent import _absent
from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.offboarding import (
    held_until,
    is_due,
    needs_export,
    told,
    unclaimed,
)
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.records import (
    Offboarding,
    Record,
)
from unit.keys.bench import Bench, desired

GONE = Offboarding(
    begun="2026-01-01T00:00:00Z",
    exported="2026-01-01T00:01:00Z",
    archive="exports/acme.tar.gz",
    size=7,
    sha256="ab",
    refused="2026-01-01T00:02:00Z",
    keys_deleted="2026-01-01T00:03:00Z",
    removed="2026-01-01T00:04:00Z",
    volumes=["acme_data"],
    held_until="2026-01-31T00:04:00Z",
)
RECORD = Record("acme", "web1", "Acme", "u", slot=3, state="absent", offboarding=GONE)


def at(text: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(text).replace(tzinfo=datetime.UTC)


def test_a_record_keeps_its_departure() -> None:
    assert Record.read(asdict(RECORD)) == RECORD
    older = {name: value for name, value in asdict(RECORD).items() if name != "offboarding"}
    assert Record.read(older).offboarding is None


def test_when_volumes_may_be_removed() -> None:
    assert held_until(GONE.removed, 30) == GONE.held_until
    assert not is_due(RECORD, at("2026-01-31T00:03:59"))
    assert is_due(RECORD, at("2026-01-31T00:04:00"))
    later = at("2026-12-31T00:00:00")
    assert not is_due(replace(RECORD, state="present"), later)
    assert not is_due(replace(RECORD, offboarding=None), later)
    assert not is_due(replace(RECORD, offboarding=replace(GONE, held_until="")), later)
    assert not is_due(replace(RECORD, offboarding=replace(GONE, volumes_removed="x")), later)


def test_who_has_to_be_exported() -> None:
    assert not needs_export(RECORD)
    assert needs_export(replace(RECORD, offboarding=None))
    assert needs_export(replace(RECORD, offboarding=Offboarding(GONE.begun)))
    assert not needs_export(replace(RECORD, offboarding=None, slot=0))


def test_what_a_person_reads() -> None:
    lines = told(RECORD)
    assert [line[:20] for line in lines] == sorted(line[:20] for line in lines)
    assert "exports/acme.tar.gz, 7 bytes, SHA-256 ab" in lines[1]
    assert lines[-1].startswith(GONE.held_until)
    over = replace(GONE, volumes_removed="2026-02-01T00:00:00Z", without="it was not wanted")
    lines = told(replace(RECORD, offboarding=over))
    assert "no export: it was not wanted" in lines[1]
    assert lines[-1] == "2026-02-01T00:00:00Z  volumes removed: acme_data"


def test_the_key_stage_dates_its_steps_once(bench: Bench) -> None:
    bench.one(desired())
    bench.one(desired(state="absent"))
    first = bench.record("acme").offboarding
    assert first and first.refused and first.keys_deleted and not first.removed
    bench.one(desired(state="absent"))
    assert bench.record("acme").offboarding == first


@pytest.mark.parametrize("cut", [False, True])
def test_who_comes_back_has_what_was_left_of_the_cap(bench: Bench, cut: bool) -> None:
    bench.one(desired())
    bench.simulator.set_usage(bench.key()["hash"], 30)
    if cut:
        bench.simulator.fault(method="DELETE", path="/keys/.*", status=403)
        assert bench.run(desired(state="absent"))["acme"]["failed"]
    bench.one(desired(state="absent"))
    assert bench.living() == []
    assert not bench.one(desired(state="absent"))["changed"]
    bench.one(desired())
    assert bench.key()["limit"] == 70
    assert not bench.one(desired())["changed"]
    bench.simulator.advance(days=31)
    bench.one(desired())
    assert bench.key()["limit"] == 100


def test_who_comes_back_has_no_key_that_is_deleted_late(bench: Bench) -> None:
    """The answer to its deletion was lost: it may be acted upon when the client is back."""
    bench.one(desired())
    old = bench.key()["hash"]
    bench.simulator.set_usage(old, 30)
    bench.simulator.fault(method="DELETE", path="/keys/.*", status=403)
    assert bench.run(desired(state="absent"))["acme"]["failed"]
    bench.one(desired())
    before, key = bench.living()
    assert (before["hash"], before["disabled"]) == (old, True)
    assert (key["limit"], key["disabled"]) == (70, False)
    bench.quietly("DELETE", f"/keys/{old}")
    assert not bench.one(desired())["changed"]
    assert bench.key()["limit"] == 70


def test_a_client_whose_secret_is_lost_can_go(bench: Bench) -> None:
    bench.one(desired())
    bench.store.save_secrets("acme", {})
    bench.one(desired(state="absent"))
    leaving = bench.record("acme").offboarding
    assert leaving and leaving.keys_deleted and not leaving.refused
    assert bench.living() == []


def test_the_guardrail_stays_around_somebody_elses_key(bench: Bench) -> None:
    bench.one(desired())
    key, _secret = bench.api().create_key("somebody's", 5, "monthly", "")
    (rail,) = bench.api().list_guardrails()
    bench.api().assign(rail.id, key.hash)
    row = bench.run(desired(state="absent"))["acme"]
    assert row["failed"] and "is around other keys, too" in row["failure"]["what"]
    assert bench.living() == [] and bench.api().assignments()[key.hash] == rail.id
    bench.api().delete_key(key.hash)
    bench.one(desired(state="absent"))
    assert bench.api().list_guardrails() == []


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("a: 1\n", "a: 1\nstate: absent\n"),
        ("a: 1", "a: 1\nstate: absent\n"),
        ("state: present # yes\na: 1\n", "state: absent # yes\na: 1\n"),
        ("a: 1\nstate: 'suspended'\n", "a: 1\nstate: absent\n"),
        ("# state: present\na: 1\n", "# state: present\na: 1\nstate: absent\n"),
        ("a: !vault |\n  $A\n", "a: !vault |\n  $A\nstate: absent\n"),
        ("a:\n  state: present\n", "a:\n  state: present\nstate: absent\n"),
        ("state: absent\n", "state: absent\n"),
    ],
)
def test_a_file_says_that_its_client_goes(before: str, after: str) -> None:
    assert _absent(before, "clients/acme.yml") == after
    assert _absent(after, "clients/acme.yml") == after


@pytest.mark.parametrize(
    "text", ["{a: 1}\n", "a: 1\n...\n", "state: >\n  present\n", '"state": present\n']
)
def test_a_file_that_only_a_person_can_change(text: str) -> None:
    with pytest.raises(FleetError, match="write state: absent in it"):
        _absent(text, "clients/acme.yml")


def test_a_server_does_not_say_where_an_archive_goes(tmp_path: Path) -> None:
    """One that was broken into answers what it likes."""
    loader, context = DataLoader(), PlayContext()
    connection = connection_loader.get("local", context, os.devnull)
    action = fleet_export.ActionModule(Task(), connection, context, loader, Templar(loader), None)
    exports = tmp_path / "inventory" / "exports"
    action._vars = {
        "inventory_hostname": "web1",
        "fleet_config": {
            "directory": str(tmp_path / "srv"),
            "exports": str(exports),
            "exports_on_server": False,
        },
    }
    name = "acme-20260101T000000Z.tar.gz"
    content = b"what the server likes"
    for place in (tmp_path / "srv-exports", tmp_path):
        place.mkdir(exist_ok=True)
        (place / name).write_bytes(content)
    manifest = {"archive": f"../{name}", "sha256": hashlib.sha256(content).hexdigest()}
    news = action._keep(RECORD, {"export": manifest})
    assert news["archive"].endswith(f"exports/{name}")
    assert sorted(path.name for path in exports.iterdir()) == [
        "acme-20260101T000000Z.json",
        "acme-20260101T000000Z.tar.gz",
    ]
    assert [path.name for path in exports.parent.iterdir()] == ["exports"]


def test_a_volume_that_another_client_took_over_is_its() -> None:
    record = Record("acme", "web1", "Acme GmbH", "mai_client_00000000")
    beta = {"server": "web1", "state": "present", "volume": "acme_data"}
    held = ["acme_data", "acme_more"]
    assert unclaimed(held, record, {"beta": beta}) == ["acme_more"]
    for other in ({"server": "web2"}, {"state": "absent"}, {"volume": None}):
        assert unclaimed(held, record, {"beta": {**beta, **other}}) == held
    assert unclaimed(held, record, {"acme": beta}) == held
