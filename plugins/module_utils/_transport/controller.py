# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the mai.fleet collection
"""HTTP on the controller: requests, with urllib3's retries where a retry cannot do harm."""

from __future__ import annotations

import re
import time
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
    from urllib3.exceptions import MaxRetryError, ResponseError
    from urllib3.util.retry import Retry

    REQUESTS_ERROR = None
except ImportError:
    REQUESTS_ERROR = traceback.format_exc()

if TYPE_CHECKING:
    from collections.abc import Mapping

#: 524 and 529 are declared by OpenRouter beside the usual ones.
_PASSING = (429, 500, 502, 503, 504, 524, 529)
_RETRIES = 5
#: Seconds. Whoever asks for a longer pause gets none: a person has to know, and to come back.
_LONGEST_PAUSE = 60
#: Whatever a message quotes, it does not quote a key.
_KEY = re.compile(r"sk-or-[\w-]{8,}")


class Controller:
    """JSON over HTTP with one bearer credential.

    GET, PATCH and DELETE are repeated on passing failures, honouring ``Retry-After``. POST creates
    things and is only repeated when it was certainly not acted upon: the connection never stood,
    or the answer was 429. Safe to share between threads as requests' sessions are for this use.

    :param base: URL that all paths hang on, without a trailing slash
    :param bearer: the credential; None for anonymous calls
    :param timeout: seconds for connecting, and between two bytes of an answer
    :param backoff: seconds; where no ``Retry-After`` says otherwise, the first retry comes at once,
        the second after twice this, and each wait is twice the one before
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
        self._backoff = backoff
        self._session = requests.Session()
        if bearer is not None:
            # Set per request by an auth object, so that a netrc file cannot replace it.
            self._session.auth = _Bearer(bearer)
        repeat = _Patience(
            total=_RETRIES,
            backoff_factor=backoff,
            status_forcelist=_PASSING,
            allowed_methods=("GET", "PATCH", "DELETE"),
            raise_on_status=False,
        )
        create = _Creation(
            total=_RETRIES,
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
            answer = self._send(method, self.base + path, query, body)
        except requests.RequestException as error:
            # The text of requests' errors holds the URL and the reason, never headers or bodies.
            raise Unreachable(
                f"no answer: {_reason(error)}", where, "check the network, then run again"
            ) from error
        if answer.is_redirect:
            # Followed, a create would become a GET.
            target = answer.headers["Location"]
            raise api_error(
                answer.status_code, f"redirected to {target}", where, "name the API's own address"
            )
        if not answer.ok:
            raise api_error(answer.status_code, _message(answer), where)
        try:
            return answer.json()
        except ValueError:
            # Not chained: that error holds the whole answer, in which there may be a secret.
            raise api_error(
                answer.status_code, "the answer is not JSON", where, "is this OpenRouter's API?"
            ) from None

    def _send(
        self,
        method: str,
        url: str,
        query: Mapping[str, Any] | None,
        body: Mapping[str, Any] | None,
    ) -> requests.Response:
        """urllib3's retries end where an answer begins; one that breaks off is asked for again."""
        left = 0 if method == "POST" else _RETRIES
        pause = self._backoff
        while True:
            try:
                return self._session.request(
                    method,
                    url,
                    params=query,
                    json=body,
                    timeout=self._timeout,
                    allow_redirects=False,
                )
            except requests.exceptions.ChunkedEncodingError:
                if not left:
                    raise
                left -= 1
                time.sleep(pause)
                pause *= 2


if REQUESTS_ERROR is None:

    class _Bearer(requests.auth.AuthBase):
        """:raises FleetError: this cannot be a key"""

        def __init__(self, bearer: str) -> None:
            # http.client would refuse it too, and quote it in its error.
            if not re.fullmatch(r"[!-~]+", bearer):
                raise FleetError(
                    "the key holds a space, a line break or another character that no key has",
                    "OpenRouter",
                    "give the key alone, as OpenRouter showed it",
                )
            self._bearer = bearer

        def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
            request.headers["Authorization"] = f"Bearer {self._bearer}"
            return request

    class _Patience(Retry):
        """urllib3's retries, with an end: nobody is made to wait for an hour."""

        def increment(
            self, method: Any = None, url: Any = None, response: Any = None, *rest: Any, **more: Any
        ) -> _Patience:
            if response is not None and (self.get_retry_after(response) or 0) > _LONGEST_PAUSE:
                raise MaxRetryError(more["_pool"], url, ResponseError("too long a pause"))
            return super().increment(method, url, response, *rest, **more)

    class _Creation(_Patience):
        # Else urllib3 repeats a 503 with Retry-After too, which may hide that a key was made.
        RETRY_AFTER_STATUS_CODES = frozenset({429})

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

        def close(self) -> None:
            self._repeat.close()
            super().close()


def _reason(error: Exception) -> str:
    inner = error.args[0] if error.args else error
    return str(getattr(inner, "reason", inner))


def _message(answer: requests.Response) -> str:
    """What the API says, in its error envelope, of a refusal."""
    try:
        text = refusal(answer.json()["error"])
    except (ValueError, KeyError, TypeError, AttributeError):
        text = answer.reason or "no text"
    pause = answer.headers.get("Retry-After")
    after = f" (asks for a pause of {pause} s)" if pause else ""
    return f"HTTP {answer.status_code}: {text}{after}"


def refusal(error: Mapping[str, Any]) -> str:
    """An error of the API in one line: its message, and the metadata that say who refused.

    :raises KeyError: it has no message
    """
    metadata = error.get("metadata") or {}
    reasons = [row["reason"] for row in metadata.get("ineligibility_reasons") or []]
    reasons += [metadata["limit_source"]] if metadata.get("limit_source") else []
    text = str(error["message"])[:500]
    if reasons:
        text = f"{text} [{', '.join(dict.fromkeys(reasons))}]"
    return _KEY.sub("sk-or-***", text)
