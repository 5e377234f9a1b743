# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold the contract table against a published OpenAPI description of OpenRouter.

    OPENROUTER_OPENAPI=/path/to/openapi.yaml python tests/contract/compare.py

Exit status 0: they agree (or the variable is not set, which is said); 1: they do not, as listed.
What the table marks as newer or stricter than the description is listed every time.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from contract.table import FORMATS, Field, Route, Table, contract

VARIABLE = "OPENROUTER_OPENAPI"
LIMITS = {
    "min": "minimum",
    "max": "maximum",
    "min_length": "minLength",
    "max_length": "maxLength",
    "min_items": "minItems",
    "max_items": "maxItems",
}


@dataclass
class Published:
    """One published schema with its references and alternatives folded together."""

    types: set[str] = field(default_factory=set)
    enum: set[Any] | None = None
    limits: dict[str, float] = field(default_factory=dict)
    format: str | None = None
    items: list[dict[str, Any]] = field(default_factory=list)
    fields: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    required: set[str] = field(default_factory=set)


class Description:
    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        self.paths = {_anonymous(path): item for path, item in document["paths"].items()}

    def resolve(self, node: dict[str, Any]) -> dict[str, Any]:
        while "$ref" in node:
            target: Any = self.document
            for step in node["$ref"].removeprefix("#/").split("/"):
                target = target[step]
            node = target
        return node

    def operation(self, route: Route) -> dict[str, Any] | None:
        operation: dict[str, Any] | None = self.paths.get(_anonymous(route.path), {}).get(
            route.method.lower()
        )
        return operation

    def fold(self, schemas: list[dict[str, Any]]) -> Published:
        """Several schemas are alternatives: what any of them allows, what all of them require."""
        parts = [self._one(self.resolve(schema)) for schema in schemas]
        return parts[0] if len(parts) == 1 else _either(parts)

    def _one(self, schema: dict[str, Any]) -> Published:
        for key in ("oneOf", "anyOf"):
            if key in schema:
                return self.fold(schema[key])
        if "allOf" in schema:
            return _both([self._one(self.resolve(part)) for part in schema["allOf"]])
        types = schema.get("type", [])
        names = {types} if isinstance(types, str) else set(types)
        values = schema.get("enum", [schema["const"]] if "const" in schema else None)
        return Published(
            types={"list" if name == "array" else name for name in names},
            enum=None if values is None else set(values),
            limits={ours: schema[key] for ours, key in LIMITS.items() if key in schema},
            format=schema.get("format"),
            items=[schema["items"]] if "items" in schema else [],
            fields={name: [part] for name, part in schema.get("properties", {}).items()},
            required=set(schema.get("required", [])),
        )


def _anonymous(path: str) -> str:
    return re.sub(r"\{[^}]*\}", "{}", path)


def _either(parts: list[Published]) -> Published:
    result = Published()
    filled = [part for part in parts if part.types - {"null"}]
    objects = [part for part in parts if "object" in part.types]
    for part in parts:
        result.types |= part.types
        result.items += part.items
        for name, schemas in part.fields.items():
            result.fields.setdefault(name, []).extend(schemas)
    if filled and all(part.enum is not None for part in filled):
        result.enum = {value for part in parts for value in part.enum or {None}}
    if objects:
        result.required = set.intersection(*(part.required for part in objects))
    if len(filled) == 1:
        result.limits, result.format = filled[0].limits, filled[0].format
    return result


def _both(parts: list[Published]) -> Published:
    result = Published()
    typed = [part.types for part in parts if part.types]
    if typed:
        result.types = set.intersection(*typed)
    for part in parts:
        result.items = part.items or result.items
        result.fields |= part.fields
        result.required |= part.required
        result.limits |= part.limits
        result.format = result.format or part.format
        if part.enum is not None:
            result.enum = part.enum if result.enum is None else result.enum & part.enum
    return result


class Comparison:
    def __init__(self, table: Table, description: Description) -> None:
        self.table = table
        self.description = description
        self.problems: list[str] = []
        self.newer: dict[str, list[str]] = {}
        self.stricter: dict[str, list[str]] = {}
        self.now_published: list[str] = []
        self.fields = 0
        self.statuses = 0

    def run(self) -> None:
        for route in self.table.routes.values():
            operation = self.description.operation(route)
            if operation is None:
                self.problems.append(f"{route.name}: no such route in the description")
                continue
            self.query(route, operation)
            self.body(route, operation)
            self.answers(route, operation)
            self.errors(route, operation)

    def query(self, route: Route, operation: dict[str, Any]) -> None:
        shared = self.description.paths[_anonymous(route.path)].get("parameters", [])
        parameters = map(self.description.resolve, shared + operation.get("parameters", []))
        known = {item["name"]: item for item in parameters if item["in"] == "query"}
        published = Published(
            types={"object"},
            fields={name: [item["schema"]] for name, item in known.items()},
            required={name for name, item in known.items() if item.get("required")},
        )
        self.field(route.query, published, f"{route.name} query")

    def body(self, route: Route, operation: dict[str, Any]) -> None:
        content = self.description.resolve(operation.get("requestBody", {})).get("content")
        if (content is None) != (route.body is None):
            self.problems.append(f"{route.name}: one side has a body, the other has none")
        elif content and route.body:
            schema = content["application/json"]["schema"]
            self.field(route.body, self.description.fold([schema]), f"{route.name} body")

    def answers(self, route: Route, operation: dict[str, Any]) -> None:
        for status, answer in route.answers.items():
            where = f"{route.name} answer {status}"
            self.statuses += 1
            response = operation["responses"].get(str(status))
            if response is None:
                self.problems.append(f"{where}: the description has no such status")
                continue
            content = self.description.resolve(response)["content"]
            schema = content["application/json"]["schema"]
            self.field(answer, self.description.fold([schema]), where)
            if route.stream:
                self.stream(route, content)

    def stream(self, route: Route, content: dict[str, Any]) -> None:
        assert route.stream
        if "text/event-stream" not in content:
            self.problems.append(f"{route.name}: the description does not stream")
            return
        envelope = self.description.fold([content["text/event-stream"]["schema"]])
        event = self.description.fold(envelope.fields["data"])
        self.field(route.stream, event, f"{route.name} stream")

    def errors(self, route: Route, operation: dict[str, Any]) -> None:
        declared = {int(status) for status in operation["responses"] if not status.startswith("2")}
        for status in sorted(route.errors):
            self.statuses += 1
            where = f"{route.name} answer {status}"
            if status not in declared:
                self.problems.append(f"{where}: the description has no such status")
                continue
            response = self.description.resolve(operation["responses"][str(status)])
            schema = response["content"]["application/json"]["schema"]
            self.field(route.error, self.description.fold([schema]), where)
        for status in sorted(declared - route.errors):
            if status in route.newer_errors:
                self.now_published.append(f"{route.name} answer {status}")
            else:
                self.problems.append(f"{route.name} answer {status}: missing in the table")
        for status in sorted(route.newer_errors.keys() - declared):
            places = self.newer.setdefault(route.newer_errors[status], [])
            places.append(f"{route.name} answer {status}")

    def field(self, ours: Field, published: Published, where: str) -> None:
        self.fields += 1
        differences = list(_differences(ours, published, asked=_is_request(where)))
        if differences and ours.stricter and not _wider(ours, published):
            self.stricter.setdefault(ours.stricter, []).append(where)
        else:
            self.problems += [f"{where}: {difference}" for difference in differences]
        if ours.fields is not None:
            self.object(ours, published, where)
        if ours.items is not None and published.items:
            self.field(ours.items, self.description.fold(published.items), f"{where}[]")

    def object(self, ours: Field, published: Published, where: str) -> None:
        assert ours.fields is not None
        for name, item in ours.fields.items():
            self.named(name, item, ours, published, f"{where}.{name}")
        if ours.open:
            return
        for name in sorted(published.required - ours.fields.keys()):
            self.problems.append(
                f"{where}.{name}: required in the description, missing in the table"
            )

    def named(self, name: str, item: Field, ours: Field, published: Published, where: str) -> None:
        if name not in published.fields:
            if item.published:
                self.problems.append(f"{where}: the description has no such field")
            else:
                note = " ".join(part for part in (item.since, item.source) if part)
                self.newer.setdefault(note, []).append(where)
            return
        if not item.published:
            self.now_published.append(where)
        if (name in ours.required) != (name in published.required):
            theirs = "required" if name in published.required else "optional"
            self.problems.append(f"{where}: {theirs} in the description, not so in the table")
        self.field(item, self.description.fold(published.fields[name]), where)


def _differences(ours: Field, published: Published, *, asked: bool) -> Iterator[str]:
    """`asked`: in a request. An answer may have more values than the table cares to name."""
    # No type at all means that anything goes, on either side.
    if published.types and set(ours.types) != {"any"} and set(ours.types) != published.types:
        yield f"type {_text(ours.types)} here, {_text(published.types)} in the description"
    enum = None if ours.enum is None else set(ours.enum)
    if enum != published.enum and (asked or enum is not None):
        yield f"enum {_text(enum)} here, {_text(published.enum)} in the description"
    for name in LIMITS:
        here, there = ours.limits.get(name), published.limits.get(name)
        if here != there:
            yield f"{name} {here} here, {there} in the description"
    form = published.format if published.format in FORMATS else None
    if ours.format != form:
        yield f"format {ours.format} here, {form} in the description"


def _is_request(where: str) -> bool:
    return where.split()[2].startswith(("query", "body"))


def _wider(ours: Field, published: Published) -> bool:
    """True where the table allows a value that the description rules out."""
    if published.types and "any" not in ours.types and not published.types.issuperset(ours.types):
        return True
    return bool(
        published.enum is not None and (ours.enum is None or not published.enum >= set(ours.enum))
    )


def _text(values: Any) -> str:
    if values is None:
        return "none"
    return "|".join(sorted("null" if value is None else str(value) for value in values))


def main() -> int:
    name = os.environ.get(VARIABLE)
    if not name:
        print(f"skipped: {VARIABLE} does not name a published OpenAPI description")
        return 0
    with open(name, encoding="utf-8") as stream:
        # The description is large: libyaml where it is there.
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(stream)
        comparison = Comparison(contract(), Description(loader.get_single_data()))
    comparison.run()
    report("newer than the description, or not in it", grouped(comparison.newer))
    report("stricter than the description", grouped(comparison.stricter))
    report("published meanwhile, the mark can go", comparison.now_published)
    report("DISAGREES with the description", comparison.problems)
    print(
        f"{len(comparison.table.routes)} routes, {comparison.statuses} statuses, "
        f"{comparison.fields} fields compared; {count(comparison.newer)} newer, "
        f"{count(comparison.stricter)} stricter, {len(comparison.problems)} disagreements"
    )
    return 1 if comparison.problems else 0


def grouped(notes: dict[str, list[str]]) -> list[str]:
    """One line a note; the places of a note that is repeated everywhere are counted."""
    lines = []
    for note, places in notes.items():
        more = f" and {len(places) - 3} more" if len(places) > 3 else ""
        lines.append(f"{note}: {'; '.join(places[:3])}{more}")
    return lines


def count(notes: dict[str, list[str]]) -> int:
    return sum(map(len, notes.values()))


def report(title: str, lines: list[str]) -> None:
    if lines:
        print(f"{title}:")
        for line in sorted(set(lines)):
            print(f"  {line}")


if __name__ == "__main__":
    sys.exit(main())
