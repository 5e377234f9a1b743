# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is asked again, what never is, and for how long."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
from ansible_collections.mai.fleet.plugins.module_utils._errors import (
    ApiError,
    FleetError,
    RateLimited,
    Unauthorized,
    Unreachable,
)
from ansible_collections.mai.fleet.plugins.module_utils._transport.controller import Controller
from simulator.simulator import Simulator
from unit.keys.bench import exception_texts

PASSING = (429, 500, 502, 503, 504, 524, 529)


@pytest.fixture
def http(simulator: Simulator) -> Controller:
    return Controller(simulator.url, simulator.management_key, backoff=0.01)


@pytest.fixture
def key_hash(simulator: Simulator, http: Controller) -> str:
    """A key to read, change and delete. The log begins after it."""
    made = http.post("/keys", {"name": "there"})["data"]["hash"]
    simulator.clear_log()
    return str(made)


def call(http: Controller, method: str, key_hash: str) -> object:
    path = f"/keys/{key_hash}"
    if method == "GET":
        return http.get(path)
    if method == "PATCH":
        return http.patch(path, {"limit": 5})
    return http.delete(path)


class Odd(BaseHTTPRequestHandler):
    """A server that answers what a test says: status, headers, body."""

    answer: ClassVar[tuple[int, dict[str, str], bytes]] = (200, {}, b"{}")
    seen: ClassVar[list[tuple[str, str, str]]]

    def reply(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.seen.append((self.command, self.path, self.headers.get("Authorization", "")))
        status, headers, body = self.answer
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PATCH = do_DELETE = reply

    def log_message(self, *_args: object) -> None:
        pass


@pytest.fixture
def odd() -> Iterator[tuple[type[Odd], str]]:
    class Answering(Odd):
        seen: ClassVar[list[tuple[str, str, str]]] = []

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield Answering, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("status", PASSING)
@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
def test_passing_failures_are_repeated(
    simulator: Simulator, http: Controller, key_hash: str, method: str, status: int
) -> None:
    simulator.fault(method=method, path="/keys/.*", status=status, times=2)
    assert call(http, method, key_hash)
    assert [row.status for row in simulator.requests] == [status, status, 200]


@pytest.mark.parametrize("cut", ["before", "after", "middle"])
@pytest.mark.parametrize("method", ["GET", "PATCH"])
def test_cut_connections_are_repeated(
    simulator: Simulator, http: Controller, key_hash: str, method: str, cut: str
) -> None:
    simulator.fault(method=method, path="/keys/.*", cut=cut, times=2)
    assert call(http, method, key_hash)
    assert len(simulator.requests) == 3


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409])
def test_a_refusal_is_not_repeated(
    simulator: Simulator, http: Controller, key_hash: str, status: int
) -> None:
    simulator.fault(method="PATCH", path="/keys/.*", status=status, message="So not.")
    with pytest.raises(ApiError, match="So not") as raised:
        call(http, "PATCH", key_hash)
    assert raised.value.status == status
    assert len(simulator.requests) == 1


def test_a_create_is_repeated_after_429(simulator: Simulator, http: Controller) -> None:
    simulator.fault(method="POST", path="/keys", status=429, times=2)
    assert http.post("/keys", {"name": "a"})["key"]
    assert [row.status for row in simulator.requests] == [429, 429, 201]
    assert len(simulator.keys) == 1


@pytest.mark.parametrize("retry_after", [None, 0, 1])
@pytest.mark.parametrize("status", [500, 502, 503, 524, 529])
def test_a_create_that_may_have_been_made_is_not_repeated(
    simulator: Simulator, http: Controller, status: int, retry_after: int | None
) -> None:
    """Also when the answer carries Retry-After, after which urllib3 repeats 413, 429 and 503."""
    simulator.fault(
        method="POST", path="/keys", status=status, act=True, times=9, retry_after=retry_after
    )
    with pytest.raises(ApiError):
        http.post("/keys", {"name": "a"})
    assert len(simulator.keys) == 1


@pytest.mark.parametrize(("cut", "made"), [("before", 0), ("after", 1), ("middle", 1)])
def test_a_create_whose_answer_is_lost_is_not_repeated(
    simulator: Simulator, http: Controller, cut: str, made: int
) -> None:
    simulator.fault(method="POST", path="/keys", cut=cut, times=9)
    with pytest.raises(Unreachable):
        http.post("/keys", {"name": "a"})
    assert len(simulator.requests) == 1
    assert len(simulator.keys) == made


def test_a_create_is_repeated_when_the_connection_never_stood(simulator: Simulator) -> None:
    """The port is closed when the first tries come, and open for the later ones."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    late = Simulator(port=port, management_key=simulator.management_key)
    opening = threading.Timer(0.1, late.start)
    opening.start()
    try:
        http = Controller(f"http://127.0.0.1:{port}/api/v1", simulator.management_key, backoff=0.2)
        assert http.post("/keys", {"name": "a"})["key"]
        assert len(late.keys) == 1
    finally:
        opening.join()
        late.stop()


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_retry_after_is_honoured(simulator: Simulator, http: Controller, method: str) -> None:
    simulator.fault(path="/keys", status=429, retry_after=1)
    started = time.monotonic()
    if method == "GET":
        http.get("/keys")
    else:
        http.post("/keys", {"name": "a"})
    assert time.monotonic() - started >= 1


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_429_that_does_not_end_ends_here(
    simulator: Simulator, http: Controller, method: str
) -> None:
    simulator.fault(path="/keys", status=429, times=0)
    with pytest.raises(RateLimited, match="Rate limit exceeded") as raised:
        http.get("/keys") if method == "GET" else http.post("/keys", {"name": "a"})
    assert len(simulator.requests) == 6
    assert raised.value.where == f"{method} {simulator.url}/keys"


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_nobody_waits_an_hour(simulator: Simulator, http: Controller, method: str) -> None:
    simulator.fault(path="/keys", status=429, times=0, retry_after=3600)
    with pytest.raises(RateLimited, match="asks for a pause of 3600 s"):
        http.get("/keys") if method == "GET" else http.post("/keys", {"name": "a"})
    assert len(simulator.requests) == 1


def test_the_waits_double(closed_port: int) -> None:
    """Where nobody listens: 0, 2, 4, 8 and 16 times the backoff."""
    http = Controller(f"http://127.0.0.1:{closed_port}", backoff=0.01)
    started = time.monotonic()
    with pytest.raises(Unreachable, match="refused") as raised:
        http.get("/keys")
    assert time.monotonic() - started >= 0.3
    assert "network" in raised.value.todo


def test_a_slow_answer_is_given_up(simulator: Simulator) -> None:
    simulator.fault(method="POST", path="/keys", delay=1)
    http = Controller(simulator.url, simulator.management_key, timeout=0.2)
    with pytest.raises(Unreachable, match="timed out"):
        http.post("/keys", {"name": "a"})
    while not simulator.keys:
        time.sleep(0.05)
    assert len(simulator.keys) == 1


def test_the_error_says_what_the_api_said(simulator: Simulator, http: Controller) -> None:
    metadata = {
        "ineligibility_reasons": [{"endpoint": "A", "reason": "model-ignored-by-guardrail"}] * 2,
        "limit_source": "openrouter_credits",
    }
    simulator.fault(path="/keys", status=404, message="No endpoints", metadata=metadata)
    with pytest.raises(ApiError) as raised:
        http.get("/keys")
    assert raised.value.what == (
        "HTTP 404: No endpoints [model-ignored-by-guardrail, openrouter_credits]"
    )


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"error": "x"}', b'{"error": {}}', b""])
def test_an_error_without_the_envelope_is_an_error(odd: tuple[type[Odd], str], body: bytes) -> None:
    handler, url = odd
    handler.answer = (403, {}, body)
    with pytest.raises(ApiError, match="HTTP 403: Forbidden"):
        Controller(url, "sk-or-x").get("/keys")


def test_an_answer_that_is_not_json_does_not_quote_it(odd: tuple[type[Odd], str]) -> None:
    handler, url = odd
    secret = "sk-or-v1-" + "ab" * 32
    handler.answer = (201, {}, f'{{"key": "{secret}", '.encode())
    with pytest.raises(ApiError, match="not JSON") as raised:
        Controller(url, "sk-or-x").post("/keys", {"name": "a"})
    assert secret not in exception_texts(raised.value)


def test_an_error_that_quotes_a_key_does_not_pass_it_on(odd: tuple[type[Odd], str]) -> None:
    handler, url = odd
    secret = "sk-or-v1-" + "cd" * 32
    handler.answer = (401, {}, f'{{"error": {{"code": 401, "message": "bad {secret}!"}}}}'.encode())
    with pytest.raises(Unauthorized, match="bad sk-or-") as raised:
        Controller(url, secret).get("/key")
    assert secret not in exception_texts(raised.value)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_redirects_are_not_followed(odd: tuple[type[Odd], str], status: int) -> None:
    """A followed 302 would turn a create into a GET, and look like success."""
    handler, url = odd
    handler.answer = (status, {"Location": "/elsewhere"}, b"{}")
    with pytest.raises(ApiError, match="redirected to /elsewhere"):
        Controller(url, "sk-or-x").post("/keys", {"name": "a"})
    assert [row[:2] for row in handler.seen] == [("POST", "/keys")]


def test_the_key_is_the_one_given_and_not_one_of_netrc(
    odd: tuple[type[Odd], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    handler, url = odd
    Controller(url, "sk-or-mine").get("/keys")
    assert handler.seen == [("GET", "/keys", "Bearer sk-or-mine")]


@pytest.mark.parametrize("bad", ["sk-or-secret\n", " sk-or-secret", "sk-or-secret\u2028", "é", ""])
def test_a_key_that_cannot_be_sent_is_refused_unquoted(bad: str) -> None:
    """http.client quotes a header that it refuses, with the key in it."""
    with pytest.raises(FleetError, match="space, a line break") as raised:
        Controller("http://127.0.0.1:9", bad).get("/keys")
    assert "secret" not in exception_texts(raised.value)


def test_no_secret_is_logged_at_any_level(
    simulator: Simulator, http: Controller, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    simulator.fault(method="GET", path="/keys", status=500)
    secret = http.post("/keys", {"name": "a"})["key"]
    Controller(simulator.url, secret).get("/key")
    http.get("/keys")
    assert len(caplog.records) > 3
    for hidden in (secret, simulator.management_key):
        assert hidden not in caplog.text
        assert hidden not in repr(vars(http))
