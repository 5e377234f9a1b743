# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The models on offer: rows of a file, as GET /models answers them, plus what changed since.

In the file an `expiration_date` may be relative ("+30d": so many days after the simulator's state
began), so that the expiring rows of the default catalog never run out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from .state import State

CATALOG_FILE = Path(__file__).with_name("catalog.json")
# Suffixes that work on any model without a row of their own.
DYNAMIC_VARIANTS = frozenset({"nitro", "floor", "exacto", "online"})
MILLION = 10**6

Row = dict[str, Any]


def entry(row: Row) -> str:
    """How a guardrail stores this row: canonical slug, and the variant where the row is one."""
    _ignored, _ignored, variant = row["id"].partition(":")
    return f"{row['canonical_slug']}:{variant}" if variant else str(row["canonical_slug"])


class Catalog:
    def __init__(self, state: State, path: Path = CATALOG_FILE) -> None:
        self.state = state
        self.file_rows: list[Row] = json.loads(path.read_text(encoding="utf-8"))["data"]
        for row in self.file_rows:
            row["expiration_date"] = self._absolute(row.get("expiration_date"))

    def _absolute(self, date: str | None) -> str | None:
        if date is None or not date.startswith("+"):
            return date
        moment = datetime.fromtimestamp(self.state.started_at, UTC)
        return (moment + timedelta(days=int(date[1:-1]))).date().isoformat()

    def known(self) -> dict[str, Row]:
        """Every model that there is or was."""
        rows = {row["id"]: row for row in [*self.file_rows, *self.state.models_added]}
        for model, date in self.state.expirations.items():
            rows[model] = rows[model] | {"expiration_date": date}
        return rows

    def rows(self) -> dict[str, Row]:
        """What is on offer now, by id."""
        today = datetime.fromtimestamp(self.state.now, UTC).date().isoformat()
        return {
            model: row
            for model, row in self.known().items()
            if model not in self.state.models_removed
            and (row["expiration_date"] is None or row["expiration_date"] > today)
        }

    def find(self, name: str) -> Row | None:
        """A row on offer by id, by canonical slug (with variant), or with a dynamic suffix."""
        return _find(name, self.rows())

    def gone(self, name: str) -> Row | None:
        """A row that was on offer once and is not any more."""
        return None if self.find(name) else _find(name, self.known())


def _find(name: str, rows: dict[str, Row]) -> Row | None:
    if name in rows:
        return rows[name]
    for row in rows.values():
        if "alias_target" not in row and entry(row) == name:
            return row
    base, _ignored, variant = name.partition(":")
    return _find(base, rows) if variant in DYNAMIC_VARIANTS else None


def permitted(row: Row, guardrail: dict[str, Any] | None) -> bool:
    if guardrail is None:
        return True
    allowed, ignored = guardrail["allowed_models"], guardrail["ignored_models"]
    return (allowed is None or entry(row) in allowed) and entry(row) not in (ignored or ())


def filtered(rows: Iterable[Row], query: dict[str, Any]) -> list[Row]:
    """The query parameters of GET /models, as far as the contract table has them."""
    tests = [make(query[name]) for name, make in FILTERS.items() if query.get(name) is not None]
    tests.append(_outputs(query.get("output_modalities", "text")))
    chosen = [row for row in rows if all(test(row) for test in tests)]
    sort = query.get("sort", "newest")
    return sorted(chosen, key=SORTS[sort])


Test = Callable[[Row], bool]


def _outputs(wanted: str) -> Test:
    if wanted == "all":
        return lambda _: True
    names = set(wanted.split(","))
    return lambda row: bool(names & set(row["architecture"]["output_modalities"]))


def _inputs(wanted: str) -> Test:
    return lambda row: set(wanted.split(",")) <= set(row["architecture"]["input_modalities"])


def _parameters(wanted: str) -> Test:
    return lambda row: set(wanted.split(",")) <= set(row["supported_parameters"])


def _authors(wanted: str) -> Test:
    return lambda row: row["id"].lstrip("~").partition("/")[0] in wanted.split(",")


def _text(wanted: str) -> Test:
    return lambda row: wanted.lower() in f"{row['id']} {row['name']}".lower()


def _context(wanted: int) -> Test:
    return lambda row: (row["context_length"] or 0) >= wanted


def per_million(row: Row, side: str) -> Decimal:
    """USD per million tokens, the unit of the filters; rows carry USD per token."""
    return Decimal(row["pricing"][side]) * MILLION


def _at_least(side: str) -> Callable[[float], Test]:
    return lambda wanted: lambda row: per_million(row, side) >= Decimal(str(wanted))


def _at_most(side: str) -> Callable[[float], Test]:
    return lambda wanted: lambda row: per_million(row, side) <= Decimal(str(wanted))


FILTERS: dict[str, Callable[[Any], Test]] = {
    "input_modalities": _inputs,
    "supported_parameters": _parameters,
    "model_authors": _authors,
    "q": _text,
    "context": _context,
    "min_price": _at_least("prompt"),
    "max_price": _at_most("prompt"),
    "min_output_price": _at_least("completion"),
    "max_output_price": _at_most("completion"),
}

SORTS: dict[str, Callable[[Row], Any]] = {
    "newest": lambda row: -row["created"],
    "pricing-low-to-high": lambda row: per_million(row, "prompt"),
    "pricing-high-to-low": lambda row: -per_million(row, "prompt"),
    "context-high-to-low": lambda row: -(row["context_length"] or 0),
}
