# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A program that stands for an instance: it answers chats, also word by word, and counts them.

It ends like Open WebUI: what it has begun to answer, it answers.
"""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

LOG = Path("/root/chats")
LOCK = threading.Lock()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_words: object) -> None:
        pass

    def answer(self, body: object) -> None:
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self) -> None:
        said = self.headers["X-Forwarded-For"]
        self.answer({"version": "1", "from": said, "peer": self.client_address[1]})

    def do_POST(self) -> None:
        if "Content-Length" not in self.headers:
            self.answer({"size": sum(self.chunks())})
            return
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        said = body["messages"][-1]["content"]
        with LOCK, LOG.open("a") as log:
            log.write(f"{said}\n")
        time.sleep(0.05)
        if body.get("stream"):
            self.stream(said)
        else:
            self.answer({"said": said})

    def chunks(self) -> Iterator[int]:
        """The sizes of the request's chunks."""
        while size := int(self.rfile.readline(), 16):
            yield len(self.rfile.read(size + 2)) - 2
        self.rfile.readline()

    def stream(self, said: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for word in [*said.split(), "[DONE]"]:
            line = f"data: {word}\n\n".encode()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
            time.sleep(0.2)
        self.wfile.write(b"0\r\n\r\n")


class Server(ThreadingHTTPServer):
    daemon_threads = False
    request_queue_size = 128


server = Server(("127.0.0.1", 18001), Handler)
signal.signal(
    signal.SIGTERM, lambda *_args: threading.Thread(target=server.shutdown, daemon=True).start()
)
server.serve_forever()
server.server_close()
