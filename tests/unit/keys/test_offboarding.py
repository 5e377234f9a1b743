# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a record says of a departure, and how a client's file is made to say that it goes."""

from __future__ import annotations

import datetime
from dataclasses import asdict, replace

import pytest
from ansible_collections.mai.fleet.plugins.action.fleet_absent import _absent
from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.offboarding import (
    held_until,
    is_due,
    needs_export,
    told,
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
