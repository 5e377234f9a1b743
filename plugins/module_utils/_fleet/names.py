# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the mai.fleet collection
"""Names that tie a client's things together, wherever they are."""

from __future__ import annotations

import difflib
import hashlib
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

NAME = re.compile(r"[a-z][a-z0-9_]{1,30}")
#: Likeness from 0 to 1 that a word needs to be suggested, and how far it may lag behind the best.
_ALIKE = 0.5
_AS_ALIKE = 0.2

#: What a selection calls whoever needs a run because of the time. No client is called that.
DUE = "due"

NAME_RULE = "2 to 31 characters: a lowercase letter, then lowercase letters, digits and underscores"

_KEY = re.compile(
    r"mai/(?P<fleet>[a-z][a-z0-9_]{1,30})/(?P<client>[a-z][a-z0-9_]{1,30})"
    r"/g(?P<generation>[1-9][0-9]*)/(?P<attempt>[0-9a-f]{8})"
)

#: What a name may be made of, where a letter does not decompose into one of ASCII and a mark.
_LETTERS = str.maketrans(
    {"ł": "l", "ø": "o", "đ": "d", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe", "&": " and "}
)


def is_name(text: str) -> bool:
    return NAME.fullmatch(text) is not None


def name_of(organization: str) -> str:
    """A client's name from its company's: Łódź & Söhne GmbH becomes lodz_and_sohne_gmbh."""
    plain = unicodedata.normalize("NFKD", organization.casefold().translate(_LETTERS))
    words = re.findall(r"[a-z0-9]+", plain.encode("ascii", "ignore").decode())
    return "_".join(words).lstrip("0123456789_")[:31].rstrip("_")


@dataclass(frozen=True)
class KeyName:
    """The name of a key at OpenRouter: the mark by which a fleet knows its own keys."""

    fleet: str
    client: str
    generation: int
    attempt: str

    def __str__(self) -> str:
        return f"mai/{self.fleet}/{self.client}/g{self.generation}/{self.attempt}"

    @classmethod
    def parse(cls, text: str) -> KeyName | None:
        """None for the name of a key that no fleet of ours made."""
        match = _KEY.fullmatch(text)
        if match is None:
            return None
        return cls(match["fleet"], match["client"], int(match["generation"]), match["attempt"])


def guardrail_name(fleet: str, client: str) -> str:
    return f"mai/{fleet}/{client}"


def guardrail_client(fleet: str, name: str) -> str | None:
    """The client whose guardrail bears this name, None when it is not this fleet's."""
    prefix = f"mai/{fleet}/"
    client = name.removeprefix(prefix)
    return client if name.startswith(prefix) and is_name(client) else None


def external_user(fleet: str, client: str) -> str:
    """The id that stands for the client in usage records. Written down once, then kept."""
    return "mai_client_" + hashlib.sha256(f"{fleet}/{client}".encode()).hexdigest()[:8]


def nearest(word: str, known: Iterable[str], count: int = 3) -> list[str]:
    """The most alike first; not those that are much less alike than it."""
    likeness = {other: difflib.SequenceMatcher(None, other, word).ratio() for other in known}
    least = max([_ALIKE, *(value - _AS_ALIKE for value in likeness.values())])
    near = [other for other, value in likeness.items() if value >= least]
    return sorted(near, key=lambda other: -likeness[other])[:count]


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A sentence for the end of a message, empty when nothing is near."""
    near = nearest(word, known)
    return f"Did you mean {' or '.join(near)}?" if near else ""
