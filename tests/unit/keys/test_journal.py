# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What was done to a client: every change has its line, and no line can be changed unnoticed."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.keys import Desired
from ansible_collections.mai.fleet.plugins.plugin_utils import _journal
from ansible_collections.mai.fleet.plugins.plugin_utils._journal import Chain, Journal, operator
from ansible_collections.mai.fleet.plugins.plugin_utils._store import Store
from simulator.simulator import Simulator
from unit.keys.bench import FLASH_SLUG, Bench, desired, files, vault

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


def cut(bench: Bench, lines: int) -> bytes:
    """Take lines away at the end of a journal, which leaves a chain without a gap."""
    path = bench.store.journal.path("acme")
    whole = path.read_bytes()
    path.write_bytes(b"".join(whole.splitlines(keepends=True)[:-lines]))
    return whole


@pytest.mark.parametrize("lines", [1, 2, 3])
def test_lines_that_are_missing_at_the_end_are_noticed(bench: Bench, lines: int) -> None:
    bench.one(desired())
    bench.store.keep_end("acme")
    whole = cut(bench, lines)
    store = Store(bench.directories, vault())
    for act in (
        lambda: store.verify_journal("acme"),
        lambda: store.note("acme", "change key", "done"),
    ):
        with pytest.raises(FleetError, match="missing at its end") as raised:
            act()
        assert raised.value.where.endswith("acme.jsonl")
    # A record that is written meanwhile goes on knowing them.
    store.save_record(replace(bench.record("acme"), proven="other"))
    with pytest.raises(FleetError, match="missing at its end"):
        Store(bench.directories, vault()).verify_journal("acme")
    store.journal.path("acme").write_bytes(whole)
    assert Store(bench.directories, vault()).verify_journal("acme").lines


def test_a_journal_that_is_gone_is_noticed(bench: Bench) -> None:
    bench.one(desired())
    bench.store.journal.path("acme").unlink()
    with pytest.raises(FleetError, match="missing at its end"):
        Store(bench.directories, vault()).verify_journal("acme")


def test_the_end_of_a_journal_makes_no_other_record(bench: Bench) -> None:
    bench.one(desired())
    record = bench.record("acme")
    assert record.journal
    assert replace(record, journal=[]) == record


@pytest.mark.parametrize("check", [False, True])
@pytest.mark.parametrize(
    "wanted",
    [
        desired(limit=5.0),
        desired(replace=True),
        desired(state="absent"),
        desired(slugs=[FLASH_SLUG]),
    ],
    ids=["cap", "another key", "absent", "allowlist"],
)
def test_a_damaged_journal_stops_its_client_before_anything_else(
    bench: Bench, simulator: Simulator, wanted: Desired, check: bool
) -> None:
    bench.one(desired())
    bench.one(desired("beta"))
    path = bench.store.journal.path("acme")
    path.write_text("".join(changed_somehow(path)), encoding="utf-8")
    simulator.clear_log()
    before = files(bench.folder)
    fresh = Store(bench.directories, vault())
    assert "was changed" in bench.failure(wanted, store=fresh, check=check)["what"]
    assert bench.writes() == []
    assert files(bench.folder) == before
    bench.one(desired("beta", limit=5.0), store=fresh, check=check)


def changed_somehow(path: Path) -> list[str]:
    first, *rest = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return [first.replace("done", "gone"), *rest]


def test_a_damaged_journal_keeps_no_client_from_being_suspended(bench: Bench) -> None:
    bench.one(desired())
    path = bench.store.journal.path("acme")
    path.write_text("".join(changed_somehow(path)), encoding="utf-8")
    fresh = Store(bench.directories, vault())
    failure = bench.failure(desired(state="suspended"), store=fresh)
    assert "was changed" in failure["what"]
    assert bench.key()["disabled"]


def test_a_chain_is_verified_once_for_many_lines(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also a long one, and as long as nobody else writes."""
    read = _journal.read
    count: list[str] = []

    def counted(content: bytes, where: str) -> Chain:
        count.append(where)
        return read(content, where)

    monkeypatch.setattr(_journal, "read", counted)
    again = Journal(str(journal.path("acme").parent))
    again.verify("acme")
    for number in range(10):
        again.add("acme", AT, "change key", "done", number=number)
    assert len(count) == 1
    journal.add("acme", AT, "change key", "done", number=11)
    again.add("acme", AT, "change key", "done", number=12)
    assert len(count) == 3
    assert len(Journal(str(journal.path("acme").parent)).verify("acme").lines) == 16


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


def git(folder: Path, *words: str) -> None:
    nobody = ("-c", "user.name=op", "-c", "user.email=op@example.com", "-c", "commit.gpgsign=false")
    subprocess.run(["git", *nobody, *words], cwd=folder, check=True, capture_output=True)


def test_two_operators_work_is_united_and_joined(
    bench: Bench, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By git, with the attributes that an operator copies from the example."""
    for name in ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"):
        monkeypatch.setenv(name, "/dev/null")
    bench.one(desired())
    desk = bench.folder
    rule = repository / "inventories" / "example" / ".gitattributes"
    (desk / ".gitattributes").write_bytes(rule.read_bytes())
    (desk / ".gitignore").write_text("state/\nsecrets/\n")
    git(desk, "init", "--quiet", "--initial-branch=main")
    git(desk, "add", ".")
    git(desk, "commit", "-m", "both")
    ends = []
    for branch, limit in (("mine", 10), ("theirs", 20)):
        git(desk, "checkout", "-b", branch, "main")
        store = Store(bench.directories, vault())
        store.note("acme", "change key", "done", limit=limit)
        store.note("acme", "change key", "done", limit=limit + 1)
        ends += store.journal.verify("acme").heads
        git(desk, "commit", "-a", "-m", branch)
    git(desk, "merge", "--no-edit", "mine")
    store = Store(bench.directories, vault())
    chain = store.verify_journal("acme")
    assert chain.heads == sorted(ends, key=chain.heads.index)
    assert len(set(ends)) == 2
    # The record of either of them is good for both.
    for end in ends:
        assert store.journal.verify("acme", [end]).lines == chain.lines
    store.note("acme", "change key", "done", limit=30)
    joined = store.verify_journal("acme")
    assert set(joined.lines[-1]["after"]) == set(ends)
    assert joined.heads == [joined.lines[-1]["hash"]]


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


def test_another_journal_is_begun_where_a_person_wants_it(bench: Bench, repository: Path) -> None:
    """As docs/journal.md says it, for a damaged one of which there is no history."""
    bench.one(desired())
    path, state = bench.store.journal.path("acme"), bench.folder / "state" / "acme.json"
    path.write_text("nonsense\n", encoding="utf-8")
    assert "docs/journal.md" in bench.failure(desired(replace=True))["todo"]
    path.rename(path.with_suffix(".damaged"))
    edit = r'/^  "journal": \[$/,/^  \],\{0,1\}$/c\  "journal": [],'
    assert edit in (repository / "docs" / "journal.md").read_text(encoding="utf-8")
    subprocess.run(["sed", "-i", edit, str(state)], check=True)
    bench.store = Store(bench.directories, vault())
    bench.one(desired(replace=True))
    assert story(bench)[0] == "create key: done"
