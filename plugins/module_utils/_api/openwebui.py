# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the mai.fleet collection
"""Open WebUI's admin and user API, as far as this collection uses it.

Established on Open WebUI 0.12.4. Every call raises :class:`Unreachable` when no answer comes and an
:class:`ApiError` for an answer that is not the one asked for. No error quotes a request.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import uuid
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from ansible_collections.mai.fleet.plugins.module_utils._errors import ApiError, api_error
from ansible_collections.mai.fleet.plugins.module_utils._transport.loopback import (
    Loopback,
    Response,
)

# bcrypt knows no more, and Open WebUI refuses a longer one.
PASSWORD_MAX_BYTES = 72

# Controller and server may disagree on the time; Open WebUI refuses a token from the future.
_CLOCK_SKEW = 600

# In the admin settings, but only a person's session may send them, even unchanged: else 403.
_ONLY_FOR_PEOPLE = {"ENABLE_MFA", "MFA_ALLOW_OAUTH_BYPASS", "MFA_ALLOW_TRUSTED_HEADER_BYPASS"}

Grant = tuple[str, str, str]
# (principal type, principal id, permission): "every user may read".
EVERYBODY: Grant = ("user", "*", "read")


@dataclass(frozen=True)
class User:
    """An account. ``role`` is admin, user or pending."""

    id: str
    email: str
    role: str


@dataclass(frozen=True)
class Connection:
    """One connection to an OpenAI-compatible provider."""

    url: str
    key: str = field(repr=False)
    config: dict[str, Any]

    @property
    def enabled(self) -> bool:
        return self.config.get("enable", True) is True

    @property
    def model_ids(self) -> list[str]:
        """The models that it is limited to. Empty means all that the provider lists."""
        return list(self.config.get("model_ids") or [])


@dataclass(frozen=True)
class Provider:
    """The whole setting of OpenAI-compatible providers. A model's ``urlIdx`` is an index here."""

    enabled: bool
    connections: tuple[Connection, ...]


@dataclass(frozen=True)
class ModelRow:
    """What the database holds about a provider's model. A model without a row is for admins only.

    ``grants`` are replaced as a whole and get new ids each time, so they are compared without.
    """

    id: str
    name: str
    meta: dict[str, Any] = field(default_factory=dict)
    params: dict[str, Any] = field(default_factory=dict)
    grants: frozenset[Grant] = frozenset({EVERYBODY})
    active: bool = True


@dataclass(frozen=True)
class ChatReply:
    """What came of a chat. ``error`` is the provider's reason, empty when it answered.

    ``status`` is the provider's status, also where it is hidden in a reply with status 200.
    """

    status: int
    usage: dict[str, Any]
    error: str = ""
    limit_source: str = ""


def mint_token(
    secret_key: str, user_id: str, session_stamp: str | None, now: int, lifetime: int
) -> str:
    """A token that Open WebUI accepts as that user, made with its ``WEBUI_SECRET_KEY``.

    It is of the type that Open WebUI gives its own automations: a session of a person would be
    refused where the client's admin demands a second factor. The stamp (column ``session_stamp`` of
    table ``auth``) changes with the password and when sessions are revoked.

    :param now: seconds since 1970
    :param lifetime: seconds
    """
    claims = {
        "id": user_id,
        "typ": "automation",
        "session_stamp": session_stamp,
        "iat": now - _CLOCK_SKEW,
        "exp": now + lifetime,
        "jti": str(uuid.uuid4()),
    }
    signed = f"{_encode({'alg': 'HS256', 'typ': 'JWT'})}.{_encode(claims)}"
    return f"{signed}.{_sign(secret_key, signed)}"


def token_user(token: str, secret_key: str, now: int) -> str:
    """The id of the user whose token this is; empty unless it is valid as far as one can tell here.

    Whether its stamp is still the user's only Open WebUI knows.
    """
    signed, signature = token.rpartition(".")[::2]
    if not hmac.compare_digest(signature.encode(), _sign(secret_key, signed).encode()):
        return ""
    try:
        payload = signed.partition(".")[2]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return str(claims["id"]) if claims["exp"] > now else ""
    except (ValueError, KeyError, TypeError):
        return ""


class OpenWebUI:
    """One instance, used with one account's token, or as anybody without."""

    def __init__(self, transport: Loopback, token: str = "") -> None:
        self._transport = transport
        self._token = token

    # For anybody

    def ready(self) -> None:
        """Returns when the instance has started and its database answers; raises otherwise."""
        self._object("GET", "/ready")

    def version(self) -> str:
        return str(self._object("GET", "/api/version").get("version"))

    def public_config(self) -> dict[str, Any]:
        """What the sign-in page gets. ``onboarding`` is there, and true, while nobody has claimed
        the instance; with a token it never is. ``features.enable_signup`` says whether strangers
        may sign up."""
        return self._object("GET", "/api/config")

    def claim(self, email: str, name: str, password: str) -> str:
        """Sign up. The first account of an instance becomes its admin and closes the sign-up.

        :returns: the role of the new account: "admin", unless somebody else was faster
        """
        body = {"email": email, "name": name, "password": password}
        return str(self._object("POST", "/api/v1/auths/signup", body).get("role"))

    # For users

    def models(self) -> list[dict[str, Any]]:
        """The models that this account sees, straight from the settings and without a cache.

        Chats of all accounts go by them from then on: the list in memory is replaced in one step.
        A model has ``urlIdx``, the index of the connection that serves it.
        """
        path = "/api/models?refresh=true"
        return _objects(self._object("GET", path).get("data"), "GET", path)

    def chat(self, model: str, prompt: str, max_tokens: int, timeout: float) -> ChatReply:
        """One question, answered at once. It is not kept in the instance.

        :param timeout: seconds
        :raises ApiError: Open WebUI itself refuses; what the provider says is in the reply
        """
        path = "/api/chat/completions"
        body = {
            "model": model,
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": max_tokens,
            "stream": False,
        }
        response = self._send("POST", path, body, timeout)
        try:
            answer = response.json()
        except ValueError:
            answer = None
        # Open WebUI's own refusals have `detail`; a provider's body passes through as it is.
        if response.status >= 400 and not (isinstance(answer, dict) and "error" in answer):
            raise self._error(response, "POST", path)
        if not isinstance(answer, dict):
            raise self._not_json(response, "POST", path)
        return _chat_reply(response.status, answer)

    # For admins

    def users(self, query: str) -> list[User]:
        """The first accounts (at most 30) whose name or address contains ``query``."""
        path = "/api/v1/users/?" + urlencode({"query": query})
        found = _objects(self._object("GET", path).get("users"), "GET", path)
        return [_user(entry) for entry in found]

    def add_user(self, name: str, email: str, password: str, role: str) -> None:
        body = {"name": name, "email": email, "password": password, "role": role}
        self._object("POST", "/api/v1/auths/add", body)

    def set_role(self, user_id: str, role: str) -> None:
        self._object("POST", f"/api/v1/users/{user_id}/update", {"role": role})

    def provider(self) -> Provider:
        found = self._object("GET", "/openai/config")
        urls = found.get("OPENAI_API_BASE_URLS") or []
        keys = [*(found.get("OPENAI_API_KEYS") or []), *([""] * len(urls))]
        configs = found.get("OPENAI_API_CONFIGS") or {}
        return Provider(
            enabled=found.get("ENABLE_OPENAI_API") is True,
            # Old instances have settings under the URL instead of the index.
            connections=tuple(
                Connection(url, keys[index], configs.get(str(index), configs.get(url, {})))
                for index, url in enumerate(urls)
            ),
        )

    def set_provider(self, old: Provider, new: Provider) -> None:
        """Store what differs. Keys are in force with the next request, what is to be listed with
        the next :meth:`models`.

        The form's own ``/openai/config/update`` empties the list that chats go by, and those that
        are being prepared at that moment fail. An import leaves it alone.
        """
        there = _provider_settings(old)
        differs = {
            name: value for name, value in _provider_settings(new).items() if value != there[name]
        }
        self._object("POST", "/api/v1/configs/import", {"config": differs})

    def model_rows(self) -> list[ModelRow]:
        """The rows of providers' models; presets, which are based on such a model, are not here."""
        path = "/api/v1/models/base"
        return [_model_row(entry) for entry in _objects(self._call("GET", path), "GET", path)]

    def create_model_row(self, row: ModelRow) -> None:
        body = {**_model_form(row), "access_grants": _grant_list(row.grants)}
        self._object("POST", "/api/v1/models/create", body)

    def update_model_row(self, row: ModelRow) -> None:
        """Everything but the grants, which only :meth:`share_model` changes."""
        self._object("POST", "/api/v1/models/model/update", _model_form(row))

    def share_model(self, model_id: str, grants: frozenset[Grant]) -> None:
        body = {"id": model_id, "access_grants": _grant_list(grants)}
        self._object("POST", "/api/v1/models/model/access/update", body)

    def delete_model_row(self, model_id: str) -> None:
        self._call("POST", "/api/v1/models/model/delete", {"id": model_id})

    def admin_config(self) -> dict[str, Any]:
        return self._object("GET", "/api/v1/auths/admin/config")

    def set_admin_config(self, config: dict[str, Any]) -> None:
        """Replace the admin settings, but for the second-factor policy, which stays as it is."""
        body = {name: value for name, value in config.items() if name not in _ONLY_FOR_PEOPLE}
        self._object("POST", "/api/v1/auths/admin/config", body)

    def banners(self) -> list[dict[str, Any]]:
        path = "/api/v1/configs/banners"
        return _objects(self._call("GET", path), "GET", path)

    def set_banners(self, banners: list[dict[str, Any]]) -> None:
        self._call("POST", "/api/v1/configs/banners", {"banners": banners})

    # The way there

    def _object(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        found = self._call(method, path, body)
        if not isinstance(found, dict):
            raise _unexpected(method, path, "an object", found)
        return found

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        response = self._send(method, path, body)
        if response.status >= 400:
            raise self._error(response, method, path)
        try:
            return response.json()
        except ValueError:
            raise self._not_json(response, method, path) from None

    def _send(
        self, method: str, path: str, body: Any = None, timeout: float | None = None
    ) -> Response:
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        return self._transport.request(method, path, json=body, headers=headers, timeout=timeout)

    def _error(self, response: Response, method: str, path: str) -> ApiError:
        what = f"Open WebUI answered {response.status}: {_reason(response)}"
        return api_error(response.status, what, f"{method} {path}")

    def _not_json(self, response: Response, method: str, path: str) -> ApiError:
        # Open WebUI answers a path that it does not know with its start page and status 200.
        kind = response.headers.get("content-type", "no content type")
        return ApiError(
            response.status,
            f"expected JSON, got {kind}",
            f"{method} {path}",
            "see whether Open WebUI, in the version wanted, is what listens on this port",
        )


def _encode(claims: dict[str, Any]) -> str:
    return _base64url(json.dumps(claims, separators=(",", ":")).encode("utf-8"))


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _sign(secret_key: str, text: str) -> str:
    digest = hmac.new(secret_key.encode("utf-8"), text.encode("utf-8"), hashlib.sha256)
    return _base64url(digest.digest())


def _unexpected(method: str, path: str, expected: str, found: Any) -> ApiError:
    return ApiError(200, f"expected {expected}, got {type(found).__name__}", f"{method} {path}")


def _objects(found: Any, method: str, path: str) -> list[dict[str, Any]]:
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        raise _unexpected(method, path, "a list of objects", found)
    return found


def _reason(response: Response) -> str:
    """Why a request was refused, without what was sent: a validation error quotes all of it."""
    try:
        answer = response.json()
    except ValueError:
        return response.body[:300].decode("utf-8", "replace").strip()
    detail = answer.get("detail", answer) if isinstance(answer, dict) else answer
    if isinstance(detail, list):
        detail = "; ".join(
            f"{'.'.join(map(str, entry.get('loc', [])))}: {entry.get('msg')}"
            for entry in detail
            if isinstance(entry, dict)
        )
    return str(detail)[:300]


def _chat_reply(status: int, answer: dict[str, Any]) -> ChatReply:
    choices = answer.get("choices") or [{}]
    # A provider that fails after it began to answer says so in a reply with status 200.
    error = answer.get("error") or choices[0].get("error")
    usage = answer.get("usage") or {}
    if not error:
        return ChatReply(status, usage)
    if not isinstance(error, dict):
        return ChatReply(status, usage, str(error))
    if status < 400 and isinstance(error.get("code"), int):
        status = error["code"]
    metadata = error.get("metadata") or {}
    text = str(error.get("message") or "no reason given")[:500]
    return ChatReply(status, usage, text, str(metadata.get("limit_source") or ""))


def _user(entry: dict[str, Any]) -> User:
    return User(str(entry.get("id")), str(entry.get("email")), str(entry.get("role")))


def _model_row(entry: dict[str, Any]) -> ModelRow:
    return ModelRow(
        id=str(entry.get("id")),
        name=str(entry.get("name")),
        meta=entry.get("meta") or {},
        params=entry.get("params") or {},
        grants=frozenset(
            (grant["principal_type"], grant["principal_id"], grant["permission"])
            for grant in entry.get("access_grants") or []
        ),
        active=entry.get("is_active") is True,
    )


def _provider_settings(provider: Provider) -> dict[str, Any]:
    return {
        "openai.enable": provider.enabled,
        "openai.api_base_urls": [one.url for one in provider.connections],
        "openai.api_keys": [one.key for one in provider.connections],
        "openai.api_configs": {
            str(index): one.config for index, one in enumerate(provider.connections)
        },
    }


def _model_form(row: ModelRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "base_model_id": None,
        "name": row.name,
        "meta": row.meta,
        "params": row.params,
        "is_active": row.active,
    }


def _grant_list(grants: frozenset[Grant]) -> list[dict[str, str]]:
    return [
        {"principal_type": kind, "principal_id": principal, "permission": permission}
        for kind, principal, permission in sorted(grants)
    ]
