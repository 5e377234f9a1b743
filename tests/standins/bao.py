# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""OpenBao's HTTP API as far as a secret store needs it: tokens, AppRole, KV version 2.

It follows the published description of the API and refuses what that does not have. What it is
asked, and what it then does, can be looked at and disturbed.
"""

from __future__ import annotations

import contextlib
import fnmatch
import json
import re
import secrets
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

Answer = tuple[int, dict[str, Any] | None]
ROOT = "root-token"
ALL = ["create", "delete", "list", "read", "update"]
MOUNTS = {"secret": "2", "old": "1"}
CAS = "check-and-set parameter did not match the current version"


class Bao:
    def __init__(self) -> None:
        self.sealed = False
        #: By token, the capabilities by pattern of paths.
        self.tokens: dict[str, dict[str, list[str]]] = {ROOT: {"*": ["root"]}}
        self.roles: dict[tuple[str, str], dict[str, list[str]]] = {}
        #: By path in the mount, all versions; None for one that is deleted.
        self.kept: dict[str, list[dict[str, str] | None]] = {}
        self.requests: list[tuple[str, str, dict[str, Any]]] = []
        #: Act upon the next write, and cut the connection off.
        self.lose_answer = False
        #: Cut the connection off before acting.
        self.lose_request = False
        self.lock = threading.Lock()
        self.url = ""

    def token(self, **paths: list[str]) -> str:
        """A token with one rule for all of ``secret/``, or with these."""
        token = f"s.{secrets.token_hex(12)}"
        self.tokens[token] = {path.replace("__", "/"): can for path, can in paths.items()}
        return token

    def answer(self, method: str, path: str, token: str, body: dict[str, Any]) -> Answer:
        if self.sealed:
            return 503, {"errors": ["Vault is sealed"]}
        if (method, path) == ("POST", "auth/approle/login"):
            rules = self.roles.get((body.get("role_id", ""), body.get("secret_id", "")))
            if rules is None:
                return 400, {"errors": ["invalid role or secret ID"]}
            new = self.token()
            self.tokens[new] = rules
            return 200, {"auth": {"client_token": new, "lease_duration": 600}}
        if token not in self.tokens:
            return 403, {"errors": ["permission denied"]}
        return self._system(method, path, token, body) or self._engine(method, path, token, body)

    def _system(self, method: str, path: str, token: str, body: dict[str, Any]) -> Answer | None:
        if (method, path) == ("GET", "auth/token/lookup-self"):
            return 200, {"data": {"id": token, "ttl": 0}}
        if (method, path) == ("POST", "sys/capabilities-self"):
            found = {one: self.allowed(token, one) for one in body["paths"]}
            return 200, {**found, "data": found}
        match = re.fullmatch(r"sys/internal/ui/mounts/(\w+)", path)
        if match and method == "GET":
            version = MOUNTS.get(match[1])
            if version is None:
                return 403, {"errors": ["preflight capability check returned 403"]}
            return 200, {"data": {"type": "kv", "options": {"version": version}}}
        return None

    def allowed(self, token: str, path: str) -> list[str]:
        for pattern, can in self.tokens[token].items():
            if fnmatch.fnmatchcase(path, pattern):
                return sorted(can)
        return ["deny"]

    def _engine(self, method: str, path: str, token: str, body: dict[str, Any]) -> Answer:
        match = re.fullmatch(r"secret/(data|metadata)/(.+)", path)
        if match is None:
            return 404, {"errors": [f"no handler for route {path!r}"]}
        part, name = match.groups()
        versions = self.kept.get(name, [])
        need = {"GET": "read", "LIST": "list", "DELETE": "delete"}.get(
            method, "update" if versions else "create"
        )
        folder = f"{path}/" if method == "LIST" else path
        if not {"root", need} & set(self.allowed(token, folder)):
            return 403, {"errors": ["1 error occurred:\n\t* permission denied\n\n"]}
        work = {
            ("GET", "data"): self._read,
            ("POST", "data"): self._write,
            ("DELETE", "metadata"): self._delete,
            ("LIST", "metadata"): self._list,
        }.get((method, part))
        return work(name, body) if work else (405, {"errors": ["unsupported operation"]})

    def _read(self, name: str, body: dict[str, Any]) -> Answer:
        versions = self.kept.get(name)
        if not versions:
            return 404, {"errors": []}
        deleted = versions[-1] is None
        metadata = {
            "version": len(versions),
            "deletion_time": "2026-01-01T00:00:00Z" if deleted else "",
            "destroyed": False,
        }
        return 404 if deleted else 200, {"data": {"data": versions[-1], "metadata": metadata}}

    def _write(self, name: str, body: dict[str, Any]) -> Answer:
        if set(body) - {"data", "options"} or not isinstance(body.get("data"), dict):
            return 400, {"errors": ["no data provided"]}
        versions = self.kept.setdefault(name, [])
        cas = body.get("options", {}).get("cas")
        if cas is not None and cas != len(versions):
            return 400, {"errors": [CAS]}
        versions.append(body["data"])
        return 200, {"data": {"version": len(versions), "deletion_time": "", "destroyed": False}}

    def _delete(self, name: str, body: dict[str, Any]) -> Answer:
        self.kept.pop(name, None)
        return 204, None

    def _list(self, name: str, body: dict[str, Any]) -> Answer:
        below = [one.removeprefix(f"{name}/") for one in self.kept if one.startswith(f"{name}/")]
        keys = sorted({re.sub(r"/.*", "/", one) for one in below})
        return (200, {"data": {"keys": keys}}) if keys else (404, {"errors": []})


@contextlib.contextmanager
def running() -> Iterator[Bao]:
    """A server on this machine, unsealed, with a root token."""
    bao = Bao()
    connections: list[socket.socket] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Else the body waits for the other side to acknowledge the headers.
        disable_nagle_algorithm = True

        def setup(self) -> None:
            connections.append(self.request)
            super().setup()

        def handle_one_request(self) -> None:
            try:
                super().handle_one_request()
            except ConnectionError:
                self.close_connection = True

        def _any(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length) or b"{}")
            path = urlsplit(self.path).path.removeprefix("/v1/")
            write = self.command == "POST" and path.startswith("secret/data/")
            with bao.lock:
                bao.requests.append((self.command, path, body))
                if write and bao.lose_request:
                    bao.lose_request = False
                    raise ConnectionError
                token = self.headers.get("X-Vault-Token", "")
                status, answer = bao.answer(self.command, path, token, body)
                if write and bao.lose_answer:
                    bao.lose_answer = False
                    raise ConnectionError
            self._send(status, answer)

        def _send(self, status: int, answer: dict[str, Any] | None) -> None:
            data = b"" if answer is None else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = do_DELETE = do_LIST = _any

        def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = False
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    bao.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield bao
    finally:
        server.shutdown()
        thread.join()
        for connection in connections:
            # Threads that wait for another request have to end.
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        server.server_close()
