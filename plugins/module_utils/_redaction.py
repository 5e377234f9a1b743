# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the mai.fleet collection
"""Text that may contain secrets, made fit to be shown: a secret becomes its fingerprint."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Collection, Iterable
from urllib.parse import quote

from ansible_collections.mai.fleet.plugins.module_utils import _dotenv
from ansible_collections.mai.fleet.plugins.module_utils._secrets import fingerprint

# What is a secret wherever it stands: OpenRouter keys, and the tokens of Open WebUI's sessions.
_SHAPES = r"sk-or-[\w-]{6,}|eyJ[\w-]+\.[\w-]+\.[\w-]+"
# What stands in check mode for a secret that does not exist yet.
_TO_COME = re.compile(r"\(new [a-z_]+\)")
# Shorter values are hidden in their own line only: `true` in a whole log says nothing.
_TELLING = 8


class Redactor:
    """Replaces known secret values, as they are or escaped, and whatever looks like a secret."""

    def __init__(self, values: Iterable[str]) -> None:
        self._secret_of = {form: value for value in values if value for form in _forms(value)}
        # Longest first: a secret may contain another one.
        forms = sorted(self._secret_of, key=len, reverse=True)
        self._pattern = re.compile("|".join([*map(re.escape, forms), _SHAPES]), re.ASCII)

    def text(self, text: str) -> str:
        """``text`` without secrets."""
        return self._pattern.sub(
            lambda match: fingerprint(self._secret_of.get(match[0], match[0])), text
        )

    def env(self, text: str, names: Collection[str]) -> str:
        """An ``.env`` file with the values of ``names`` hidden whatever they are.

        :raises ValueError: a line is not understood
        """
        return "\n".join(self._env_line(line, names) for line in text.split("\n"))

    def _env_line(self, line: str, names: Collection[str]) -> str:
        entry = _dotenv.parse_line(line)
        if entry is None and any(name in line for name in names):
            return "# (a comment that names a secret)"
        if entry is not None and entry[0] in names and entry[1]:
            if _TO_COME.fullmatch(entry[1]):
                return line
            return f"{entry[0]}={fingerprint(entry[1])}"
        return self.text(line)


def secret_values(env: dict[str, str], names: Collection[str]) -> list[str]:
    """The values of an ``.env`` file that may be shown nowhere."""
    return [
        value
        for name, value in env.items()
        if name in names and len(value) >= _TELLING and not _TO_COME.fullmatch(value)
    ]


def _forms(value: str) -> set[str]:
    """``value`` as it may turn up in files, logs, JSON and URLs."""
    forms = {
        value,
        json.dumps(value)[1:-1],
        json.dumps(value, ensure_ascii=False)[1:-1],
        repr(value)[1:-1],
        quote(value, safe=""),
        quote(value),
        # In compose.yml every dollar sign is doubled.
        value.replace("$", "$$"),
    }
    with contextlib.suppress(ValueError):
        forms.add(_dotenv.quote(value)[1:-1])
    return forms
