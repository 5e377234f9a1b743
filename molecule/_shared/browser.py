# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Somebody outside who uses an instance over TLS: requests, streams, websockets, load."""

from __future__ import annotations

import base64
import http.client
import json
import os
import socket
import ssl
import struct
import threading
import time
from collections import Counter
from typing import Any

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
        self, connection: Connection, method: str, path: str, body: Any = None
    ) -> http.client.HTTPResponse:
        headers = {"Content-Type": "application/json"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        data = body if isinstance(body, bytes) or body is None else json.dumps(body)
        connection.request(method, path, data, headers)
        return connection.getresponse()

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        connection = self.connection()
        try:
            answer = self.send(connection, method, path, body)
            text = answer.read()
            return answer.status, json.loads(text) if b"{" in text[:1] else text
        finally:
            connection.close()


class WebSocket:
    """A socket.io session as Open WebUI's pages have one, in text frames."""

    def __init__(self, browser: Browser) -> None:
        connection = browser.connection()
        connection.connect()
        self._socket = connection.sock
        self._buffer = b""
        key = base64.b64encode(os.urandom(16)).decode()
        self._socket.sendall(
            "\r\n".join(
                [
                    "GET /ws/socket.io/?EIO=4&transport=websocket HTTP/1.1",
                    f"Host: {browser.domain}",
                    "Upgrade: websocket",
                    "Connection: Upgrade",
                    f"Sec-WebSocket-Key: {key}",
                    "Sec-WebSocket-Version: 13",
                    f"Origin: https://{browser.domain}",
                    "",
                    "",
                ]
            ).encode()
        )
        while b"\r\n\r\n" not in self._buffer:
            self._more()
        head, _blank, self._buffer = self._buffer.partition(b"\r\n\r\n")
        assert b" 101 " in head.splitlines()[0], head
        assert self.receive().startswith("0{")
        self.send("40" + json.dumps({"token": browser.token}))
        greeting = self.receive()
        assert greeting.startswith("40{"), greeting
        self.session = json.loads(greeting[2:])["sid"]

    def send(self, text: str) -> None:
        data = text.encode()
        mask = os.urandom(4)
        length = (
            bytes([0x80 | len(data)])
            if len(data) < 126
            else bytes([0x80 | 126]) + struct.pack(">H", len(data))
        )
        masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(data))
        self._socket.sendall(b"\x81" + length + mask + masked)

    def receive(self) -> str:
        """The next message; pings are answered on the way."""
        while True:
            first, second = self._take(2)
            length = second & 0x7F
            if length >= 126:
                size = 2 if length == 126 else 8
                length = int.from_bytes(self._take(size), "big")
            text = self._take(length).decode()
            if first & 0x0F == 8:
                raise ConnectionError(f"the websocket was closed: {text!r}")
            if text == "2":
                self.send("3")
            elif first & 0x0F == 1:
                return text

    def _take(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._more()
        taken, self._buffer = self._buffer[:size], self._buffer[size:]
        return taken

    def _more(self) -> None:
        data = self._socket.recv(65536)
        if not data:
            raise ConnectionError("the websocket was cut")
        self._buffer += data


class Load:
    """Many people who send POST and GET without a break, on connections that they keep."""

    def __init__(self, browser: Browser, people: int) -> None:
        self._browser = browser
        self._stop = threading.Event()
        self.sent = 0
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

    def _person(self, number: int) -> None:
        connection = self._browser.connection()
        count = 0
        while not self._stop.wait(0.1):
            count += 1
            begin = time.monotonic()
            try:
                if count % 2:
                    # A wrong password: an answer of the application, and quickly had.
                    body = {"email": f"p{number}x{count}@nowhere.example", "password": "x"}
                    answer = self._browser.send(connection, "POST", "/api/v1/auths/signin", body)
                else:
                    answer = self._browser.send(connection, "GET", "/api/config")
                answer.read()
                problem = "" if answer.status in (200, 400) else f"status {answer.status}"
            except (OSError, http.client.HTTPException) as error:
                problem = repr(error)
                connection.close()
            with self._lock:
                self.sent += 1
                self.slowest = max(self.slowest, time.monotonic() - begin)
                if problem:
                    self.failed[problem] += 1
