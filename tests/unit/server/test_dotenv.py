# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Compose itself makes of these lines is in tests/integration/test_containers.py."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.mai.fleet.plugins.filter.dotenv import dotenv
from ansible_collections.mai.fleet.plugins.module_utils import _dotenv

VALUES = [
    "",
    "plain",
    "  around  ",
    "it's",
    'say "hi"',
    "$HOME",
    "${HOME}",
    "${UNSET?error}",
    "it's ${HOME}",
    "$$",
    "# no comment",
    "a # b",
    "\\",
    "ends in \\",
    "\\\\",
    "\\'",
    "\\n",
    "'",
    "''",
    '"',
    '\\"',
    "Müller & Söhne",
    "Łódź",
    "{{ x }}",
    "`id` $(id)",
    '{"0":{"model_ids":["a/b:free"],"tags":[{"name":"it\'s"}]}}',
    "nbsp\u00a0 ls\u2028 nel\x85",
    "tab\there",
]


@pytest.mark.parametrize("value", VALUES)
def test_what_is_quoted_is_read_back(value: str) -> None:
    text = f"A='1'\nV={_dotenv.quote(value)}\nZ='end'\n"
    assert _dotenv.parse(text) == {"A": "1", "V": value, "Z": "end"}


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("V=a b  # comment", "a b"),
        ("V=a#b", "a#b"),
        ("V=#a", "#a"),
        ("V=", ""),
        ("export V = 'x'  # comment", "x"),
        ('V="a\\nb\\z$$"', "a\nb\\z$"),
    ],
)
def test_reads_what_others_write(line: str, value: str) -> None:
    assert _dotenv.parse_line(line) == ("V", value)


@pytest.mark.parametrize("line", ["", "   ", "# V=1", "  # x"])
def test_skips_empty_lines_and_comments(line: str) -> None:
    assert _dotenv.parse_line(line) is None


@pytest.mark.parametrize("line", ["V='open", 'V="open', "V='a' b", "no value", "V: x", "1V=x"])
def test_names_a_line_that_it_does_not_understand_but_not_its_text(line: str) -> None:
    with pytest.raises(ValueError, match=r"^line 2: not a NAME=value line$"):
        _dotenv.parse(f"A='1'\n{line}\n")


def test_the_last_of_two_values_counts() -> None:
    assert _dotenv.parse("A='1'\nA='2'") == {"A": "2"}


@pytest.mark.parametrize(
    ("value", "quoted"), [(True, "'true'"), (False, "'false'"), (10, "'10'"), (1.5, "'1.5'")]
)
def test_filter_takes_numbers_and_booleans(value: Any, quoted: str) -> None:
    assert dotenv(value) == quoted


@pytest.mark.parametrize("value", ["a\nhidden", "hidden\r", "hidden\0"])
def test_filter_refuses_line_breaks_without_showing_the_value(value: str) -> None:
    with pytest.raises(AnsibleFilterError, match="cannot contain a line break") as error:
        dotenv(value)
    assert "hidden" not in str(error.value)


@pytest.mark.parametrize("value", [None, ["a"], {"a": 1}])
def test_filter_refuses_what_is_not_a_single_value(value: Any) -> None:
    with pytest.raises(AnsibleFilterError, match="expected a text"):
        dotenv(value)
