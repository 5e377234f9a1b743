# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The key side of a fleet on a workbench: the real engine and store, a simulated OpenRouter."""

from __future__ import annotations

import dataclasses
import datetime
import re
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ansible.parsing.vault import VaultLib, VaultSecret
from ansible_collections.mai.fleet.plugins.module_utils._api.openrouter import OpenRouter
from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError
from ansible_collections.mai.fleet.plugins.module_utils._fleet.names import KeyName
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.keys import (
    Account,
    Desired,
    Keys,
    reconcile,
)
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.records import Record
from ansible_collections.mai.fleet.plugins.module_utils._transport.controller import Controller
from ansible_collections.mai.fleet.plugins.plugin_utils._store import Store
from simulator.engine import Incoming
from simulator.simulator import Simulator

FLEET = "hosting"
MINI = "openai/gpt-4o-mini"
FLASH = "google/gemini-2.5-flash"
GPT = "openai/gpt-5.4"
#: The same as guardrails store them.
MINI_SLUG = "openai/gpt-4o-mini"
FLASH_SLUG = "google/gemini-2.5-flash"
GPT_SLUG = "openai/gpt-5.4-20260305"
PASSWORD = b"the vault's password"

Row = dict[str, Any]


def vault(*passwords: tuple[str, bytes]) -> VaultLib:
    """What a run holds after ``--vault-id LABEL@FILE`` for each label and password."""
    given = passwords or (("default", PASSWORD),)
    return VaultLib([(label, VaultSecret(password)) for label, password in given])


def files(folder: Path) -> dict[str, bytes]:
    """Every file below a folder with its content, to see that nothing was written."""
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@contextmanager
def full_disk(free: int) -> Iterator[None]:
    """No file can grow beyond ``free`` bytes, as on a disk with no more room."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def desired(client: str = "acme", **changes: Any) -> Desired:
    fields: Row = {
        "organization": f"{client} & Söhne",
        "state": "present",
        "limit": 100.0,
        "limit_reset": "monthly",
        "slugs": [MINI_SLUG, GPT_SLUG],
    }
    return Desired(client=client, **{**fields, **changes})


class Bench:
    """A fleet's store in a folder, and its account at a simulator."""

    def __init__(self, simulator: Simulator, folder: Path) -> None:
        self.simulator = simulator
        self.folder = folder
        self.store = Store(self.directories, vault())

    @property
    def now(self) -> datetime.datetime:
        """The time at OpenRouter."""
        return datetime.datetime.fromtimestamp(self.simulator.state["now"], datetime.UTC)

    @property
    def directories(self) -> dict[str, str]:
        return {name: str(self.folder / name) for name in ("secrets", "state", "journal")}

    def api(self, key: str | None = None) -> OpenRouter:
        http = Controller(self.simulator.url, key or self.simulator.management_key, backoff=0.01)
        return OpenRouter(http)

    def record(self, client: str) -> Record:
        new = Record(client, "server1", f"{client} & Söhne", "mai_client_00000000")
        return self.store.record(client) or new

    def run(
        self, *wanted: Desired, check: bool = False, store: Any = None, fleet: str = FLEET
    ) -> dict[str, Row]:
        """One reconcile of these clients: what a run of the keys stage does."""
        api = self.api()
        keys = Keys(
            api, store or self.store, fleet, Account.read(api, fleet), check, self.now, self.api
        )
        pairs = [(one, self.record(one.client)) for one in wanted]
        return reconcile(keys, pairs, _failed)

    def one(self, wanted: Desired, **options: Any) -> Row:
        """The row of a run for one client, which did not fail."""
        row = self.run(wanted, **options)[wanted.client]
        assert not row.get("failed"), row
        return row

    def failure(self, wanted: Desired, **options: Any) -> dict[str, str]:
        """Why a run for one client failed."""
        row = self.run(wanted, **options)[wanted.client]
        assert row.get("failed"), row
        failure: dict[str, str] = row["failure"]
        return failure

    def quietly(self, method: str, path: str, body: Row | None = None) -> Row:
        """What somebody else does to the account, in a dashboard: fast, and in no log."""
        engine = self.simulator.engine
        route, values = self._route(method, path)
        incoming = Incoming(method, path, route, values, {}, body, self.simulator.management_key)
        answer = engine.answer(route, incoming, engine.caller(incoming.secret))
        return answer.body

    def _route(self, method: str, path: str) -> tuple[Any, dict[str, str]]:
        for route in self.simulator.engine.table.routes.values():
            pattern = re.sub(r"{(\w+)}", r"(?P<\1>[^/]+)", route.path)
            match = re.fullmatch(pattern, path)
            if route.method == method and match and "{" not in path:
                return route, match.groupdict()
        raise LookupError(f"{method} {path}")

    def living(self, client: str = "acme") -> list[Row]:
        """The client's keys at OpenRouter, oldest first."""
        marked = [(KeyName.parse(row["name"]), row) for row in self.simulator.keys]
        return [
            row for name, row in marked if name and (name.fleet, name.client) == (FLEET, client)
        ]

    def key(self, client: str = "acme") -> Row:
        (key,) = self.living(client)
        return key

    def guardrail(self, client: str = "acme") -> Row:
        (found,) = [
            row for row in self.simulator.guardrails if row["name"] == f"mai/{FLEET}/{client}"
        ]
        return found

    def secret(self, client: str = "acme") -> str | None:
        return self.store.secrets(client).get("api_key")

    def writes(self) -> list[str]:
        """The requests so far that were meant to change something."""
        return [
            f"{row.method} {row.path}"
            for row in self.simulator.requests
            if row.method != "GET" and "/chat/" not in row.path
        ]

    @contextmanager
    def watching(self, method: str, path: str, look: Callable[[], None]) -> Iterator[None]:
        """Call ``look`` when the simulator has received such a request and not acted upon it yet.

        The answer stays the simulator's own. Whatever ``look`` raises is raised at the end.
        """
        engine = self.simulator.engine
        handle = engine.handle
        raised: list[BaseException] = []

        def seen(incoming: Incoming, *rest: Any) -> Any:
            if incoming.method == method and re.fullmatch(path, incoming.path):
                try:
                    look()
                except BaseException as error:
                    raised.append(error)
            return handle(incoming, *rest)

        engine.handle = seen  # type: ignore[method-assign, assignment]
        try:
            yield
        finally:
            engine.handle = handle  # type: ignore[method-assign]
        if raised:
            raise raised[0]


def _failed(wanted: Desired, error: FleetError) -> Row:
    return {"changed": False, "failed": True, "failure": error.failure(), "error": error}


def shown(value: Any) -> str:
    """A result as text, however deep things lie, to search it for secrets."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = dataclasses.asdict(value)
    return repr(value)


def exception_texts(error: BaseException | None) -> str:
    """What could be shown of an exception and all that it hangs on: text, arguments, attributes."""
    texts = []
    while error is not None:
        texts += [str(error), repr(error), repr(error.args), repr(vars(error))]
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return "\n".join(texts)
