# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The double on the network, in this process: ``with Hetzner() as hetzner: ...``."""

from __future__ import annotations

import json
from typing import Any

from simulator.serving import Served
from werkzeug.wrappers import Request, Response

# Importing them is what makes their routes.
from . import servers, things, zones
from .cloud import Cloud, Fault, Settings
from .shapes import ApiError

__all__ = ["Hetzner", "servers", "things", "zones"]

BASE = "/v1"
TOKEN = "token-of-a-project"


class Application:
    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        request = Request(environ)
        path = request.path.removeprefix(BASE)
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        try:
            body = json.loads(request.get_data() or "null")
        except ValueError:
            answer = ApiError("json_error", "invalid JSON").body()
            return as_json(400, answer, {})(environ, start_response)
        query = request.args.to_dict()
        status, answer, headers = self.cloud.handle(request.method, path, query, body, token)
        return as_json(status, answer, headers)(environ, start_response)


def as_json(status: int, body: dict[str, Any], headers: dict[str, str]) -> Response:
    text = "" if status == 204 else json.dumps(body)
    return Response(text, status=status, content_type="application/json", headers=headers)


class Hetzner(Served):
    """A project, and how to reach it."""

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        token: str = TOKEN,
        settings: Settings | None = None,
    ) -> None:
        self.cloud = Cloud(token, settings)
        super().__init__(Application(self.cloud), host, port)

    @property
    def url(self) -> str:
        return f"{self.origin}{BASE}"

    @property
    def token(self) -> str:
        return self.cloud.token

    def fault(self, code: str, **rule: Any) -> None:
        """Let the next requests that fit fail; the fields of cloud.Fault."""
        self.cloud.faults.append(Fault(code, **rule))

    def rows(self, kind: str) -> dict[str, dict[str, Any]]:
        """What there is of a kind, by name, as the API shows it."""
        with self.cloud.lock:
            self.cloud.settle()
            return {
                row["name"]: self.cloud.show(kind, row) for row in self.cloud.rows[kind].values()
            }

    def records(self, zone: str) -> dict[str, list[str]]:
        """The values of a zone's sets of records, by name and type."""
        with self.cloud.lock:
            self.cloud.settle()
            rrsets = self.cloud.rrsets[self.cloud.get("zones", zone)["id"]]
            return {key: [one["value"] for one in row["records"]] for key, row in rrsets.items()}

    def written(self) -> list[str]:
        """The requests that change something, unlike the empty ones of the module for zones."""
        return [
            f"{one.method} {one.path}"
            for one in self.cloud.seen
            if one.method != "GET" and not (one.method == "PUT" and one.empty)
        ]
