# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Somebody outside who uses an instance over TLS: requests, streams, websockets, load."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
import subprocess
import threading
import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message as Headers
from typing import Any

import wsproto
from http2 import Tunnel
from wsproto.connection import ConnectionType
from wsproto.events import (
    AcceptConnection,
    CloseConnection,
    Message,
    Ping,
    RejectConnection,
    Request,
    TextMessage,
)

TIMEOUT = 420.0


class Connection(http.client.HTTPSConnection):
    """HTTPS to a domain that only the test knows the address of."""

    def __init__(self, domain: str, address: str, trust: ssl.SSLContext) -> None:
        super().__init__(domain, timeout=TIMEOUT, context=trust)
        self._address = address
        self._trust = trust

    def connect(self) -> None:
        plain = socket.create_connection((self._address, 443), TIMEOUT)
        self.sock = self._trust.wrap_socket(plain, server_hostname=self.host)


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Headers
    body: bytes


class Browser:
    """A person at one site."""

    def __init__(self, domain: str, address: str, trust: ssl.SSLContext) -> None:
        self.domain = domain
        self.address = address
        self.trust = trust
        self.token = ""

    def connection(self) -> Connection:
        return Connection(self.domain, self.address, self.trust)

    def send(
        self,
        connection: Connection,
        method: str,
        path: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        more = {"Content-Type": "application/json", **(headers or {})}
        if self.token:
            more["Authorization"] = f"Bearer {self.token}"
        data = body if body is None else json.dumps(body)
        connection.request(method, path, data, more)
        answer = connection.getresponse()
        return Answer(answer.status, answer.headers, answer.read())

    def fetch(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        with contextlib.closing(self.connection()) as connection:
            return self.send(connection, method, path, body, headers)

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """The status and, where the answer is JSON, its value."""
        answer = self.fetch(method, path, body)
        is_json = answer.headers.get_content_type() == "application/json"
        return answer.status, json.loads(answer.body) if is_json else answer.body


def careless() -> ssl.SSLContext:
    """For when the certificate is one that nobody vouches for."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def upload(browser: Browser, size: int, chunked: bool, upgrade: str = "") -> tuple[int, bytes]:
    """Upload a file of a size in bytes; the answer's status and its body.

    :param chunked: do not say beforehand how long the request is
    :param upgrade: the protocol to ask for, which nobody grants
    """
    head = (
        b'--part\r\nContent-Disposition: form-data; name="file"; filename="big.bin"\r\n'
        b"Content-Type: application/octet-stream\r\n\r\n"
    )
    tail = b"\r\n--part--\r\n"
    block = b"x" * 65536
    parts = [head, *[block] * (size // len(block)), block[: size % len(block)], tail]
    with contextlib.closing(browser.connection()) as connection:
        return _upload(browser, connection, parts, chunked, upgrade)


def _upload(
    browser: Browser, connection: Connection, parts: list[bytes], chunked: bool, upgrade: str
) -> tuple[int, bytes]:
    connection.putrequest("POST", "/api/v1/files/?process=false")
    connection.putheader("Authorization", f"Bearer {browser.token}")
    connection.putheader("Content-Type", "multipart/form-data; boundary=part")
    if upgrade:
        # Without `Connection: Upgrade`, with which it was always counted.
        connection.putheader("Upgrade", upgrade)
    if chunked:
        connection.putheader("Transfer-Encoding", "chunked")
    else:
        connection.putheader("Content-Length", str(sum(map(len, parts))))
    connection.endheaders()
    # Who is refused before the end may find the connection closed, and an answer in it.
    with contextlib.suppress(OSError):
        for part in filter(None, parts):
            connection.send(b"%x\r\n%s\r\n" % (len(part), part) if chunked else part)
        if chunked:
            connection.send(b"0\r\n\r\n")
    answer = connection.getresponse()
    return answer.status, answer.read()


class WebSocket:
    """A socket.io session as Open WebUI's pages have one, in text frames.

    :param tunnel: through HTTP/2; without one, it has a connection of its own
    """

    PATH = "/ws/socket.io/?EIO=4&transport=websocket"

    def __init__(self, browser: Browser, origin: str = "", tunnel: Tunnel | None = None) -> None:
        self._text = ""
        self._arrived: deque[str] = deque()
        self._socket: socket.socket | Tunnel
        self._frames: wsproto.WSConnection | wsproto.connection.Connection
        if tunnel:
            self._frames = wsproto.connection.Connection(ConnectionType.CLIENT)
            self._socket = tunnel
        else:
            self._frames, self._socket = self._upgraded(browser, origin)
        assert self.receive().startswith("0{")
        self.send("40" + json.dumps({"token": browser.token}))
        greeting = self.receive()
        assert greeting.startswith("40{"), greeting
        self.session = json.loads(greeting[2:])["sid"]

    def _upgraded(
        self, browser: Browser, origin: str
    ) -> tuple[wsproto.WSConnection, socket.socket]:
        connection = browser.connection()
        connection.connect()
        frames = wsproto.WSConnection(ConnectionType.CLIENT)
        headers = [(b"Origin", (origin or f"https://{browser.domain}").encode())]
        request = Request(host=browser.domain, target=self.PATH, extra_headers=headers)
        connection.sock.sendall(frames.send(request))
        while True:
            frames.receive_data(connection.sock.recv(65536))
            for event in frames.events():
                if isinstance(event, AcceptConnection):
                    return frames, connection.sock
                if isinstance(event, RejectConnection):
                    connection.close()
                    raise ConnectionError(f"no websocket: status {event.status_code}")

    def say_goodbye(self) -> None:
        """The other side answers with the same, and closes."""
        self._socket.sendall(self._frames.send(CloseConnection(code=1000)))

    def close(self) -> None:
        self._socket.close()

    def send(self, text: str) -> None:
        self._socket.sendall(self._frames.send(Message(data=text)))

    def receive(self) -> str:
        """The next message; pings are answered on the way."""
        while True:
            while self._arrived:
                text = self._arrived.popleft()
                if text != "2":
                    return text
                # A ping of the layer above.
                self.send("3")
            for event in self._frames.events():
                self._take(event)
            if not self._arrived:
                self._more()

    def _take(self, event: object) -> None:
        if isinstance(event, TextMessage):
            self._text += event.data
            if event.message_finished:
                self._arrived.append(self._text)
                self._text = ""
        elif isinstance(event, Ping):
            self._socket.sendall(self._frames.send(event.response()))
        elif isinstance(event, CloseConnection):
            raise ConnectionError(f"the websocket was closed: {event}")

    def _more(self) -> None:
        data = self._socket.recv(65536)
        if not data:
            raise ConnectionError("the websocket was cut")
        self._frames.receive_data(data)


class Listener:
    """What comes over a websocket, with the time at which it came."""

    def __init__(self, websocket: WebSocket) -> None:
        self.websocket = websocket
        self.arrived: list[tuple[float, str]] = []
        self.problem = ""
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def close(self) -> None:
        self.websocket.say_goodbye()
        self._thread.join(TIMEOUT)
        self.websocket.close()

    def _listen(self) -> None:
        try:
            while True:
                self.arrived.append((time.monotonic(), self.websocket.receive()))
        except (OSError, ValueError) as error:
            self.problem = repr(error)

    def wait_for_end(self, name: str) -> None:
        """Until the answer of that name has come to its end."""
        deadline = time.monotonic() + 90
        while not any(
            f'"{name}"' in text and '"done":true' in text for _time, text in list(self.arrived)
        ):
            assert not self.problem, self.problem
            assert time.monotonic() < deadline, self.arrived[-3:]
            time.sleep(0.1)


class Stream:
    """A streamed answer as it comes in, over HTTP/1.1 or 2, each line with its time.

    :param authorities: the file with the certificates that curl trusts
    """

    def __init__(self, browser: Browser, version: str, authorities: str, body: Any) -> None:
        self.arrived: list[tuple[float, str]] = []
        self._curl = subprocess.Popen(
            ["curl", f"--http{version}", "--config", "-"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        settings = {
            "url": f"https://{browser.domain}/api/chat/completions",
            "resolve": f"{browser.domain}:443:{browser.address}",
            "noproxy": "*",
            "cacert": authorities,
            "header": f"Authorization: Bearer {browser.token}",
            "json": json.dumps(body),
            "write-out": "%{http_version} %{http_code} %{num_connects}",
        }
        assert self._curl.stdin is not None
        with self._curl.stdin as config:
            config.write("silent\nshow-error\nno-buffer\n")
            for name, value in settings.items():
                config.write(f"{name} = {json.dumps(value)}\n")
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        assert self._curl.stdout is not None
        for line in self._curl.stdout:
            if line.strip():
                self.arrived.append((time.monotonic(), line.strip()))

    def finish(self) -> str:
        """All that came, when it is at an end."""
        self._thread.join(TIMEOUT)
        self._curl.wait(10)
        assert self._curl.stdout is not None
        self._curl.stdout.close()
        return "\n".join(line for _time, line in self.arrived)


class Load:
    """Many people who send POST and GET without a break, on connections that they keep."""

    def __init__(self, browser: Browser, people: int, model: str) -> None:
        self._browser = browser
        self._model = model
        self._stop = threading.Event()
        self.sent = 0
        self.chats = 0
        self.failed: Counter[str] = Counter()
        self.slowest = 0.0
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._person, args=(n,)) for n in range(people)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def __str__(self) -> str:
        return (
            f"{self.sent} sent, {self.chats} of them POST, {self.failed.total()} failed, "
            f"the slowest took {self.slowest:.1f} s"
        )

    def _person(self, number: int) -> None:
        with contextlib.closing(self._browser.connection()) as connection:
            self._work(number, connection)

    def _work(self, number: int, connection: Connection) -> None:
        count = 0
        while not self._stop.wait(0.25):
            count += 1
            begin = time.monotonic()
            try:
                if count % 2:
                    # No two are alike, so that one that arrives twice is known.
                    word = f"p{number}x{count}"
                    body = {"model": self._model, "messages": [{"role": "user", "content": word}]}
                    answer = self._browser.send(connection, "POST", "/api/chat/completions", body)
                    good = word.encode() in answer.body
                else:
                    answer = self._browser.send(connection, "GET", "/api/config")
                    good = b'"version"' in answer.body
                problem = "" if answer.status == 200 and good else f"status {answer.status}"
            except (OSError, http.client.HTTPException) as error:
                problem = repr(error)
                connection.close()
            with self._lock:
                self.sent += 1
                self.chats += count % 2
                self.slowest = max(self.slowest, time.monotonic() - begin)
                if problem:
                    self.failed[problem] += 1
