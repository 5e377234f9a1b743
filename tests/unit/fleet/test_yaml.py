# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""YAML as operators write it, and where their mistakes are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ansible_collections.mai.fleet.plugins.plugin_utils._yaml import read, shown


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(text: str | bytes) -> str:
    data = text if isinstance(text, bytes) else text.encode()
    Path("acme.yml").write_bytes(data)
    return "acme.yml"


def test_a_file() -> None:
    text = "schema: 1\norganization: Łódź \"&\" #1\nnote: 'a # b'\nenv: {A: 'x', B: y}\n"
    assert read(write(text)) == (
        {
            "schema": 1,
            "organization": 'Łódź "&"',
            "note": "a # b",
            "env": {"A": "x", "B": "y"},
        },
        [],
    )


def test_vault_values_stay_encrypted() -> None:
    text = "env:\n  A: !vault |\n    $ANSIBLE_VAULT;1.1;AES256\n    6162\n"
    content, problems = read(write(text))
    assert problems == []
    assert content == {"env": {"A": {"vault": "$ANSIBLE_VAULT;1.1;AES256\n6162\n"}}}


@pytest.mark.parametrize(
    ("text", "what", "line"),
    [
        ("a: 1\nport: 2\nb: 3\nport: 4\n", "port is given more than once", 1),
        ("a: 1\nenv:\n  X: '1'\n  X: '2'\n", "X is given more than once", 3),
        ('a: 1\nport: 2\n"port": 4\n', "port is given more than once", 1),
        ("a: 1\nb: [\n", "not valid YAML", 3),
        ("a: 1\n\tb: 2\n", "not valid YAML", 2),
        ("a: 1\nb: c: d\n", "not valid YAML", 2),
        ("a: 1\n---\nb: 1\n", "not valid YAML", 2),
        ("a: 1\nb: !secret x\n", "not valid YAML", 2),
        ("a: !!python/object/apply:os.getcwd []\n", "not valid YAML", 1),
    ],
)
def test_mistakes_and_their_lines(text: str, what: str, line: int) -> None:
    content, (problem,) = read(write(text), "acme")
    assert content is None
    assert what in problem.what
    assert problem.where == f"acme.yml, line {line}"
    assert problem.client == "acme"


@pytest.mark.parametrize("data", [b"a: \xff\n", b"a: \x07\n", b"\x00"])
def test_what_is_no_text(data: bytes) -> None:
    content, (problem,) = read(write(data))
    assert content is None
    assert problem.what.startswith("cannot be read")
    assert problem.where == "acme.yml"


def test_what_is_no_file() -> None:
    os.mkdir("folder.yml")
    for name in ("folder.yml", "missing.yml"):
        content, (problem,) = read(name)
        assert content is None
        assert problem.what.startswith("cannot be read")


def test_paths_are_shown_as_a_person_types_them(tmp_path: Path) -> None:
    assert shown(str(tmp_path / "clients" / "acme.yml")) == "clients/acme.yml"
    assert shown("/etc/hosts") == "/etc/hosts"
    shown(os.fsdecode(b"clients/\xff.yml")).encode()
