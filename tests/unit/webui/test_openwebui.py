# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

import pytest
from ansible_collections.mai.fleet.plugins.module_utils._api.openwebui import (
    EVERYBODY,
    Connection,
    ModelRow,
    OpenWebUI,
    Provider,
    mint_token,
    token_user,
)
from ansible_collections.mai.fleet.plugins.module_utils._errors import (
    ApiError,
    Forbidden,
    NotFound,
    RateLimited,
    Unauthorized,
)

NOW = 1_795_000_000


def _decode(part: str) -> dict[str, Any]:
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


def test_a_minted_token_is_a_signed_jwt_with_the_claims_that_open_webui_checks() -> None:
    token = mint_token("the key", "user-1", "stamp-1", NOW, 3600)
    header, payload, signature = token.split(".")
    assert _decode(header) == {"alg": "HS256", "typ": "JWT"}
    claims = _decode(payload)
    assert claims.pop("jti")
    # The clock of the server that checks it may be behind ours.
    assert claims.pop("iat") <= NOW - 60
    assert claims == {
        "id": "user-1",
        "typ": "automation",
        "session_stamp": "stamp-1",
        "exp": NOW + 3600,
    }
    digest = hmac.new(b"the key", f"{header}.{payload}".encode(), hashlib.sha256).digest()
    assert base64.urlsafe_b64decode(signature + "=") == digest


def test_a_token_is_known_by_its_user_until_it_expires() -> None:
    token = mint_token("the key", "user-1", None, NOW, 3600)
    assert token_user(token, "the key", NOW) == "user-1"
    assert token_user(token, "the key", NOW + 3600) == ""
    assert token_user(token, "another key", NOW) == ""


@pytest.mark.parametrize("token", ["", "x", "a.b.c", "ä.ö.ü"])
def test_what_is_no_token_is_nobodys(token: str) -> None:
    assert token_user(token, "the key", NOW) == ""


def test_a_signed_token_without_an_end_is_nobodys() -> None:
    payload = base64.urlsafe_b64encode(b'{"id":"user-1"}').rstrip(b"=").decode()
    digest = hmac.new(b"the key", f"e30.{payload}".encode(), hashlib.sha256).digest()
    token = f"e30.{payload}.{base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"
    assert token_user(token, "the key", NOW) == ""


def test_the_start_page_is_no_answer(recorded: Any) -> None:
    with pytest.raises(ApiError) as caught:
        OpenWebUI(recorded.transport).version()
    assert caught.value.what == "expected JSON, got text/html; charset=utf-8"
    assert caught.value.where == "GET /api/version"
    assert "port" in caught.value.todo


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, Unauthorized),
        (403, Forbidden),
        (404, NotFound),
        (429, RateLimited),
        (400, ApiError),
        (503, ApiError),
    ],
)
def test_a_refusal_becomes_an_error_of_its_kind(
    recorded: Any, status: int, kind: type[ApiError]
) -> None:
    recorded.answer("GET /openai/config", status, {"detail": "Not today"})
    with pytest.raises(kind) as caught:
        OpenWebUI(recorded.transport, "t").provider()
    assert caught.value.status == status
    assert caught.value.what == f"Open WebUI answered {status}: Not today"


def test_an_error_does_not_quote_what_was_sent(recorded: Any) -> None:
    body = {"OPENAI_API_BASE_URLS": "wrong", "OPENAI_API_KEYS": ["sk-or-v1-verysecret"]}
    detail = {
        "type": "list_type",
        "loc": ["body", "OPENAI_API_BASE_URLS"],
        "msg": "Input should be a valid list",
        "input": body,
    }
    recorded.answer("POST /api/v1/configs/import", 422, {"detail": [detail]})
    nothing = Provider(enabled=True, connections=())
    with pytest.raises(ApiError) as caught:
        OpenWebUI(recorded.transport, "t").set_provider(nothing, nothing)
    assert "body.OPENAI_API_BASE_URLS: Input should be a valid list" in caught.value.what
    assert "verysecret" not in repr(caught.value) + str(caught.value)


def test_a_connection_does_not_show_its_key() -> None:
    assert "sk-or" not in repr(Connection("https://a", "sk-or-v1-verysecret", {}))


def test_settings_of_connections_are_found_by_index_or_url_and_written_by_index(
    recorded: Any,
) -> None:
    recorded.answer(
        "GET /openai/config",
        200,
        {
            "ENABLE_OPENAI_API": True,
            "OPENAI_API_BASE_URLS": ["https://a", "https://b", "https://c"],
            "OPENAI_API_KEYS": ["key-a"],
            "OPENAI_API_CONFIGS": {"https://b": {"enable": False}, "2": {"model_ids": ["m"]}},
        },
    )
    recorded.answer("POST /api/v1/configs/import", 200, {})
    api = OpenWebUI(recorded.transport, "t")
    provider = api.provider()
    assert [one.key for one in provider.connections] == ["key-a", "", ""]
    assert [one.enabled for one in provider.connections] == [True, False, True]
    assert [one.model_ids for one in provider.connections] == [[], [], ["m"]]
    api.set_provider(Provider(enabled=False, connections=()), provider)
    assert recorded.requests[-1]["body"]["config"] == {
        "openai.enable": True,
        "openai.api_base_urls": ["https://a", "https://b", "https://c"],
        "openai.api_keys": ["key-a", "", ""],
        "openai.api_configs": {"0": {}, "1": {"enable": False}, "2": {"model_ids": ["m"]}},
    }


def test_of_the_connections_only_what_differs_is_written(recorded: Any) -> None:
    recorded.answer("POST /api/v1/configs/import", 200, {})
    api = OpenWebUI(recorded.transport, "t")
    old = Provider(enabled=True, connections=(Connection("https://a", "key", {}),))
    for connection, written in (
        (Connection("https://a", "new", {}), {"openai.api_keys": ["new"]}),
        (Connection("https://a", "key", {"tags": []}), {"openai.api_configs": {"0": {"tags": []}}}),
    ):
        api.set_provider(old, Provider(enabled=True, connections=(connection,)))
        assert recorded.requests[-1]["body"] == {"config": written}


def test_the_second_factor_policy_is_never_sent(recorded: Any) -> None:
    recorded.answer("POST /api/v1/auths/admin/config", 200, {})
    policy = {
        "ENABLE_MFA": False,
        "MFA_ALLOW_OAUTH_BYPASS": False,
        "MFA_ALLOW_TRUSTED_HEADER_BYPASS": False,
    }
    OpenWebUI(recorded.transport, "t").set_admin_config({**policy, "ENABLE_SIGNUP": False})
    assert recorded.requests[-1]["body"] == {"ENABLE_SIGNUP": False}


def test_grants_are_read_without_their_ids(recorded: Any) -> None:
    grant = {
        "id": "509eeb88-704b-42d5-87bb-901fa2c6bcad",
        "resource_type": "model",
        "resource_id": "openai/gpt-4o-mini",
        "principal_type": "user",
        "principal_id": "*",
        "permission": "read",
        "created_at": 1795273129,
    }
    row = {
        "id": "openai/gpt-4o-mini",
        "name": "GPT",
        "params": {},
        "meta": {"description": None},
        "access_grants": [grant],
        "is_active": True,
    }
    recorded.answer("GET /api/v1/models/base", 200, [row])
    assert OpenWebUI(recorded.transport, "t").model_rows() == [
        ModelRow("openai/gpt-4o-mini", "GPT", {"description": None}, {}, frozenset({EVERYBODY}))
    ]


def _chat(recorded: Any, status: int, body: Any) -> Any:
    recorded.answer("POST /api/chat/completions", status, body)
    return OpenWebUI(recorded.transport, "t").chat("openai/gpt-4o-mini", "Say OK.", 16, 5)


def test_a_chat_asks_for_a_short_answer_at_once(recorded: Any) -> None:
    usage = {"prompt_tokens": 1, "completion_tokens": 16, "total_tokens": 17}
    message = {"role": "assistant", "content": ""}
    reply = _chat(recorded, 200, {"choices": [{"message": message}], "usage": usage})
    assert (reply.status, reply.usage, reply.error) == (200, usage, "")
    assert recorded.requests[-1] == {
        "request": "POST /api/chat/completions",
        "authorization": "Bearer t",
        "body": {
            "model": "openai/gpt-4o-mini",
            "messages": [{"role": "user", "content": "Say OK."}],
            "max_tokens": 16,
            "stream": False,
        },
    }


def test_what_the_provider_refuses_is_a_reply(recorded: Any) -> None:
    error = {
        "code": 403,
        "message": "Key limit exceeded (monthly limit).",
        "metadata": {"limit_source": "openrouter_key_limit"},
    }
    reply = _chat(recorded, 403, {"error": error})
    assert reply.status == 403
    assert reply.error == "Key limit exceeded (monthly limit)."
    assert reply.limit_source == "openrouter_key_limit"


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"code": 502, "message": "provider broke"}},
        {"choices": [{"error": {"code": 502, "message": "provider broke"}}], "usage": {}},
    ],
)
def test_an_error_hidden_in_status_200_is_found(recorded: Any, body: Any) -> None:
    reply = _chat(recorded, 200, body)
    assert (reply.status, reply.error) == (502, "provider broke")


def test_what_open_webui_refuses_itself_is_an_error(recorded: Any) -> None:
    with pytest.raises(ApiError, match="Model not found"):
        _chat(recorded, 400, {"detail": "Model not found"})
    with pytest.raises(Unauthorized):
        _chat(recorded, 401, {"detail": "401 Unauthorized"})
