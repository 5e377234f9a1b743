# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names that tie a client's things together."""

from __future__ import annotations

import pytest
from ansible_collections.mai.fleet.plugins.module_utils._fleet.names import (
    KeyName,
    did_you_mean,
    external_user,
    guardrail_client,
    guardrail_name,
    is_name,
    name_of,
    nearest,
)


@pytest.mark.parametrize(
    ("organization", "name"),
    [
        ("Acme GmbH", "acme_gmbh"),
        ("Łódź & Söhne GmbH", "lodz_and_sohne_gmbh"),
        ("Straße 7", "strasse_7"),
        ("  O'Neil -- Partners, Inc.", "o_neil_partners_inc"),
        ("4 You", "you"),
        ("Æther/Ørsted", "aether_orsted"),
        ("A very long name of a company limited", "a_very_long_name_of_a_company_l"),
        ("{{ 7 * 7 }} $HOME", "home"),
    ],
)
def test_names_of_organizations(organization: str, name: str) -> None:
    assert name_of(organization) == name
    assert is_name(name)


@pytest.mark.parametrize("organization", ["3M", "株式会社", "", "-", "123"])
def test_organizations_that_make_no_name(organization: str) -> None:
    assert not is_name(name_of(organization))


def test_names_of_keys_survive_the_way_to_openrouter() -> None:
    name = KeyName("hosting", "acme", 3, "0123abcd")
    assert str(name) == "mai/hosting/acme/g3/0123abcd"
    assert KeyName.parse(str(name)) == name


@pytest.mark.parametrize(
    "text",
    [
        "acme",
        "mai/hosting/acme",
        "mai/hosting/acme/g0/0123abcd",
        "mai/hosting/acme/g1/0123ABCD",
        "mai/hosting/acme/g1/0123abcd0",
        "mai/hosting/acme/g1/0123abcd\n",
        "mai/Hosting/acme/g1/0123abcd",
        "x mai/hosting/acme/g1/0123abcd",
    ],
)
def test_names_of_keys_that_are_not_ours(text: str) -> None:
    assert KeyName.parse(text) is None


def test_names_of_guardrails() -> None:
    assert guardrail_client("hosting", guardrail_name("hosting", "acme")) == "acme"
    for other in ("mai/other/acme", "mai/hosting/acme/more", "mai/hosting/", "acme"):
        assert guardrail_client("hosting", other) is None


def test_ids_in_usage_records_differ() -> None:
    ids = {external_user(fleet, client) for fleet in ("one", "two") for client in ("aa", "bb")}
    assert len(ids) == 4


def test_near_words() -> None:
    assert did_you_mean("acmee", ["acme", "beta"]) == "Did you mean acme?"
    assert did_you_mean("zzz", ["acme", "beta"]) == ""


def test_words_that_are_less_near_than_another_are_not_named() -> None:
    assert nearest("organisation", ["organization", "version", "domain"]) == ["organization"]
    assert nearest("email", ["admin_email", "billing_email"]) == ["admin_email", "billing_email"]
    assert nearest("c1", [f"c{number}" for number in range(10)]) == ["c1"]
    assert nearest("cx", [f"c{number}" for number in range(10)]) == ["c0", "c1", "c2"]
