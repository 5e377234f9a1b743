# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import http.server
import importlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.mai.fleet.plugins.module_utils._transport.loopback import Loopback

RunModule = Callable[..., dict[str, Any]]

# What Open WebUI answers to every path that it does not know, with status 200.
START_PAGE = (200, "text/html; charset=utf-8", b'<!doctype html>\n<html lang="en">\n')


@dataclass
class Recorded:
    """Gives back answers as they were seen from Open WebUI 0.12.4, and keeps the requests."""

    answers: dict[str, tuple[int, str, bytes]] = field(default_factory=dict)
    requests: list[dict[str, Any]] = field(default_factory=list)
    port: int = 0

    def answer(self, request: str, status: int, body: Any) -> None:
        self.answers[request] = (status, "application/json", json.dumps(body).encode())

    @property
    def transport(self) -> Loopback:
        return Loopback(f"http://127.0.0.1:{self.port}", timeout=5)


@pytest.fixture
def recorded() -> Iterator[Recorded]:
    record = Recorded()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            request = f"{self.command} {self.path}"
            record.requests.append(
                {
                    "request": request,
                    "authorization": self.headers.get("Authorization"),
                    "body": json.loads(body) if body else None,
                }
            )
            status, kind, answer = record.answers.get(request, START_PAGE)
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_POST = do_GET

        def log_message(self, *args: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    record.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
    yield record
    server.shutdown()
    server.server_close()


@pytest.fixture
def run_module(capsys: pytest.CaptureFixture[str]) -> RunModule:
    """Calls a module's ``main`` and returns what it printed, masked by Ansible as always."""

    def run(name: str, options: dict[str, Any], *, check: bool = False) -> Any:
        main = importlib.import_module(f"ansible_collections.mai.fleet.plugins.modules.{name}").main
        arguments = {**options, "_ansible_check_mode": check, "_ansible_diff": True}
        with patch_module_args(arguments), pytest.raises(SystemExit):
            main()
        return json.loads(capsys.readouterr().out)

    return run
