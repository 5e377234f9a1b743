# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A websocket's bytes inside an HTTP/2 connection (RFC 8441), as browsers send them.

So much of HTTP/2 (RFC 9113) as one stream needs that is not in a hurry. Written out, because h2
4.4 takes GOAWAY for the end of the whole connection, and that a stream goes on after it is what a
rehearsal has to see.
"""

from __future__ import annotations

import socket
import ssl
import struct

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
ACK, END_HEADERS = 0x1, 0x4
STREAM = 1
# `:status: 200` of the static table, RFC 7541, appendix A.
STATUS_200 = 0x88


class Tunnel:
    """As much of a socket as a websocket needs."""

    def __init__(self, domain: str, address: str, trust: ssl.SSLContext, path: str) -> None:
        trust.set_alpn_protocols(["h2"])
        plain = socket.create_connection((address, 443), 60)
        self._socket = trust.wrap_socket(plain, server_hostname=domain)
        self._raw = self._data = b""
        self.told_to_go = False
        self._open = False
        self._socket.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        self._send(SETTINGS, b"")
        fields = {
            ":method": "CONNECT",
            ":protocol": "websocket",
            ":scheme": "https",
            ":path": path,
            ":authority": domain,
            "origin": f"https://{domain}",
            "sec-websocket-version": "13",
        }
        self._send(HEADERS, b"".join(map(_field, fields.items())), flags=END_HEADERS, stream=STREAM)
        while not self._open:
            self._receive()

    def sendall(self, data: bytes) -> None:
        self._send(DATA, data, stream=STREAM)

    def recv(self, size: int) -> bytes:
        while not self._data:
            self._receive()
        taken, self._data = self._data[:size], self._data[size:]
        return taken

    def close(self) -> None:
        self._socket.close()

    def _send(self, kind: int, payload: bytes, flags: int = 0, stream: int = 0) -> None:
        head = struct.pack(">I", len(payload))[1:] + bytes([kind, flags])
        self._socket.sendall(head + struct.pack(">I", stream) + payload)

    def _receive(self) -> None:
        """Deal with one frame."""
        head = self._take(9)
        kind, flags = head[3], head[4]
        payload = self._take(int.from_bytes(head[:3], "big"))
        if kind == DATA and payload:
            self._data += payload
            more = struct.pack(">I", len(payload))
            self._send(WINDOW_UPDATE, more)
            self._send(WINDOW_UPDATE, more, stream=STREAM)
        elif kind == HEADERS:
            if payload[0] != STATUS_200:
                raise ConnectionError(f"no websocket over HTTP/2: {payload!r}")
            self._open = True
        elif kind in (SETTINGS, PING) and not flags & ACK:
            self._send(kind, payload if kind == PING else b"", flags=ACK)
        elif kind == GOAWAY:
            self.told_to_go = True
        elif kind == RST_STREAM:
            raise ConnectionError("the stream was reset")

    def _take(self, size: int) -> bytes:
        while len(self._raw) < size:
            data = self._socket.recv(65536)
            if not data:
                raise ConnectionError("the connection was cut")
            self._raw += data
        taken, self._raw = self._raw[:size], self._raw[size:]
        return taken


def _field(field: tuple[str, str]) -> bytes:
    """A header field in the plainest form of RFC 7541, section 6.2.2."""
    name, value = (part.encode() for part in field)
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value
