# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Clients that are as plain as can be: tests speak to the simulator as any program would."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import requests

from .simulator import Controls

HELLO = [{"role": "user", "content": "hello"}]


@dataclass
class Client:
    """Requests with one key. Every answer is parsed; a status is asked for by name."""

    url: str
    secret: str | None

    def send(self, method: str, path: str, body: Any = None, **query: Any) -> requests.Response:
        headers = {} if self.secret is None else {"Authorization": f"Bearer {self.secret}"}
        return requests.request(
            method, f"{self.url}{path}", json=body, params=query, headers=headers, timeout=10
        )

    def get(self, path: str, **query: Any) -> Any:
        return self.expect(200, "GET", path, **query)

    def expect(self, status: int, method: str, path: str, body: Any = None, **query: Any) -> Any:
        answer = self.send(method, path, body, **query)
        assert answer.status_code == status, answer.text
        return answer.json()

    def chat(self, model: str, **fields: Any) -> Any:
        return self.refused(200, model, **fields)

    def refused(self, status: int, model: str, **fields: Any) -> Any:
        body = {"model": model, "messages": HELLO, **fields}
        return self.expect(status, "POST", "/chat/completions", body)


@dataclass
class Account:
    """The management side of a simulator."""

    simulator: Controls
    manager: Client

    def key(self, name: str = "client", **fields: Any) -> tuple[str, Client]:
        """The hash of a new key, and a client that uses it."""
        answer = self.manager.expect(201, "POST", "/keys", {"name": name, **fields})
        return answer["data"]["hash"], Client(self.simulator.url, answer["key"])

    def change(self, key_hash: str, **fields: Any) -> Any:
        return self.manager.expect(200, "PATCH", f"/keys/{key_hash}", fields)["data"]

    def guardrail(self, *models: str, name: str = "fence", **fields: Any) -> Any:
        body = {"name": name, "allowed_models": list(models) or None, **fields}
        return self.manager.expect(201, "POST", "/guardrails", body)["data"]

    def assign(self, guardrail: str, *hashes: str) -> int:
        path = f"/guardrails/{guardrail}/assignments/keys"
        answer = self.manager.expect(200, "POST", path, {"key_hashes": list(hashes)})
        return int(answer["assigned_count"])

    def fenced(self, *models: str, **fields: Any) -> tuple[str, Client]:
        """A key with a guardrail of its own."""
        key_hash, client = self.key(**fields)
        self.assign(self.guardrail(*models)["id"], key_hash)
        return key_hash, client
