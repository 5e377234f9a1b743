# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
from urllib.parse import quote

import pytest
from ansible_collections.mai.fleet.plugins.module_utils._dotenv import quote as env_quote
from ansible_collections.mai.fleet.plugins.module_utils._redaction import Redactor, secret_values
from ansible_collections.mai.fleet.plugins.module_utils._secrets import fingerprint

SECRET = "pa$s'w\"ö\\rd/1"


@pytest.mark.parametrize(
    "form",
    [
        SECRET,
        json.dumps(SECRET),
        json.dumps(SECRET, ensure_ascii=False),
        repr(SECRET),
        quote(SECRET),
        quote(SECRET, safe=""),
        env_quote(SECRET),
        SECRET.replace("$", "$$"),
    ],
)
def test_hides_a_secret_however_it_is_written(form: str) -> None:
    shown = Redactor([SECRET]).text(f"before {form} after")
    assert shown.strip("'\"").replace("'", "").replace('"', "") == (
        f"before {fingerprint(SECRET)} after"
    )


def test_hides_the_longer_of_two_secrets_whole() -> None:
    shown = Redactor(["abc", "abcdef"]).text("abcdef abc")
    assert shown == f"{fingerprint('abcdef')} {fingerprint('abc')}"


def test_hides_keys_and_tokens_that_it_was_not_told_of() -> None:
    text = "key sk-or-v1-0123456789abcdef token eyJhbGci.eyJpZCI6.c2ln-_x!"
    shown = Redactor([]).text(text)
    assert shown == (
        f"key {fingerprint('sk-or-v1-0123456789abcdef')} "
        f"token {fingerprint('eyJhbGci.eyJpZCI6.c2ln-_x')}!"
    )


def test_an_empty_secret_hides_nothing() -> None:
    assert Redactor([""]).text("text") == "text"


def test_a_line_break_in_a_secret_is_no_problem() -> None:
    assert Redactor(["a\nb"]).text("a\nb") == fingerprint("a\nb")


def test_hides_named_values_of_an_env_file() -> None:
    text = "# old KEY=x\nKEY='hidden'\nEMPTY=''\nOTHER='shown hidden'\n"
    assert Redactor(["hidden"]).env(text, ["KEY", "EMPTY"]) == (
        "# (a comment that names a secret)\n"
        f"KEY={fingerprint('hidden')}\nEMPTY=''\nOTHER='shown {fingerprint('hidden')}'\n"
    )


def test_a_short_value_is_hidden_in_its_own_line_only() -> None:
    text = "SWITCH='true'\nOTHER='true'\n"
    values = secret_values({"SWITCH": "true", "OTHER": "true"}, ["SWITCH"])
    shown = Redactor(values).env(text, ["SWITCH"])
    assert shown == f"SWITCH={fingerprint('true')}\nOTHER='true'\n"
