# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The simulator on the network: routes and bodies in, JSON and event streams out."""

from __future__ import annotations

import functools
import hmac
import json
import socket
import time
from collections.abc import Iterable, Iterator
from typing import Any

from contract.table import contract
from werkzeug.exceptions import ClientDisconnected, HTTPException
from werkzeug.routing import Map, Rule
from werkzeug.wrappers import Request, Response

from . import control
from .call import Answer
from .engine import Engine, Incoming
from .faults import Fault
from .keys import digest

CONTROL = "/_simulator/"
HALF = 2


@functools.cache
def routes() -> Map:
    """Exact paths only: no redirect for a slash too many, no HEAD for every GET."""
    table = contract()
    rules = []
    for name, route in table.routes.items():
        path = f"{table.base}{route.path}".replace("{", "<").replace("}", ">")
        rule = Rule(path, methods=[route.method], endpoint=name)
        assert rule.methods is not None
        rule.methods.discard("HEAD")
        rules.append(rule)
    return Map(rules, strict_slashes=True, merge_slashes=False)


class Application:
    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.base = engine.table.base

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        request = Request(environ)
        if request.path.startswith(CONTROL):
            return self.steer(request)(environ, start_response)
        incoming = self.read(request)
        if isinstance(incoming, Response):
            return incoming(environ, start_response)
        fault = self.engine.take_fault(incoming)
        if fault and fault.delay:
            time.sleep(fault.delay)
        if fault and fault.cut == "before":
            self.engine.cut(incoming)
            drop(environ)
        answer = self.engine.handle(incoming, fault)
        if fault and fault.cut == "after":
            drop(environ)
        broken = environ if fault and fault.cut == "middle" else None
        response = reply(answer, broken, fault)
        return response(environ, start_response)

    def read(self, request: Request) -> Incoming | Response:
        path = request.path.removeprefix(self.base)
        name, values = self.match(request)
        body: Any = None
        try:
            data = request.get_data()
        except ClientDisconnected as gone:
            # Whoever asks was killed in the middle of it, which is nobody's fault here.
            raise ConnectionAbortedError from gone
        if data:
            try:
                body = json.loads(data, parse_constant=not_json)
            except ValueError:
                self.engine.violation(f"{request.method} {path}", "the body is not JSON")
                return error(400, "The body is not valid JSON")
        kind, _ignored, secret = request.headers.get("Authorization", "").partition(" ")
        return Incoming(
            method=request.method,
            path=path,
            route=self.engine.table.routes[name] if name else None,
            values=values,
            query=request.args.to_dict(),
            body=body,
            secret=secret.strip() if kind.lower() == "bearer" and secret.strip() else None,
        )

    def match(self, request: Request) -> tuple[str | None, dict[str, str]]:
        adapter = routes().bind("simulator")
        try:
            endpoint, values = adapter.match(request.path, request.method)
        except HTTPException:
            return None, {}
        return str(endpoint), dict(values)

    # --- control ----------------------------------------------------------------------------

    def steer(self, request: Request) -> Response:
        if not self.is_manager(request):
            return error(401, "The control API wants the management key as bearer")
        name = request.path.removeprefix(CONTROL)
        try:
            if request.method == "GET":
                return as_json(200, control.look(self.engine, name))
            arguments = json.loads(request.get_data() or b"{}")
            return as_json(200, control.run(self.engine, name, arguments))
        except ValueError as problem:
            return error(400, str(problem))

    def is_manager(self, request: Request) -> bool:
        secret = request.headers.get("Authorization", "").removeprefix("Bearer ")
        hashes = self.engine.state.management_hashes
        return any(hmac.compare_digest(digest(secret), known) for known in hashes)


def not_json(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def reply(answer: Answer, broken: dict[str, Any] | None, fault: Fault | None) -> Response:
    """`broken`: the environment of a request whose answer is to end in the middle."""
    if answer.events is None:
        response = as_json(answer.status, answer.body)
        if broken is not None:
            data = response.get_data()
            response.response = interrupted([data[: len(data) // HALF]], broken)
    else:
        lines = list(stream(answer.events))
        chunks = interrupted(lines[: len(lines) // HALF], broken) if broken else iter(lines)
        response = Response(paced(chunks, fault), content_type="text/event-stream")
    response.headers.extend(answer.headers)
    return response


def stream(events: list[dict[str, Any]]) -> Iterator[bytes]:
    yield b": OPENROUTER PROCESSING\n\n"
    for event in events:
        yield f"data: {json.dumps(event)}\n\n".encode()
    yield b"data: [DONE]\n\n"


def paced(chunks: Iterator[bytes], fault: Fault | None) -> Iterator[bytes]:
    """The pace is looked up each time, so that a test can let a stream go on at once."""
    for number, chunk in enumerate(chunks):
        if number and fault:
            time.sleep(fault.pace)
        yield chunk


def interrupted(chunks: list[bytes], environ: dict[str, Any]) -> Iterator[bytes]:
    yield from chunks
    drop(environ)


def drop(environ: dict[str, Any]) -> None:
    """Close the connection under the client's feet."""
    environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
    raise ConnectionAbortedError("cut on demand")


def as_json(status: int, body: dict[str, Any]) -> Response:
    return Response(json.dumps(body), status=status, content_type="application/json")


def error(status: int, message: str) -> Response:
    return as_json(status, {"error": {"code": status, "message": message}})
