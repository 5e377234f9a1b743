# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the real Docker cannot show: how often it is asked, and what other engines answer.

The answers below are Docker 20.10's, cut to the fields that matter. Everything else is in
tests/integration/test_containers.py.
"""

from __future__ import annotations

import http.server
import json
import os
import re
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mai.fleet.plugins.module_utils._api.docker import (
    Docker,
    explain,
    split_reference,
)
from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError
from ansible_collections.mai.fleet.plugins.modules import instance_containers

IMAGE = "example/webui:1"
IMAGE_ID = "sha256:aaaa"


class Engine:
    """A Docker Engine on a socket that has ``containers`` and says what it was asked."""

    def __init__(self, path: Path) -> None:
        self.host = f"unix://{path}"
        self.containers: list[dict[str, Any]] = []
        self.asked: list[str] = []
        engine = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                engine.asked.append(f"{self.command} {self.path.partition('?')[0]}")
                status, body = engine.answer(self.path)
                content = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_POST = do_GET

            def log_message(self, *args: Any) -> None:
                pass

        class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
            daemon_threads = True

        self.server = Server(str(path), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, path: str) -> tuple[int, Any]:
        if path.startswith("/containers/json?"):
            return 200, self.containers
        if path == "/networks":
            return 200, [
                {"Id": "n1", "Name": "a", "Labels": {}, "IPAM": {"Config": [{"Subnet": "::/64"}]}},
                {"Id": "n2", "Name": "host", "Labels": None, "IPAM": {"Config": None}},
            ]
        if path == "/images/example/webui%3A1/json":
            return 200, {"Id": IMAGE_ID}
        if re.fullmatch(r"/containers/[^/]+/json", path):
            return 200, {"State": {"StartedAt": "2026-01-31T12:00:00Z"}}
        return 404, {"message": f"No such thing: {path}"}

    def add(self, name: str, **changes: Any) -> None:
        labels = {
            "com.docker.compose.project": name,
            "com.docker.compose.image": IMAGE_ID,
            "mai.fleet.client": name,
            "mai.fleet.fleet": "f",
            "mai.fleet.boot": "one",
        }
        container = {
            "Id": f"id-{name}",
            "Image": IMAGE,
            "ImageID": IMAGE_ID,
            "Labels": labels,
            "State": "running",
            "Status": "Up 3 hours (healthy)",
            "NetworkSettings": {"Networks": {"default": {"NetworkID": "n1"}}},
        }
        labels.update(changes.pop("labels", {}))
        self.containers.append({**container, **changes})


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = Engine(tmp_path / "docker.sock")
    yield engine
    engine.server.shutdown()
    engine.server.server_close()


def options(host: str, *names: str) -> dict[str, Any]:
    clients = [{"name": name, "digest": "one", "image": IMAGE, "port": 1} for name in names]
    return {"docker_host": host, "fleet": "f", "clients": clients}


def test_clients_that_run_well_cost_no_more_than_a_look(engine: Engine, run_module: Any) -> None:
    names = [f"c{number}" for number in range(10)]
    for name in names:
        engine.add(name)
    result = run_module("instance_containers", options(engine.host, *names))
    assert result["changed"] is False
    assert sorted(engine.asked) == sorted(
        [
            "GET /containers/json",
            "GET /networks",
            "GET /images/example/webui%3A1/json",
            *(f"GET /containers/id-{name}/json" for name in names),
        ]
    )


@pytest.mark.parametrize(
    ("changes", "changed"),
    [
        ({}, False),
        # An engine whose containers name the image in another way than the image names itself.
        ({"ImageID": "sha256:bbbb"}, False),
        ({"ImageID": "sha256:bbbb", "labels": {"com.docker.compose.image": "sha256:bbbb"}}, True),
        ({"labels": {"mai.fleet.boot": "two"}}, True),
        ({"Status": "Up 3 seconds (health: starting)"}, False),
        ({"Status": "Up 3 hours"}, False),
        ({"Status": "Up 3 hours (unhealthy)"}, True),
        ({"State": "exited", "Status": "Exited (0) 3 hours ago"}, True),
        ({"State": "created", "Status": "Created"}, True),
        ({"State": "paused", "Status": "Up 3 hours (Paused)"}, True),
        ({"State": "restarting", "Status": "Restarting (1) 3 seconds ago"}, True),
        ({"State": "dead", "Status": "Dead"}, True),
    ],
)
def test_what_makes_a_difference(
    engine: Engine, run_module: Any, changes: dict[str, Any], changed: bool
) -> None:
    engine.add("acme", **changes)
    result = run_module("instance_containers", options(engine.host, "acme"), check=True)
    assert result["clients"]["acme"]["changed"] is changed


def test_two_containers_of_a_client_are_one_too_many(engine: Engine, run_module: Any) -> None:
    engine.add("acme")
    engine.add("acme")
    result = run_module("instance_containers", options(engine.host, "acme"), check=True)
    assert result["clients"]["acme"]["changed"] is True


def test_a_server_without_docker_is_warned_of_in_check_mode(tmp_path: Path) -> None:
    arguments = {**options(f"unix://{tmp_path}/no.sock", "acme"), "_ansible_check_mode": True}
    # A process of its own, as on a server: elsewhere Ansible takes warnings another way.
    done = subprocess.run(
        [sys.executable, instance_containers.__file__],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": arguments}),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    result = json.loads(done.stdout)
    assert result["clients"]["acme"]["changed"] is True
    assert "taken for a server without containers" in json.dumps(result["warnings"])


@pytest.mark.parametrize("host", ["tcp://127.0.0.1:2375", "/var/run/docker.sock"])
def test_only_a_local_docker_is_accepted(run_module: Any, host: str) -> None:
    result = run_module("instance_containers", options(host, "acme"))
    assert result["failure"]["where"] == "option docker_host"


def test_the_pool_needs_room_for_one(engine: Engine, run_module: Any) -> None:
    result = run_module("instance_containers", {**options(engine.host, "acme"), "pool": 0})
    assert result["failure"]["where"] == "option pool"


def test_a_present_client_needs_a_digest(run_module: Any) -> None:
    clients = [{"name": "acme"}]
    result = run_module("instance_containers", {"fleet": "f", "clients": clients})
    assert "state is present but all of the following are missing: digest" in result["msg"]


def test_what_docker_refuses_names_the_request(engine: Engine) -> None:
    with pytest.raises(FleetError) as error:
        Docker(engine.host).start("gone")
    assert error.value.failure() == {
        "what": "No such thing: /containers/gone/start",
        "where": f"POST {engine.host}/containers/gone/start",
        "todo": "",
    }


@pytest.mark.parametrize(
    ("message", "meaning"),
    [
        # Docker 20.10 and 28, Compose 2.26.
        (
            "Bind for 127.0.0.1:18900 failed: port is already allocated",
            "its port on 127.0.0.1 is taken by something else",
        ),
        (
            "Error starting userland proxy: listen tcp4 127.0.0.1:1: bind: address already in use",
            "its port on 127.0.0.1 is taken by something else",
        ),
        (
            "failed to bind host port for 127.0.0.1:1:172.17.0.2:1/tcp: address already in use",
            "its port on 127.0.0.1 is taken by something else",
        ),
        (
            "failed to create network a_default: Error response from daemon: Pool overlaps with "
            "other one on this address space",
            "its subnet overlaps with another network of this server",
        ),
        (
            "invalid pool request: Pool overlaps with other one on this address space",
            "its subnet overlaps with another network of this server",
        ),
        ("write /var/lib/docker/x: no space left on device", "the disk is full"),
    ],
)
def test_says_what_docker_means_and_what_to_do(message: str, meaning: str) -> None:
    what, todo = explain(message)
    assert what == f"{meaning}: {message}"
    assert todo


def test_says_what_it_does_not_know_as_it_is() -> None:
    assert explain("something new") == ("something new", "")


@pytest.mark.parametrize(
    ("reference", "name", "tag"),
    [
        ("a", "a", "latest"),
        ("a:1", "a", "1"),
        ("host:5000/a", "host:5000/a", "latest"),
        ("host:5000/a/b:1", "host:5000/a/b", "1"),
        ("a@sha256:00", "a", "sha256:00"),
        ("host:5000/a/b:1@sha256:00", "host:5000/a/b", "sha256:00"),
    ],
)
def test_splits_a_reference(reference: str, name: str, tag: str) -> None:
    assert split_reference(reference) == (name, tag)
