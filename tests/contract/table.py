# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The contract table (openrouter.yml) as objects, and the checks that it drives.

Every check returns a list of sentences; an empty list means that the value fits.
"""

from __future__ import annotations

import functools
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

TABLE_FILE = Path(__file__).with_name("openrouter.yml")
LIMIT_KEYS = frozenset(("min", "max", "min_length", "max_length", "min_items", "max_items"))
MARK_KEYS = frozenset(("since", "source", "stricter"))
CONTENT_KEYS = frozenset(("type", "shape", "fields", "items", "open", "enum", "format"))
FIELD_KEYS = LIMIT_KEYS | MARK_KEYS | CONTENT_KEYS
ROUTE_KEYS = frozenset(("caller", "query", "body", "answers", "stream", "errors", "newer_errors"))
CALLERS = frozenset({"management", "inference", "any", "anyone"})
_SHA256 = re.compile(r"[0-9a-f]{64}")
_UTC_SECONDS = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


class TableError(ValueError):
    """The table itself is malformed: says where and what."""


def _fits_type(value: object, name: str) -> bool:
    if name == "any":
        return True
    if name == "null":
        return value is None
    if name == "integer":
        return isinstance(value, int) and not isinstance(value, bool)
    if name == "number":
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    python_types: dict[str, type] = {"string": str, "boolean": bool, "object": dict, "list": list}
    return isinstance(value, python_types[name])


def _is_uuid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text.lower()
    except ValueError:
        return False


def _is_utc_time(text: str) -> bool:
    if not _UTC_SECONDS.fullmatch(text):
        return False
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


FORMATS = {
    "uuid": _is_uuid,
    "date-time": _is_utc_time,
    "sha256": lambda text: _SHA256.fullmatch(text) is not None,
}


@dataclass(frozen=True)
class Field:
    """One value: a query parameter, a body field, a field of an answer, or a whole body."""

    types: tuple[str, ...]
    enum: tuple[Any, ...] | None = None
    limits: Mapping[str, float] = field(default_factory=dict)
    format: str | None = None
    items: Field | None = None
    fields: Mapping[str, Field] | None = None
    required: frozenset[str] = frozenset()
    open: bool = False
    since: str | None = None
    source: str | None = None
    stricter: str | None = None

    @property
    def published(self) -> bool:
        """False for what the published description is known not to have."""
        return self.since is None and self.source is None

    def check(self, value: object, where: str) -> list[str]:
        if not any(_fits_type(value, name) for name in self.types):
            return [f"{where}: expected {'|'.join(self.types)}, got {_kind(value)}"]
        if value is None:
            return []
        problems = []
        if self.enum is not None and value not in self.enum:
            problems.append(f"{where}: expected one of {_listed(self.enum)}, got {value!r}")
        problems += self._check_limits(value, where)
        if self.format and isinstance(value, str) and not FORMATS[self.format](value):
            problems.append(f"{where}: not a valid {self.format}: {value!r}")
        if isinstance(value, list) and self.items:
            for number, item in enumerate(value):
                problems += self.items.check(item, f"{where}[{number}]")
        if isinstance(value, dict) and self.fields is not None:
            problems += self._check_fields(value, where)
        return problems

    def _check_limits(self, value: object, where: str) -> list[str]:
        problems = []
        for name, bound in self.limits.items():
            size = _size(value, name)
            if size is None:
                continue
            if size < bound if name.startswith("min") else size > bound:
                problems.append(f"{where}: {name} is {bound:g}, got {size:g}")
        return problems

    def _check_fields(self, value: dict[str, Any], where: str) -> list[str]:
        assert self.fields is not None
        problems = []
        for name in sorted(self.required - value.keys()):
            problems.append(f"{_join(where, name)}: required, but missing")
        for name, item in value.items():
            if name in self.fields:
                problems += self.fields[name].check(item, _join(where, name))
            elif not self.open:
                problems.append(f"{_join(where, name)}: unknown field")
        return problems


@dataclass(frozen=True)
class Route:
    """One method on one path, e.g. `GET /keys/{hash}`."""

    method: str
    path: str
    caller: str
    query: Field
    body: Field | None
    answers: Mapping[int, Field]
    stream: Field | None
    errors: frozenset[int]
    newer_errors: Mapping[int, str]
    error: Field

    @property
    def name(self) -> str:
        return f"{self.method} {self.path}"

    def check_query(self, query: Mapping[str, str]) -> list[str]:
        """Query values arrive as text; they are read as the type that the table gives them."""
        return self.query.check(self.read_query(query), "query")

    def read_query(self, query: Mapping[str, str]) -> dict[str, Any]:
        assert self.query.fields is not None
        return {name: _from_text(text, self.query.fields.get(name)) for name, text in query.items()}

    def check_body(self, body: object) -> list[str]:
        if self.body is None:
            return [] if body is None else ["body: this route takes none"]
        return self.body.check(body, "body")

    def check_answer(self, status: int, body: object) -> list[str]:
        where = f"answer {status}"
        if status in self.answers:
            return self.answers[status].check(body, where)
        if status not in self.errors and status not in self.newer_errors:
            return [f"{self.name}: status {status} is not in the table"]
        return self.error.check(body, where)

    def check_event(self, event: object) -> list[str]:
        if self.stream is None:
            return [f"{self.name}: does not stream"]
        return self.stream.check(event, "event")


@dataclass(frozen=True)
class Table:
    base: str
    shapes: Mapping[str, Field]
    routes: Mapping[str, Route]

    @classmethod
    def load(cls, path: Path = TABLE_FILE) -> Table:
        """Raises TableError for a table that cannot be read without doubt."""
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
        return _Reader(raw).table()


@functools.cache
def contract() -> Table:
    """The project's table, read once a process."""
    return Table.load()


class _Reader:
    def __init__(self, raw: dict[str, Any]) -> None:
        self.raw = raw
        self.shapes: dict[str, Field] = {}
        self.reading: list[str] = []

    def table(self) -> Table:
        for name in self.raw["shapes"]:
            self.shape(name)
        routes = {name: self.route(name, spec) for name, spec in self.raw["routes"].items()}
        return Table(base=self.raw["base"], shapes=self.shapes, routes=routes)

    def shape(self, name: str) -> Field:
        if name in self.shapes:
            return self.shapes[name]
        if name not in self.raw["shapes"]:
            raise TableError(f"shape {name!r} is used but not defined")
        if name in self.reading:
            raise TableError(f"shape {name!r} contains itself")
        self.reading.append(name)
        self.shapes[name] = self.object({"fields": self.raw["shapes"][name]}, name)
        self.reading.pop()
        return self.shapes[name]

    def route(self, name: str, spec: dict[str, Any]) -> Route:
        self._known(spec, ROUTE_KEYS, name)
        if spec.get("caller") not in CALLERS:
            raise TableError(f"{name}: caller must be one of {', '.join(sorted(CALLERS))}")
        method, _ignored, path = name.partition(" ")
        return Route(
            method=method,
            path=path,
            caller=spec["caller"],
            query=self.object({"fields": spec.get("query", {})}, f"{name} query"),
            body=self.object(spec["body"], f"{name} body") if "body" in spec else None,
            answers={
                status: self.answer(answer, f"{name} {status}")
                for status, answer in spec["answers"].items()
            },
            stream=self.object(spec["stream"], f"{name} stream") if "stream" in spec else None,
            errors=frozenset(spec["errors"]),
            newer_errors=dict(spec.get("newer_errors", {})),
            error=self.shape("error"),
        )

    def answer(self, spec: dict[str, Any], where: str) -> Field:
        return self.object(spec if "shape" in spec else {"fields": spec}, where)

    def object(self, spec: dict[str, Any], where: str) -> Field:
        return self.field({"type": "object", **spec}, where)

    def field(self, spec: str | dict[str, Any], where: str) -> Field:
        if isinstance(spec, str):
            spec = {"type": spec}
        self._known(spec, FIELD_KEYS, where)
        fields, required, is_open = self._fields(spec, where)
        names = spec.get("type", "object" if fields is not None else None)
        if names is None:
            raise TableError(f"{where}: no type")
        return Field(
            types=self._types(names, where),
            enum=tuple(spec["enum"]) if "enum" in spec else None,
            limits={key: spec[key] for key in spec if key in LIMIT_KEYS},
            format=self._format(spec, where),
            items=self.field(spec["items"], f"{where}[]") if "items" in spec else None,
            fields=fields,
            required=required,
            open=is_open,
            since=str(spec["since"]) if "since" in spec else None,
            source=spec.get("source"),
            stricter=spec.get("stricter"),
        )

    def _fields(
        self, spec: dict[str, Any], where: str
    ) -> tuple[dict[str, Field] | None, frozenset[str], bool]:
        if "shape" in spec:
            shape = self.shape(spec["shape"])
            return dict(shape.fields or {}), shape.required, bool(spec.get("open", shape.open))
        if "fields" not in spec:
            return None, frozenset(), bool(spec.get("open"))
        raw = spec["fields"]
        fields = {name.rstrip("*"): self.field(raw[name], f"{where}.{name}") for name in raw}
        required = frozenset(name.rstrip("*") for name in raw if name.endswith("*"))
        return fields, required, bool(spec.get("open"))

    @staticmethod
    def _types(names: str, where: str) -> tuple[str, ...]:
        types = tuple(names.split("|"))
        known = {"any", "null", "string", "integer", "number", "boolean", "object", "list"}
        if not known.issuperset(types):
            raise TableError(f"{where}: unknown type {names!r}")
        return types

    @staticmethod
    def _format(spec: dict[str, Any], where: str) -> str | None:
        name = spec.get("format")
        if name is not None and name not in FORMATS:
            raise TableError(f"{where}: unknown format {name!r}")
        return name

    @staticmethod
    def _known(spec: dict[str, Any], known: frozenset[str], where: str) -> None:
        if unknown := sorted(set(spec) - known):
            raise TableError(f"{where}: unknown key {', '.join(unknown)}")


def _kind(value: object) -> str:
    names = ("null", "boolean", "integer", "number", "string", "object", "list")
    return next(name for name in names if _fits_type(value, name))


def _listed(values: tuple[Any, ...]) -> str:
    return ", ".join("null" if value is None else str(value) for value in values)


def _join(where: str, name: str) -> str:
    return f"{where}.{name}"


def _size(value: object, limit: str) -> float | None:
    """What a limit measures: characters, items, or the number itself."""
    if limit.endswith("_length"):
        return len(value) if isinstance(value, str) else None
    if limit.endswith("_items"):
        return len(value) if isinstance(value, list) else None
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return value
    return None


def _from_text(text: str, item: Field | None) -> object:
    """A query text as the narrowest type that the table allows; else the text, which then fails."""
    if item is None:
        return text
    for name, convert in (("integer", int), ("number", float)):
        if name in item.types:
            try:
                return convert(text)
            except ValueError:
                return text
    return text
