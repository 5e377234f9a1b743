# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The simulator as tests hold it: in this process, or in another one that is already running."""

from __future__ import annotations

import json
import os
from abc import ABC, abstractmethod
from contextlib import closing
from http import HTTPStatus
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from . import control, keys
from .engine import Engine, Request
from .serving import Served
from .web import Application

TIMEOUT = 10


class Controls(ABC):
    """What can be done to a simulator and seen of it. Money in USD, models by id."""

    url: str
    """Base of the API, with /api/v1: what a client takes as its endpoint."""
    management_key: str

    @abstractmethod
    def _run(self, command: str, **arguments: Any) -> dict[str, Any]: ...

    @abstractmethod
    def _look(self, view: str) -> dict[str, Any]: ...

    def fault(self, **rule: Any) -> None:
        """Let the next matching requests go wrong; the fields of faults.Fault."""
        self._run("fault", **rule)

    def clear_faults(self) -> None:
        self._run("clear_faults")

    def clear_log(self) -> None:
        self._run("clear_log")

    def reset(self) -> None:
        self._run("reset")

    def advance(self, *, days: float = 0, hours: float = 0, seconds: float = 0) -> None:
        self._run("advance", days=days, hours=hours, seconds=seconds)

    def configure(self, **settings: Any) -> None:
        """Change how it behaves; the fields of state.Settings."""
        self._run("settings", **settings)

    def expire_model(self, model: str) -> None:
        self._run("expire_model", model=model)

    def restore_model(self, model: str) -> None:
        self._run("restore_model", model=model)

    def set_expiration(self, model: str, date: str | None) -> None:
        self._run("set_expiration", model=model, date=date)

    def add_model(self, model: str, *, like: str, **changes: Any) -> None:
        self._run("add_model", model=model, like=like, **changes)

    def set_credit(self, total_credits: float) -> None:
        self._run("set_credit", total_credits=total_credits)

    def set_usage(self, key: str, usage: float, byok: float = 0) -> None:
        """`key`: its hash or its name."""
        self._run("set_usage", key=key, usage=usage, byok=byok)

    def add_workspace(self, name: str, slug: str) -> str:
        return str(self._run("add_workspace", name=name, slug=slug)["id"])

    @property
    def state(self) -> dict[str, Any]:
        return self._look("state")

    @property
    def keys(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self._look("keys")["keys"]
        return rows

    @property
    def guardrails(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self._look("guardrails")["guardrails"]
        return rows

    @property
    def faults(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self._look("faults")["faults"]
        return rows

    @property
    def requests(self) -> list[Request]:
        return [Request(**row) for row in self._look("requests")["requests"]]

    @property
    def violations(self) -> list[str]:
        lines: list[str] = self._look("violations")["violations"]
        return lines

    def count(self, method: str, path: str) -> int:
        """How many requests went to exactly this path below /api/v1."""
        return sum((row.method, row.path) == (method, path) for row in self.requests)


class Simulator(Served, Controls):
    """In this process: `with Simulator() as simulator: ...`, or start() and stop().

    With a state file it goes on where the last one with that file stopped.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        state_file: Path | None = None,
        catalog_file: Path | None = None,
        management_key: str | None = None,
    ) -> None:
        self.engine = Engine(state_file, catalog_file)
        super().__init__(Application(self.engine), host, port)
        self.management_key = management_key or keys.new_secret()
        self.engine.state.management_hashes = [keys.digest(self.management_key)]
        self.engine.save()

    @property
    def url(self) -> str:  # type: ignore[override]
        return f"{self.origin}{self.engine.table.base}"

    def _run(self, command: str, **arguments: Any) -> dict[str, Any]:
        return control.run(self.engine, command, arguments)

    def _look(self, view: str) -> dict[str, Any]:
        return control.look(self.engine, view)


class RemoteSimulator(Controls):
    """One that runs elsewhere, e.g. as `python -m simulator`, through its control API."""

    def __init__(self, url: str, management_key: str) -> None:
        self.url = url.rstrip("/")
        self.management_key = management_key

    def _run(self, command: str, **arguments: Any) -> dict[str, Any]:
        return self._ask(command, arguments)

    def _look(self, view: str) -> dict[str, Any]:
        return self._ask(view, None)

    def _ask(self, name: str, arguments: dict[str, Any] | None) -> dict[str, Any]:
        address = urlsplit(self.url)
        assert address.hostname
        method, body = ("GET", None) if arguments is None else ("POST", json.dumps(arguments))
        headers = {"Authorization": f"Bearer {self.management_key}"}
        # http.client goes past every proxy: the simulator is never behind one.
        with closing(HTTPConnection(address.hostname, address.port, timeout=TIMEOUT)) as connection:
            connection.request(method, f"/_simulator/{name}", body, headers)
            answer = connection.getresponse()
            result: dict[str, Any] = json.load(answer)
        if answer.status != HTTPStatus.OK:
            raise control.CommandError(result["error"]["message"])
        return result


def read_or_make_key(path: Path) -> str:
    """The management key in a file (0600); a new one is written where there is none."""
    if path.exists():
        return path.read_text(encoding="ascii").strip()
    secret = keys.new_secret()
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
        stream.write(f"{secret}\n")
    return secret
