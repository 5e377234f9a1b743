# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import http.server
import io
import json
import socketserver
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mai.fleet.plugins.module_utils._errors import Unreachable
from ansible_collections.mai.fleet.plugins.module_utils._transport.loopback import Loopback


class _Echo(http.server.BaseHTTPRequestHandler):
    """Answers with what it was sent; ``/slow`` never answers, ``/cut`` hangs up."""

    def do_POST(self) -> None:
        if self.path == "/slow":
            time.sleep(2)
            return
        if self.path == "/cut":
            self.close_connection = True
            return
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        answer = json.dumps(
            {"path": self.path, "headers": dict(self.headers), "body": body.decode()}
        ).encode()
        self.send_response(201)
        self.send_header("Content-Length", str(len(answer)))
        self.send_header("X-Seen", "yes")
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_POST

    def log_message(self, *args: Any) -> None:
        pass

    def address_string(self) -> str:
        return "test"


class _UnixServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


@pytest.fixture(params=["tcp", "unix"])
def base(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    server: socketserver.BaseServer
    if request.param == "tcp":
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Echo)
        address = f"http://127.0.0.1:{server.server_address[1]}"
    else:
        path = tmp_path / "s"
        server = _UnixServer(str(path), _Echo)
        address = f"unix://{path}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield address
    server.shutdown()
    server.server_close()


def test_sends_json_and_headers(base: str) -> None:
    answer = Loopback(base).request("POST", "/a?b=c", json={"ä": 1}, headers={"X-One": "1"})
    seen = answer.json()
    assert answer.status == 201
    assert answer.headers["x-seen"] == "yes"
    assert seen["path"] == "/a?b=c"
    assert json.loads(seen["body"]) == {"ä": 1}
    assert seen["headers"]["X-One"] == "1"
    assert seen["headers"]["Content-Type"] == "application/json"


def test_sends_a_false_json_value(base: str) -> None:
    assert Loopback(base).request("POST", "/", json=False).json()["body"] == "false"


def test_streams_a_file(base: str) -> None:
    answer = Loopback(base).request(
        "POST", "/", body=io.BytesIO(b"tar"), headers={"Content-Length": "3"}
    )
    assert answer.json()["body"] == "tar"
    assert "Transfer-Encoding" not in answer.json()["headers"]


def test_ignores_proxies(base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert Loopback(base).request("GET", "/").status == 201


def test_names_the_request_when_nothing_answers_in_time(base: str) -> None:
    with pytest.raises(Unreachable) as error:
        Loopback(base).request("GET", "/slow", timeout=0.2)
    assert error.value.where == f"GET {base}/slow"
    assert error.value.what == "no answer within 0.2 s"


def test_names_a_cut_connection(base: str) -> None:
    with pytest.raises(Unreachable) as error:
        Loopback(base).request("GET", "/cut")
    assert error.value.what == "the connection was closed without an answer"


def test_names_a_refused_connection(closed_port: int) -> None:
    with pytest.raises(Unreachable) as error:
        Loopback(f"http://127.0.0.1:{closed_port}/").request("GET", "/ready")
    assert error.value.failure() == {
        "what": "Connection refused",
        "where": f"GET http://127.0.0.1:{closed_port}/ready",
        "todo": "",
    }


def test_names_a_missing_socket(tmp_path: Path) -> None:
    with pytest.raises(Unreachable) as error:
        Loopback(f"unix://{tmp_path}/none").request("GET", "/version")
    assert error.value.what == "No such file or directory"


@pytest.mark.parametrize("base", ["https://127.0.0.1:1", "127.0.0.1:80", "unix://", "http://h/v1"])
def test_refuses_other_addresses(base: str) -> None:
    with pytest.raises(ValueError, match="expected http"):
        Loopback(base)
