# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the mai.fleet collection
"""A client's ``.env``: which names it has, and what kind each of them is.

*Seed values* only matter until Open WebUI's first start: it copies them into its database and
reads that ever after. They are kept current on disk, and a change never recreates a container.
Everything else is a *boot value*: a change recreates the container.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

#: Names whose values are shown as fingerprints.
SECRET = ("OPENROUTER_API_KEY", "OPENAI_API_KEYS", "WEBUI_SECRET_KEY", "WEBUI_ADMIN_PASSWORD")

#: Settings that Open WebUI stores in its database at the first start, or never reads at all.
SEED = frozenset(
    {
        "OPENROUTER_API_KEY",
        "OPENROUTER_HOST",
        "OPENROUTER_EXTERNAL_USER",
        "OPENROUTER_ALLOWED_MODELS",
        "ORGANIZATION_NAME",
        "SPENDING_LIMIT",
        "OPENAI_API_BASE_URLS",
        "OPENAI_API_KEYS",
        "OPENAI_API_CONFIGS",
        "WEBUI_ADMIN_EMAIL",
        "WEBUI_ADMIN_PASSWORD",
        "WEBUI_ADMIN_NAME",
        "WEBUI_URL",
        "ENABLE_SIGNUP",
    }
)

#: Lean and private: no calls home, no background requests on the client's bill, no tools in a
#: prompt that nobody asked for. A client's ``env`` may override these.
DEFAULTS = {
    "OFFLINE_MODE": "true",
    "ENABLE_VERSION_UPDATE_CHECK": "false",
    "ANONYMIZED_TELEMETRY": "false",
    "DO_NOT_TRACK": "true",
    "SCARF_NO_ANALYTICS": "true",
    "ENABLE_COMMUNITY_SHARING": "false",
    "ENABLE_FORWARD_USER_INFO_HEADERS": "false",
    "RAG_EMBEDDING_ENGINE": "openai",
    "ENABLE_TAGS_GENERATION": "false",
    "ENABLE_FOLLOW_UP_GENERATION": "false",
    "ENABLE_AUTOCOMPLETE_GENERATION": "false",
    "DEFAULT_MODEL_METADATA": json.dumps(
        {"capabilities": {"builtin_tools": False, "usage": True}}, separators=(",", ":")
    ),
}

_INSTANCE_MANAGED = {
    "ENABLE_OLLAMA_API": "false",
    "ENABLE_OPENAI_API": "true",
    "ENABLE_DIRECT_CONNECTIONS": "false",
    # Any user could reach every OpenRouter model through /openai/responses with it.
    "BYPASS_MODEL_ACCESS_CONTROL": "false",
    "ENABLE_PERSISTENT_CONFIG": "true",
    "RESET_CONFIG_ON_START": "false",
    "ENABLE_SIGNUP": "false",
}

#: Names that a client file may not set: the collection answers for them.
MANAGED = (
    SEED
    | frozenset(_INSTANCE_MANAGED)
    | frozenset(
        {
            "WEBUI_SECRET_KEY",
            "WEBUI_NAME",
            "DATA_DIR",
            "STATIC_DIR",
            "DATABASE_URL",
            "DATABASE_TYPE",
            "DATABASE_HOST",
            "DATABASE_NAME",
            "WEBUI_AUTH_TRUSTED_EMAIL_HEADER",
            "HOST",
            "PORT",
            "UVICORN_WORKERS",
            "OPENAI_API_KEY",
            "OPENAI_API_BASE_URL",
            "WEBUI_AUTH",
            "BYPASS_ADMIN_ACCESS_CONTROL",
        }
    )
)

#: Open WebUI shows these beside each model of the connection.
CONNECTION_TAGS = [{"name": "OpenRouter"}]


def connection_config(models: list[str]) -> dict[str, Any]:
    """Our connection's entry in Open WebUI's ``OPENAI_API_CONFIGS``."""
    return {
        "enable": True,
        "model_ids": models,
        "prefix_id": "",
        "tags": CONNECTION_TAGS,
        "connection_type": "external",
    }


def usd(amount: float) -> str:
    """Without the zeros of whole dollars, and never rounded or in powers of ten."""
    return f"{amount:.12g}"


def public_url(client: Mapping[str, Any], port: int) -> str:
    return f"https://{client['domain']}" if client["domain"] else f"http://127.0.0.1:{port}"


def behind_tls(client: Mapping[str, Any]) -> dict[str, str]:
    """What Open WebUI has to know of a site that browsers reach over HTTPS.

    Its websocket takes browsers from this origin only; cookies never go over plain HTTP. A client's
    ``env`` may override these, say for a second origin.
    """
    if not client["domain"]:
        return {}
    return {
        "CORS_ALLOW_ORIGIN": f"https://{client['domain']}",
        "WEBUI_SESSION_COOKIE_SECURE": "true",
        "WEBUI_AUTH_COOKIE_SECURE": "true",
    }


def build(
    client: Mapping[str, Any],
    secrets: Mapping[str, Any],
    *,
    openrouter_url: str,
    external_user: str,
    port: int,
    models: list[str],
    extra: Mapping[str, str],
) -> dict[str, str]:
    """Everything in the client's ``.env``, in the order in which it is written.

    :param client: a resolved client
    :param secrets: its ``api_key`` and, with an instance, ``webui_secret_key`` and
        ``admin_password``
    :param models: the allowlist that is in effect
    :param extra: the client's own ``env``, decrypted
    """
    limit = client["spending_limit"]
    env = {
        "OPENROUTER_API_KEY": secrets["api_key"],
        "OPENROUTER_HOST": openrouter_url,
        "OPENROUTER_EXTERNAL_USER": external_user,
        "ORGANIZATION_NAME": client["organization"],
        "SPENDING_LIMIT": "unlimited" if limit is None else usd(limit),
        "OPENROUTER_ALLOWED_MODELS": ",".join(models),
    }
    if client["instance"] == "none":
        return {**env, **extra}
    return {
        **env,
        "WEBUI_NAME": client["display_name"],
        "WEBUI_URL": public_url(client, port),
        "WEBUI_SECRET_KEY": secrets["webui_secret_key"],
        "WEBUI_ADMIN_EMAIL": client["admin_email"],
        "WEBUI_ADMIN_NAME": client["organization"],
        "WEBUI_ADMIN_PASSWORD": secrets["admin_password"],
        "OPENAI_API_BASE_URLS": openrouter_url,
        "OPENAI_API_KEYS": secrets["api_key"],
        "OPENAI_API_CONFIGS": json.dumps({"0": connection_config(models)}, separators=(",", ":")),
        **_INSTANCE_MANAGED,
        **DEFAULTS,
        **behind_tls(client),
        **extra,
    }


def boot_digest(compose: str, env_text: str) -> str:
    """What decides whether a container has to be recreated.

    :param compose: the compose file, rendered with an empty digest
    :param env_text: the ``.env`` as written; lines of seed values do not count
    """
    lines = [
        line
        for line in env_text.split("\n")
        if line and not line.startswith("#") and line.partition("=")[0] not in SEED
    ]
    return hashlib.sha256("\n".join([compose, *sorted(lines)]).encode()).hexdigest()[:32]
