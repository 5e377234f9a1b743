# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the mai.fleet collection
"""HTTP on the controller: requests, with urllib3's retries where a retry cannot do harm."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, Any

from ansible_collections.mai.fleet.plugins.module_utils._errors import (
    FleetError,
    Unreachable,
    api_error,
)

try:
    import requests
    from requests.adapters import HTTPAdapter
    from urllib3.util.retry import Retry

    REQUESTS_ERROR = None
except ImportError:
    REQUESTS_ERROR = traceback.format_exc()

if TYPE_CHECKING:
    from collections.abc import Mapping

#: 524 and 529 are declared by OpenRouter beside the usual ones.
_PASSING = (429, 500, 502, 503, 504, 524, 529)


class Controller:
    """JSON over HTTP with one bearer credential.

    GET, PATCH and DELETE are repeated on passing failures, honouring ``Retry-After``. POST creates
    things and is only repeated when it was certainly not acted upon: the connection never stood,
    or the answer was 429. Safe to share between threads as requests' sessions are for this use.

    :param base: URL that all paths hang on, without a trailing slash
    :param bearer: the credential; None for anonymous calls
    :param timeout: seconds for connecting, and between two bytes of an answer
    :param backoff: seconds; the waits between tries are this, doubled each time
    """

    def __init__(
        self, base: str, bearer: str | None = None, *, timeout: float = 30, backoff: float = 0.5
    ) -> None:
        if REQUESTS_ERROR is not None:
            raise FleetError(
                "the Python library requests is missing on the controller",
                todo="install it beside ansible-core: pip install requests",
            )
        self.base = base
        self._timeout = timeout
        self._session = requests.Session()
        if bearer is not None:
            # Set per request by an auth object, so that a netrc file cannot replace it.
            self._session.auth = _Bearer(bearer)
        repeat = Retry(
            total=5,
            backoff_factor=backoff,
            status_forcelist=_PASSING,
            allowed_methods=("GET", "PATCH", "DELETE"),
            raise_on_status=False,
        )
        create = Retry(
            total=5,
            read=0,
            other=0,
            backoff_factor=backoff,
            status_forcelist=(429,),
            allowed_methods=("POST",),
            raise_on_status=False,
        )
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, _ByMethod(HTTPAdapter(max_retries=repeat), create))

    def get(self, path: str, query: Mapping[str, Any] | None = None) -> Any:
        return self._call("GET", path, query=query)

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        return self._call("POST", path, body=body)

    def patch(self, path: str, body: Mapping[str, Any]) -> Any:
        return self._call("PATCH", path, body=body)

    def delete(self, path: str) -> Any:
        return self._call("DELETE", path)

    def _call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> Any:
        where = f"{method} {self.base}{path}"
        try:
            answer = self._session.request(
                method, self.base + path, params=query, json=body, timeout=self._timeout
            )
        except requests.RequestException as error:
            # The text of requests' errors holds the URL and the reason, never headers or bodies.
            raise Unreachable(
                f"no answer: {_reason(error)}", where, "check the network, then run again"
            ) from error
        if not answer.ok:
            raise api_error(answer.status_code, _message(answer), where)
        try:
            return answer.json()
        except ValueError as error:
            raise api_error(
                answer.status_code, "the answer is not JSON", where, "is this OpenRouter's API?"
            ) from error


if REQUESTS_ERROR is None:

    class _Bearer(requests.auth.AuthBase):
        def __init__(self, bearer: str) -> None:
            self._bearer = bearer

        def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
            request.headers["Authorization"] = f"Bearer {self._bearer}"
            return request

    class _ByMethod(HTTPAdapter):
        """One adapter for what may be repeated; creates have a policy of their own."""

        def __init__(self, repeat: HTTPAdapter, create: Retry) -> None:
            super().__init__(max_retries=create)
            self._repeat = repeat

        def send(
            self, request: requests.PreparedRequest, *args: Any, **kwargs: Any
        ) -> requests.Response:
            if request.method != "POST":
                return self._repeat.send(request, *args, **kwargs)
            return super().send(request, *args, **kwargs)


def _reason(error: Exception) -> str:
    inner = error.args[0] if error.args else error
    return str(getattr(inner, "reason", inner))


def _message(answer: requests.Response) -> str:
    """What the API says, in its error envelope, of a refusal."""
    try:
        error = answer.json()["error"]
        text = str(error["message"])
    except (ValueError, KeyError, TypeError):
        text = answer.reason or "no text"
    return f"HTTP {answer.status_code}: {text[:500]}"
