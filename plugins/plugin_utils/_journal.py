# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the mai.fleet collection
"""What was done to a client, one line a change, in ``journal/NAME.jsonl``.

Lines are only ever added. Each has the hashes of the lines that were the last ones when it was
written, so a line that was changed or taken away breaks the chain. Where two operators worked at
once and their files were united line by line, the chain forks; the next line joins the branches.
"""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import json
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.mai.fleet.plugins.module_utils._atomic import append
from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError

Line = dict[str, Any]


@dataclass(frozen=True)
class Chain:
    """A journal that was read: its lines in their order, and those that none follows."""

    lines: list[Line]
    heads: list[str]


class Journal:
    def __init__(self, directory: str) -> None:
        self._directory = Path(directory)
        self._read: dict[str, tuple[bytes, Chain]] = {}

    def path(self, client: str) -> Path:
        return self._directory / f"{client}.jsonl"

    def clients(self) -> list[str]:
        """Whoever has a journal, also clients that have no file any more."""
        return sorted(path.stem for path in self._directory.glob("*.jsonl"))

    def add(self, client: str, at: str, what: str, result: str, **details: Any) -> None:
        """One line at the end, on the disk when this returns.

        :param what: the change, such as ``create key``
        :param details: what it was about; never a secret, a fingerprint stands for it
        :raises FleetError: the journal is damaged, or cannot be written
        """
        path = self.path(client)
        content = _bytes(path)
        chain = self._chain(client, content)
        line: Line = {
            "at": at,
            "who": operator(),
            "client": client,
            "what": what,
            "result": result,
            **details,
            "after": chain.heads,
        }
        line["hash"] = _hash(line)
        text = json.dumps(line, sort_keys=True, ensure_ascii=False) + "\n"
        # A run that was killed may have left half a line, which was never part of the chain.
        keep = content.rfind(b"\n") + 1
        try:
            append(str(path), keep, text.encode(), 0o600)
        except OSError as error:
            raise FleetError(
                f"the journal cannot be written: {error.strerror}", str(path), "make room"
            ) from error
        longer = Chain([*chain.lines, line], [line["hash"]])
        self._read[client] = (_digest(content[:keep] + text.encode()), longer)

    def verify(self, client: str, known: Iterable[str] = ()) -> Chain:
        """:param known: hashes of lines that were there once

        :raises FleetError: a line was changed, taken away or put in
        """
        chain = self._chain(client, _bytes(self.path(client)))
        lost = set(known) - {line["hash"] for line in chain.lines}
        if lost:
            raise FleetError(
                "lines are missing at its end: the client's record knows a later one, "
                f"{min(lost)[:12]}",
                str(self.path(client)),
                _TODO,
            )
        return chain

    def readable(self, client: str) -> list[tuple[int, Line]]:
        """Whatever can be read of a journal that may be damaged, with the numbers of the lines."""
        texts = _bytes(self.path(client)).decode("utf-8", "replace").split("\n")[:-1]
        found = []
        for number, text in enumerate(texts, 1):
            with contextlib.suppress(FleetError):
                found.append((number, _line(text, "")))
        return found

    def _chain(self, client: str, content: bytes) -> Chain:
        """What was verified once is not verified again, as long as it is the same."""
        digest, chain = self._read.get(client, (b"", None))
        if chain is None or digest != _digest(content):
            chain = self._verified(client, content)
            self._read[client] = (_digest(content), chain)
        return chain

    def _verified(self, client: str, content: bytes) -> Chain:
        path = self.path(client)
        chain = read(content, str(path))
        wrong = [line for line in chain.lines if line.get("client") != client]
        if wrong:
            raise FleetError(
                f"a line of {wrong[0]['at']} is client {wrong[0].get('client')}'s", str(path), _TODO
            )
        return chain


_TODO = (
    "compare it with its history in git, and find out who wrote there; without a history, "
    "docs/journal.md says how to begin another one"
)


def operator() -> str:
    """Who runs this, and where."""
    return f"{getpass.getuser()}@{socket.gethostname()}"


def read(content: bytes, where: str) -> Chain:
    """:raises FleetError: it is no chain"""
    lines: list[Line] = []
    known: set[str] = set()
    followed: set[str] = set()
    # Not splitlines(), which ends a line at characters that may stand in one.
    complete = content.decode("utf-8", "replace").split("\n")[:-1]
    for number, text in enumerate(complete, 1):
        place = f"{where}, line {number}"
        line = _line(text, place)
        if line["hash"] != _hash(line):
            raise FleetError("the line was changed after it was written", place, _TODO)
        if line["hash"] in known:
            raise FleetError("the line is there twice", place, "remove one of them")
        missing = set(line["after"]) - known
        if missing or bool(line["after"]) != bool(lines):
            raise FleetError("a line before this one is missing", place, _TODO)
        lines.append(line)
        known.add(line["hash"])
        followed.update(line["after"])
    return Chain(lines, [line["hash"] for line in lines if line["hash"] not in followed])


def _line(text: str, where: str) -> Line:
    try:
        line = json.loads(text)
        if not isinstance(line, dict) or not isinstance(line["after"], list):
            raise ValueError("not a line of a journal")
        line["hash"]
    except (ValueError, KeyError) as error:
        raise FleetError(f"not a line of a journal: {error}", where, _TODO) from None
    return line


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


def _hash(line: Mapping[str, Any]) -> str:
    """Of all that a line says, and so of all lines before it."""
    said = {name: value for name, value in line.items() if name != "hash"}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise FleetError(f"cannot be read: {error.strerror}", str(path), "mend its mode") from error
