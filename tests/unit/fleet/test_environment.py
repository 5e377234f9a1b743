# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a client's domain means for the environment of its instance."""

from __future__ import annotations

from ansible_collections.mai.fleet.plugins.module_utils._fleet.environment import (
    boot_digest,
    build,
)

CLIENT = {
    "domain": "",
    "instance": "webui",
    "organization": "Acme GmbH",
    "display_name": "Acme",
    "admin_email": "it@acme.example",
    "spending_limit": 10.0,
}
SECRETS = {"api_key": "k", "webui_secret_key": "s", "admin_password": "p"}
BROWSERS = ("CORS_ALLOW_ORIGIN", "WEBUI_SESSION_COOKIE_SECURE", "WEBUI_AUTH_COOKIE_SECURE")


def environment(domain: str, **extra: str) -> dict[str, str]:
    return build(
        {**CLIENT, "domain": domain},
        SECRETS,
        openrouter_url="https://openrouter.ai/api/v1",
        external_user="acme",
        port=8301,
        models=[],
        extra=extra,
    )


def digest(env: dict[str, str]) -> str:
    return boot_digest("", "".join(f"{name}={value}\n" for name, value in env.items()))


def test_with_a_domain_browsers_come_over_https_only() -> None:
    env = environment("chat.acme.example")
    assert env["WEBUI_URL"] == "https://chat.acme.example"
    assert [env[name] for name in BROWSERS] == ["https://chat.acme.example", "true", "true"]


def test_without_a_domain_the_instance_is_for_tunnels() -> None:
    env = environment("")
    assert env["WEBUI_URL"] == "http://127.0.0.1:8301"
    assert not set(BROWSERS) & set(env)


def test_a_client_may_have_a_second_origin() -> None:
    both = "https://chat.acme.example;https://intranet.acme.example"
    assert environment("chat.acme.example", CORS_ALLOW_ORIGIN=both)["CORS_ALLOW_ORIGIN"] == both


def test_another_domain_makes_the_container_anew() -> None:
    one, other = (environment(f"{name}.acme.example") for name in ("chat", "ask"))
    assert digest(one) != digest(other) != digest(environment(""))
