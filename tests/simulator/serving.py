# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in on the network, in this process."""

from __future__ import annotations

import sys
import threading
from types import TracebackType
from typing import Any, Self

from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

_POLL = 0.01


class QuietHandler(WSGIRequestHandler):
    """No access log: what was asked is recorded by the stand-in, without secrets."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        pass

    def log(self, _type: str, message: str, *args: Any) -> None:
        print(message % args if args else message, file=sys.stderr)

    def connection_dropped(
        self, error: BaseException, environ: dict[str, Any] | None = None
    ) -> None:
        pass


class Served:
    """Listens from start() to stop(), or in a with statement.

    :param port: 0 for one that is free
    """

    def __init__(self, application: Any, host: str, port: int) -> None:
        self.host = host
        self.port = port
        self._application = application
        self._server: BaseWSGIServer | None = None
        self._thread: threading.Thread | None = None

    @property
    def origin(self) -> str:
        return f"http://{self.host}:{self.port}"

    def start(self) -> Self:
        """Listen; returns when the port answers."""
        self._server = make_server(
            self.host, self.port, self._application, threaded=True, request_handler=QuietHandler
        )
        self.port = self._server.port
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": _POLL}, daemon=True
        )
        self._thread.start()
        return self

    def stop(self) -> None:
        if self._server and self._thread:
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()
        self._server = self._thread = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
