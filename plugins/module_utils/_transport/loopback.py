# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the mai.fleet collection
"""HTTP to this server's own loopback address or to a Unix socket, with the standard library.

``http.client`` knows nothing of proxies: a server's ``HTTP_PROXY`` cannot divert a request that
carries an instance's token.
"""

from __future__ import annotations

import contextlib
import http.client
import json as jsonlib
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from ansible_collections.mai.fleet.plugins.module_utils._errors import Unreachable


@dataclass
class Response:
    """An answer, whatever its status. Header names are lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The decoded body.

        :raises ValueError: the body is not JSON
        """
        return jsonlib.loads(self.body)


class Download:
    """An answer that is read piece by piece.

    :param where: the request, for error messages
    """

    def __init__(self, answer: http.client.HTTPResponse, where: str, timeout: float) -> None:
        self.status = answer.status
        self._answer = answer
        self._where = where
        self._timeout = timeout

    def read(self, size: int) -> bytes:
        """:raises Unreachable: the answer ended too early"""
        try:
            return self._answer.read(size)
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(_reason(error, self._timeout), self._where) from error


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, socket_path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._socket_path = socket_path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._socket_path)


class Loopback:
    """One endpoint, for example ``http://127.0.0.1:8301`` or ``unix:///var/run/docker.sock``.

    Every request has a connection of its own, so several threads may share an object.
    Redirects are not followed.

    :param timeout: seconds without a byte, not for the whole request
    :raises ValueError: ``base`` is neither an http nor a unix URL
    """

    def __init__(self, base: str, timeout: float = 30.0) -> None:
        parts = urlsplit(base)
        self._base = base.rstrip("/")
        self._timeout = timeout
        self._socket_path = ""
        self._host = parts.hostname or ""
        self._port = parts.port
        if parts.scheme == "unix" and parts.path:
            self._socket_path = parts.path
        elif parts.scheme != "http" or not self._host or parts.path not in ("", "/"):
            raise ValueError(f"{base}: expected http://HOST:PORT or unix:///PATH")

    def request(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        body: bytes | BinaryIO | None = None,
        headers: dict[str, str] | None = None,
        timeout: float | None = None,
    ) -> Response:
        """Send one request and read the whole answer.

        :param json: sent as a JSON body, unless None
        :param body: sent as it is; a file is streamed and needs a ``Content-Length`` header
        :raises Unreachable: no complete answer came
        """
        sent = dict(headers or {})
        if json is not None:
            body = jsonlib.dumps(json).encode("utf-8")
            sent.setdefault("Content-Type", "application/json")
        seconds = self._timeout if timeout is None else timeout
        connection = self._connection(seconds)
        try:
            connection.request(method, path, body=body, headers=sent)
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Response(answer.status, found, answer.read())
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(_reason(error, seconds), f"{method} {self._base}{path}") from error
        finally:
            connection.close()

    @contextlib.contextmanager
    def download(self, path: str, timeout: float) -> Iterator[Download]:
        """Ask for something large, and read the answer within the block.

        :raises Unreachable: no answer came
        """
        where = f"GET {self._base}{path}"
        connection = self._connection(timeout)
        try:
            try:
                connection.request("GET", path)
                answer = connection.getresponse()
            except (OSError, http.client.HTTPException) as error:
                raise Unreachable(_reason(error, timeout), where) from error
            yield Download(answer, where, timeout)
        finally:
            connection.close()

    def _connection(self, seconds: float) -> http.client.HTTPConnection:
        if self._socket_path:
            return _UnixConnection(self._socket_path, seconds)
        return http.client.HTTPConnection(self._host, self._port, timeout=seconds)


def _reason(error: Exception, seconds: float) -> str:
    # Python 3.9: socket.timeout is not yet TimeoutError.
    if isinstance(error, (TimeoutError, socket.timeout)):
        return f"no answer within {seconds:g} s"
    if isinstance(error, http.client.RemoteDisconnected):
        return "the connection was closed without an answer"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"{type(error).__name__}: {error}"
