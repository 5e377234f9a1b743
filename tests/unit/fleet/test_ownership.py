# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose key is found in an instance."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.diagnosis import (
    Diagnosis,
    Found,
    Place,
    diagnose,
    in_the_app,
)
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.discovery import connections
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.ownership import (
    Whose,
    classify,
    owners,
)
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.records import (
    Former,
    Record,
    Why,
    now,
)

URL = "https://openrouter.ai/api/v1"


def hashed(letter: str) -> str:
    return letter * 64


def printed(letter: str) -> str:
    return f"sha256:{letter * 12}"


def known() -> dict[str, str]:
    former = [Former(hashed("0"), "mai/x/acme/g1/00000000", Why.REPLACED)]
    records = [
        Record("acme", "web1", "Acme", "", key_hash=hashed("a"), former=former),
        Record("beta", "web1", "Beta", "", key_hash=hashed("b")),
        Record("new", "web1", "New", ""),
    ]
    return owners(records, {"acme": [printed("1")], "gone": [hashed("c")]})


@pytest.mark.parametrize(
    ("found", "whose"),
    [
        ("", Whose.NOBODYS),
        (printed("a"), Whose.CURRENT),
        (printed("0"), Whose.FORMER),
        (printed("1"), Whose.FORMER),
        (printed("b"), Whose.NEIGHBOURS),
        (printed("c"), Whose.NEIGHBOURS),
        (printed("f"), Whose.FOREIGN),
    ],
)
def test_every_key_is_somebodys(found: str, whose: Whose) -> None:
    assert classify(found, "acme", printed("a"), known()) is whose


def test_a_client_without_a_key_has_no_fingerprint() -> None:
    assert "sha256:" not in known()


def test_the_settings_win_over_the_environment_once_they_are_stored() -> None:
    env = {"OPENAI_API_BASE_URLS": f"{URL};http://other", "OPENAI_API_KEYS": "one;two"}
    stored = {"openai.api_base_urls": [URL], "openai.api_keys": ["three"]}
    assert [one["key"] for one in connections({}, env)] == ["one", "two"]
    (only,) = connections(stored, env)
    assert (only["key"], only["source"]) == ("three", "settings")
    again = connections(stored, {**env, "ENABLE_PERSISTENT_CONFIG": "false"})
    assert [one["key"] for one in again] == ["one", "two"]


def test_a_key_may_be_missing_for_a_connection() -> None:
    stored = {"openai.api_base_urls": [URL, "http://x"], "openai.api_keys": ["three"]}
    assert [one["key"] for one in connections(stored, {})] == ["three", ""]


def instance(*keys: tuple[str, str]) -> dict[str, object]:
    rows = [{"url": url, "fingerprint": key} for url, key in keys]
    return {"failed": False, "connections": rows, "app": "", "container": "c", "warnings": []}


def test_our_connection_is_found_by_its_key_before_its_url() -> None:
    both = instance((f"{URL}/", printed("f")), ("http://elsewhere", printed("a")))
    place = in_the_app(both, URL, printed("a"))
    assert (place.key, place.others) == (printed("a"), (printed("f"),))
    assert in_the_app(instance((f"{URL}/", printed("f"))), URL, printed("a")).key == printed("f")
    assert in_the_app(instance(("http://x", printed("f"))), URL, printed("a")).cell == "none"


def diagnosed(place: Place, **changes: Any) -> Diagnosis:
    record = Record("acme", "web1", "Acme", "", key_hash=hashed("a"))
    given: dict[str, Any] = {
        "name": "acme",
        "client": {"state": "present", "spending_limit": None, "limit_reset": "monthly"},
        "record": record,
        "store": Place(printed("a")),
        "server": Place(printed("a")),
        "app": place,
        "account": None,
        "owners": known(),
        "at": now(),
        **changes,
    }
    return diagnose(Found(**given))


@pytest.mark.parametrize(
    ("place", "cell", "problem"),
    [
        (Place(printed("a")), "yes", ""),
        (Place(printed("0")), "former", "a former key of the client"),
        (Place(printed("b")), "BREACH", "isolation breach"),
        (Place(printed("f")), "foreign", "a foreign key"),
        (Place(), "none", "holds no key"),
        (Place(printed("a"), others=(printed("b"),)), "yes", "isolation breach"),
        (Place(printed("a"), FleetError("it is down"), "down"), "down", "it is down"),
        (Place(error=FleetError("it is gone")), "?", "it is gone"),
    ],
)
def test_the_doctor_says_whose_key_is_in_the_app(place: Place, cell: str, problem: str) -> None:
    found = diagnosed(place)
    assert found.line["app"] == cell
    assert [problem in one["what"] for one in found.problems] == ([True] if problem else [])
    assert all(one["todo"] for one in found.problems)


def test_a_key_that_may_stay_is_a_note() -> None:
    found = diagnosed(Place(printed("f")), keeps_foreign=True)
    assert (found.line["app"], found.problems) == ("foreign", [])
    assert "is kept" in found.notes[0]
    assert diagnosed(Place(printed("b")), keeps_foreign=True).problems
