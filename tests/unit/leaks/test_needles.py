# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the suite of leaks looks for. Whether it finds it is controlled in the suite itself."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote

import pytest
from leaks.needles import Needles, forms
from leaks.runs import LEFT_OUT, PLAYBOOKS, unknown

SECRET = 'sk-or-v1-0a"1\\b2&<c3>/d4+ü5e6f7a8b9'


@pytest.mark.parametrize(
    "shown",
    [
        SECRET,
        json.dumps({"key": SECRET}),
        json.dumps({"key": SECRET}, ensure_ascii=False),
        json.dumps(json.dumps([SECRET])),
        repr({"key": SECRET}),
        f"https://example.com/?key={quote(SECRET)}&x=1",
        base64.b64encode(f'{{"key": "{SECRET}"}}'.encode()).decode(),
        base64.b64encode(f'{{"keys": "{SECRET}"}}'.encode()).decode(),
        base64.urlsafe_b64encode(f'{{"a key": "{SECRET}"}}'.encode()).decode(),
        SECRET.encode().hex(),
        f"{SECRET[:22]}...",
        f"...{SECRET[-12:]}",
    ],
)
def test_it_is_found_however_it_is_written(shown: str) -> None:
    needles = Needles()
    needles.plant("the key", SECRET)
    assert [needle.name for needle in needles.within(shown.encode())] == ["the key"]


def test_what_all_secrets_begin_with_is_no_needle() -> None:
    token = "eyJhbGciOiJIUzI1NiJ9.eyJpZCI6IjEifQ.c2lnbmF0dXJlb2Z0aGlzdG9rZW4"
    assert forms(SECRET)["first characters"] == SECRET[9:21]
    assert forms(token)["first characters"] == "c2lnbmF0dXJl"


def test_whose_secret_it_is_may_turn_out_later() -> None:
    needles = Needles()
    needles.plant("a key of nobody", SECRET)
    needles.plant("acme api_key", SECRET, "acme")
    assert {needle.owner for needle in needles.all} == {"acme"}
    assert list(needles.secrets) == ["a key of nobody"]


def test_every_playbook_is_run() -> None:
    assert unknown() == set(), "say in tests/leaks/runs.py how to run it, or why not"
    assert not PLAYBOOKS.keys() & LEFT_OUT.keys()
