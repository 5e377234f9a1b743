# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What was done to a client: every change has its line, and no line can be changed unnoticed."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError
from ansible_collections.mai.fleet.plugins.plugin_utils._journal import Journal, operator
from simulator.simulator import Simulator
from unit.keys.bench import FLASH_SLUG, Bench, desired

AT = "2026-11-21T12:00:00Z"


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    journal = Journal(str(tmp_path / "journal"))
    for number in range(4):
        journal.add("acme", AT, "change key", "done", number=number)
    return journal


def lines(journal: Journal) -> list[str]:
    return journal.path("acme").read_text(encoding="utf-8").splitlines(keepends=True)


def test_lines_are_chained_and_private(journal: Journal) -> None:
    chain = journal.verify("acme")
    assert [line["number"] for line in chain.lines] == [0, 1, 2, 3]
    assert [line["after"] for line in chain.lines[1:]] == [
        [line["hash"]] for line in chain.lines[:3]
    ]
    assert chain.heads == [chain.lines[-1]["hash"]]
    assert {line["who"] for line in chain.lines} == {operator()}
    assert journal.path("acme").stat().st_mode & 0o777 == 0o600


def changed(text: list[str]) -> list[str]:
    return [text[0], text[1].replace('"number": 1', '"number": 9'), *text[2:]]


def removed(text: list[str]) -> list[str]:
    return [text[0], *text[2:]]


def beheaded(text: list[str]) -> list[str]:
    return text[1:]


def swapped(text: list[str]) -> list[str]:
    return [text[0], text[2], text[1], text[3]]


def repeated(text: list[str]) -> list[str]:
    return [*text, text[3]]


def begun_anew(text: list[str]) -> list[str]:
    """With a line that follows none."""
    return [*text, text[0].replace('"number": 0', '"number": 5')]


def garbled(text: list[str]) -> list[str]:
    return [text[0], "half a li\n", *text[1:]]


DAMAGE = [changed, removed, beheaded, swapped, repeated, begun_anew, garbled]


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: damage.__name__)
def test_damage_is_noticed_and_nothing_is_added(
    journal: Journal, damage: Callable[[list[str]], list[str]]
) -> None:
    journal.path("acme").write_text("".join(damage(lines(journal))), encoding="utf-8")
    for act in (
        lambda: journal.verify("acme"),
        lambda: journal.add("acme", AT, "delete key", "done"),
    ):
        with pytest.raises(FleetError) as raised:
            act()
        assert "acme.jsonl, line " in raised.value.where


def test_another_clients_journal_is_noticed(journal: Journal) -> None:
    journal.path("acme").rename(journal.path("beta"))
    with pytest.raises(FleetError, match="is client acme's"):
        journal.verify("beta")
    with pytest.raises(FleetError, match="is client acme's"):
        journal.add("beta", AT, "change key", "done")


def test_whatever_characters_a_line_has(journal: Journal) -> None:
    """Python takes some of them for the end of a line."""
    text = "a\u2028b\x85c\x0bd\n\u00e9"
    journal.add("acme", AT, "change key", f"failed: {text}")
    journal.add("acme", AT, "change key", "done")
    assert journal.verify("acme").lines[-2]["result"] == f"failed: {text}"


def test_half_a_line_of_a_run_that_was_killed_is_left_out(journal: Journal) -> None:
    with journal.path("acme").open("a") as file:
        file.write('{"at": "2026-')
    assert len(journal.verify("acme").lines) == 4
    journal.add("acme", AT, "change key", "done", number=4)
    assert [line["number"] for line in journal.verify("acme").lines] == [0, 1, 2, 3, 4]


def test_two_operators_work_is_united_and_joined(journal: Journal, tmp_path: Path) -> None:
    """With git's own union of lines, as .gitattributes asks for it."""
    base, mine, theirs = (tmp_path / name for name in ("base", "mine", "theirs"))
    path = journal.path("acme")
    common = path.read_bytes()
    base.write_bytes(common)
    for file, number in ((mine, 10), (theirs, 20)):
        path.write_bytes(common)
        journal.add("acme", AT, "change key", "done", number=number)
        journal.add("acme", AT, "change key", "done", number=number + 1)
        file.write_bytes(path.read_bytes())
    subprocess.run(["git", "merge-file", "--union", mine, base, theirs], check=True)
    path.write_bytes(mine.read_bytes())
    chain = journal.verify("acme")
    assert len(chain.lines) == 8
    assert len(chain.heads) == 2
    journal.add("acme", AT, "change key", "done", number=30)
    chain = journal.verify("acme")
    assert sorted(chain.lines[-1]["after"]) == sorted(
        line["hash"] for line in chain.lines if line.get("number") in (11, 21)
    )
    assert len(chain.heads) == 1


def test_a_journal_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "journal").write_text("a file where a directory belongs")
    with pytest.raises(FleetError, match="cannot be"):
        Journal(str(tmp_path / "journal")).add("acme", AT, "change key", "done")


# --- what has a line ----------------------------------------------------------------------------


def story(bench: Bench) -> list[str]:
    return [
        f"{line['what']}: {line['result']}" for line in bench.store.journal.verify("acme").lines
    ]


def test_a_life_in_the_journal(bench: Bench, simulator: Simulator) -> None:
    bench.one(desired())
    bench.one(desired())
    bench.one(desired(limit=5, slugs=[FLASH_SLUG]))
    bench.one(desired(state="suspended", limit=5, slugs=[FLASH_SLUG]))
    simulator.fault(method="DELETE", path="/keys/.*", status=403)
    bench.failure(desired(state="absent"))
    bench.one(desired(state="absent"))
    told = story(bench)
    assert told[:6] == [
        "create guardrail: done",
        "create key: done",
        "fence key: done",
        "change guardrail: done",
        "change key: done",
        "change key: done",
    ]
    assert told[6] == "prove refused: done"
    assert told[7].startswith("delete key: failed: HTTP 403")
    assert told[8:] == ["prove refused: done", "delete key: done", "delete guardrail: done"]


def test_a_create_that_failed_has_a_line(bench: Bench, simulator: Simulator) -> None:
    simulator.fault(method="POST", path="/keys", cut="after")
    bench.failure(desired())
    bench.one(desired())
    told = story(bench)
    assert told[1].startswith("create key: failed: no answer")
    assert told[2:] == ["change key: done", "create key: done", "fence key: done"]


def test_no_secret_is_in_a_journal(bench: Bench) -> None:
    bench.one(desired())
    bench.one(desired(replace=True))
    text = bench.store.journal.path("acme").read_text(encoding="utf-8")
    for secret in bench.store.secrets("acme").values():
        assert secret not in text
    assert all(json.loads(line) for line in text.splitlines())


def test_check_mode_writes_no_line(bench: Bench) -> None:
    bench.run(desired(), check=True)
    assert not bench.store.journal.path("acme").exists()
