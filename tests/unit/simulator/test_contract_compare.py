# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table against a description: one written from the table agrees, each change to it is found.

The real description is not part of the project; where OPENROUTER_OPENAPI names it, the last test
compares with that.
"""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from contract.compare import VARIABLE, main
from contract.table import Field, Route, Table, TableError, contract
from simulator.engine import HANDLERS

TESTS = Path(__file__).resolve().parents[2]
SCRIPT = TESTS / "contract" / "compare.py"
LIMITS = {
    "min": "minimum",
    "max": "maximum",
    "min_length": "minLength",
    "max_length": "maxLength",
    "min_items": "minItems",
    "max_items": "maxItems",
}
Json = dict[str, Any]


def schema(item: Field) -> Json:
    """A field as OpenAPI writes it, without what the table marks as newer."""
    result: Json = {}
    if "any" not in item.types:
        result["type"] = ["array" if name == "list" else name for name in item.types]
    if item.enum is not None:
        result["enum"] = list(item.enum)
    if item.format in ("uuid", "date-time"):
        result["format"] = item.format
    if item.items is not None:
        result["items"] = schema(item.items)
    result |= {LIMITS[name]: bound for name, bound in item.limits.items()}
    if item.fields is not None:
        known = {name: field for name, field in item.fields.items() if field.published}
        result["properties"] = {name: schema(field) for name, field in known.items()}
        result["required"] = sorted(item.required)
    return result


def operation(route: Route) -> Json:
    assert route.query.fields is not None
    parameters = [
        {
            "in": "query",
            "name": name,
            "required": name in route.query.required,
            "schema": schema(item),
        }
        for name, item in route.query.fields.items()
        if item.published
    ]
    responses: Json = {str(status): {"$ref": "#/components/error"} for status in route.errors}
    for status, answer in route.answers.items():
        content = {"application/json": {"schema": schema(answer)}}
        if route.stream:
            event = {"type": "object", "properties": {"data": schema(route.stream)}}
            content["text/event-stream"] = {"schema": event}
        responses[str(status)] = {"content": content}
    result: Json = {"parameters": parameters, "responses": responses}
    if route.body:
        result["requestBody"] = {"content": {"application/json": {"schema": schema(route.body)}}}
    return result


@pytest.fixture(scope="module")
def written_from_the_table() -> Json:
    table = contract()
    paths: Json = {}
    for route in table.routes.values():
        paths.setdefault(route.path, {})[route.method.lower()] = operation(route)
    error = {"content": {"application/json": {"schema": schema(table.shapes["error"])}}}
    return {"paths": paths, "components": {"error": error}}


@pytest.fixture
def description(written_from_the_table: Json) -> Json:
    return copy.deepcopy(written_from_the_table)


@dataclass(frozen=True)
class Result:
    status: int
    text: str


class Comparing:
    """The script's main(), with the variable set to a file that is written for it."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
        self.file = folder / "openapi.yaml"
        self.capsys = capsys
        monkeypatch.setenv(VARIABLE, str(self.file))

    def __call__(self, description: Json) -> Result:
        self.file.write_text(json.dumps(description))
        return Result(main(), self.capsys.readouterr().out)


@pytest.fixture
def compare(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Comparing:
    return Comparing(tmp_path, monkeypatch, capsys)


def run_script(**environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if name != VARIABLE}
    return subprocess.run(
        [sys.executable, str(SCRIPT)],
        env=clean | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_no_description_is_said_and_skipped() -> None:
    result = run_script()
    assert (result.returncode, result.stdout.partition(":")[0]) == (0, "skipped")


def test_agreement_counts_and_lists_what_is_newer(description: Json, compare: Comparing) -> None:
    result = compare(description)
    assert result.status == 0, result.text
    assert f"{len(contract().routes)} routes" in result.text
    assert "GET /keys query.include_expired" in result.text
    assert "GET /keys answer 403" in result.text
    assert ", 0 disagreements" in result.text


def create_key(description: Json) -> Json:
    body = description["paths"]["/keys"]["post"]["requestBody"]
    found: Json = body["content"]["application/json"]["schema"]
    return found


def created_key(description: Json) -> Json:
    answer = description["paths"]["/keys"]["post"]["responses"]["201"]
    found: Json = answer["content"]["application/json"]["schema"]
    return found


def drop_route(description: Json) -> None:
    del description["paths"]["/credits"]


def change_type(description: Json) -> None:
    create_key(description)["properties"]["limit"]["type"] = "string"


def require_more(description: Json) -> None:
    create_key(description)["required"].append("limit")


def require_unknown(description: Json) -> None:
    create_key(description)["required"].append("owner")


def drop_field(description: Json) -> None:
    del created_key(description)["properties"]["key"]


def change_deep_field(description: Json) -> None:
    created_key(description)["properties"]["data"]["properties"]["usage"]["type"] = "string"


def narrow_enum(description: Json) -> None:
    create_key(description)["properties"]["limit_reset"]["enum"] = ["daily", "monthly", None]


def change_limit(description: Json) -> None:
    create_key(description)["properties"]["name"]["minLength"] = 3


def drop_parameter(description: Json) -> None:
    description["paths"]["/guardrails"]["get"]["parameters"].pop(0)


def drop_status(description: Json) -> None:
    del description["paths"]["/keys"]["post"]["responses"]["429"]


def add_status(description: Json) -> None:
    description["paths"]["/keys"]["post"]["responses"]["418"] = {"$ref": "#/components/error"}


def change_success(description: Json) -> None:
    responses = description["paths"]["/keys"]["post"]["responses"]
    responses["200"] = responses.pop("201")


def change_error(description: Json) -> None:
    error = description["components"]["error"]["content"]["application/json"]["schema"]
    error["properties"]["error"]["properties"]["code"]["type"] = "string"


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (drop_route, "GET /credits: no such route"),
        (change_type, "POST /keys body.limit: type null|number here, string in the description"),
        (require_more, "POST /keys body.limit: required in the description"),
        (require_unknown, "POST /keys body.owner: required in the description, missing"),
        (drop_field, "POST /keys answer 201.key: the description has no such field"),
        (change_deep_field, "POST /keys answer 201.data.usage: type number here, string"),
        (narrow_enum, "POST /keys body.limit_reset: enum daily|monthly|null|weekly here"),
        (change_limit, "POST /keys body.name: min_length 1 here, 3 in the description"),
        (drop_parameter, "GET /guardrails query.offset: the description has no such field"),
        (drop_status, "POST /keys answer 429: the description has no such status"),
        (add_status, "POST /keys answer 418: missing in the table"),
        (change_success, "POST /keys answer 201: the description has no such status"),
        (change_error, "POST /keys answer 400.error.code: type integer here, string"),
    ],
)
def test_disagreement_is_found(
    description: Json, compare: Comparing, change: Callable[[Json], None], found: str
) -> None:
    change(description)
    result = compare(description)
    assert result.status == 1
    assert found in result.text


def test_newer_fact_that_got_published_is_pointed_out(
    description: Json, compare: Comparing
) -> None:
    parameters = description["paths"]["/keys"]["get"]["parameters"]
    flag = {"type": "string", "enum": ["true", "false"]}
    parameters.append({"in": "query", "name": "include_expired", "schema": flag})
    result = compare(description)
    assert result.status == 0
    meanwhile = result.text.partition("published meanwhile")[2]
    assert "GET /keys query.include_expired" in meanwhile


def test_references_and_alternatives_are_folded(description: Json, compare: Comparing) -> None:
    properties = create_key(description)["properties"]
    description["components"]["amount"] = {"anyOf": [{"type": "number"}, {"type": "null"}]}
    properties["limit"] = {"allOf": [{"$ref": "#/components/amount"}, {"description": "USD"}]}
    result = compare(description)
    assert result.status == 0, result.text


def test_every_route_has_a_handler_and_no_handler_is_alone() -> None:
    assert HANDLERS.keys() == contract().routes.keys()


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("caller: any\n", "caller: nobody\n", "caller must be one of"),
        ("caller: any\n", "caller: any\n    boody: {}\n", "unknown key boody"),
        ("label*: string", "label*: strnig", "unknown type 'strnig'"),
        ("{shape: deleted}", "{shape: delete}", "shape 'delete' is used but not defined"),
        ("format: sha256", "format: sha1", "unknown format 'sha1'"),
    ],
)
def test_careless_table_is_refused(tmp_path: Path, old: str, new: str, problem: str) -> None:
    text = (TESTS / "contract" / "openrouter.yml").read_text()
    assert old in text
    careless = tmp_path / "table.yml"
    careless.write_text(text.replace(old, new))
    with pytest.raises(TableError, match=problem):
        Table.load(careless)


@pytest.mark.skipif(VARIABLE not in os.environ, reason="no published description")
def test_table_agrees_with_the_published_description() -> None:
    result = run_script(**{VARIABLE: os.environ[VARIABLE]})
    assert result.returncode == 0, result.stdout
