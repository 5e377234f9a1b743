# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The secrets that are looked for, in every form in which they may lie around."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field, replace
from urllib.parse import quote, quote_plus

#: Characters at a secret's beginning or end by which a person could know it.
END = 12
#: A form that is shorter is found everywhere.
LEAST = 8
_PUBLIC_BEGINNINGS = ("sk-or-v1-",)


@dataclass(frozen=True)
class Needle:
    """:ivar owner: the client whose secret it is, empty when it is the operator's"""

    name: str
    owner: str
    form: str
    text: bytes = field(repr=False)

    def __str__(self) -> str:
        return f"{self.name} ({self.form})"


def forms(secret: str) -> dict[str, str]:
    """What a secret looks like in files, URLs, logs and programs, by the form's name."""
    found = {"as it is": secret}
    found |= {
        "JSON": json.dumps(secret)[1:-1],
        "JSON in UTF-8": json.dumps(secret, ensure_ascii=False)[1:-1],
        "JSON in JSON": json.dumps(json.dumps(secret))[3:-3],
        "Python": repr(secret)[1:-1],
        "URL": quote(secret, safe=""),
        "URL path": quote(secret),
        "form": quote_plus(secret),
        "hex": secret.encode().hex(),
    }
    for shift in range(3):
        found[f"base64+{shift}"] = _base64(secret, shift)
        found[f"base64url+{shift}"] = _base64(secret, shift).translate(_URLSAFE)
    distinct = _distinct(secret)
    found["first characters"] = distinct[:END]
    found["last characters"] = distinct[-END:]
    seen: dict[str, str] = {}
    for form, text in found.items():
        if len(text) >= LEAST:
            seen.setdefault(text, form)
    return {form: text for text, form in seen.items()}


_URLSAFE = str.maketrans("+/", "-_")


def _base64(secret: str, shift: int) -> str:
    """The characters that do not depend on what stands before and behind it."""
    data = secret.encode()
    text = base64.b64encode(b"\0" * shift + data).decode()
    first = -(-shift * 8 // 6)
    last = (shift + len(data)) * 8 // 6
    return text[first:last]


def _distinct(secret: str) -> str:
    """The part of it that no other secret has: a token's header says nothing."""
    for beginning in _PUBLIC_BEGINNINGS:
        secret = secret.removeprefix(beginning)
    is_token = secret.startswith("eyJ") and secret.count(".") == 2
    return secret.rpartition(".")[2] if is_token else secret


class Needles:
    def __init__(self) -> None:
        self.secrets: dict[str, str] = {}
        self.all: list[Needle] = []

    def plant(self, name: str, secret: str, owner: str = "") -> None:
        """A secret keeps the name that it got first; whose it is may turn out later."""
        known = next((known for known, text in self.secrets.items() if text == secret), None)
        if known:
            self.all = [
                replace(needle, owner=needle.owner or owner) if needle.name == known else needle
                for needle in self.all
            ]
            return
        while name in self.secrets:
            name += "'"
        self.secrets[name] = secret
        self.all += [
            Needle(name, owner, form, text.encode()) for form, text in forms(secret).items()
        ]

    def within(self, data: bytes) -> list[Needle]:
        """One needle a secret, however many forms of it are there."""
        found: dict[str, Needle] = {}
        for needle in self.all:
            if needle.name not in found and needle.text in data:
                found[needle.name] = needle
        return list(found.values())
