# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the mai.fleet collection
"""The containers of the clients of one server: desired state against one list of containers.

Our digest label decides whether a container is made anew, not Compose's hash, which also changes
with values that a running instance does not read again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from ansible_collections.mai.fleet.plugins.module_utils._api.docker import (
    CLIENT,
    DATA,
    DIGEST,
    FLEET,
    Compose,
    Container,
    Docker,
    Mounting,
    Network,
    explain,
    silent,
)
from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError, Unreachable
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.bulk import for_each
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.files import read_env
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.gate import held
from ansible_collections.mai.fleet.plugins.module_utils._redaction import Redactor, secret_values
from ansible_collections.mai.fleet.plugins.module_utils._rows import Row
from ansible_collections.mai.fleet.plugins.module_utils._transport.loopback import Loopback

_LOG_LINES = 20
_LINE_LENGTH = 300
# A container that came back this often since it was started will not get ready.
_HOPELESS_RESTARTS = 3
# What compose.yml allows an instance for stopping, in seconds.
_STOP_GRACE = 70


class Action(Enum):
    """What brings a client's container into its desired state."""

    NOTHING = "nothing"
    WAIT = "wait"
    UP = "up"
    RECREATE = "recreate"
    START = "start"
    UNPAUSE = "unpause"
    RESTART = "restart"
    DOWN = "down"


_COMPOSED = (Action.UP, Action.RECREATE)


@dataclass(frozen=True)
class Wanted:
    """What a client's container shall be. Without ``present``, only ``name`` matters.

    :param subnet: of the project's own network; empty if it does not matter
    :param volume: one that was there before, and that no other container may use
    :param replaces: id of the container that has used it until now, and gives way
    """

    name: str
    present: bool
    digest: str = ""
    image: str = ""
    port: int = 0
    subnet: str = ""
    volume: str = ""
    replaces: str = ""


@dataclass(frozen=True)
class Settings:
    """What holds for all clients of the call.

    :param pool: how many instances may be made or started at the same time
    :param timeout: seconds that one of them may take until it is ready
    """

    directory: Path
    docker_host: str
    fleet: str
    secret_names: Collection[str]
    pool: int
    timeout: float
    check: bool


class _Watch:
    """The list of containers, shared by all who wait, and read at most once a second."""

    def __init__(self, docker: Docker) -> None:
        self._docker = docker
        self._lock = threading.Lock()
        self._taken = 0.0
        self._containers: list[Container] = []

    def container(self, project: str, since: float) -> Container | None:
        """The container of a project as it was at ``since`` (monotonic) or later."""
        with self._lock:
            now = time.monotonic()
            if self._taken < max(since, now - 1):
                self._containers = self._docker.containers()
                self._taken = now
            found = [item for item in self._containers if _is_instance(item, project)]
        return found[0] if found else None


class Reconciler:
    """One call: reads the server once, decides for all clients, then acts in a bounded pool.

    :raises FleetError: Docker does not answer (other than in check mode)
    """

    def __init__(self, settings: Settings) -> None:
        if settings.pool < 1:
            raise FleetError(f"expected a number from 1, got {settings.pool}", "option pool")
        self._settings = settings
        self._docker = Docker(settings.docker_host)
        self._compose = Compose(settings.docker_host, settings.directory)
        self._watch = _Watch(self._docker)
        self._images: dict[str, str | None] = {}
        self._containers: list[Container] = []
        self._networks: list[Network] = []
        self._users: list[Mounting] = []
        self.warnings: list[str] = []
        try:
            self._containers = self._docker.containers()
            self._networks = self._docker.networks()
        except Unreachable as error:
            if not settings.check:
                raise silent(settings.docker_host, error) from error
            self.warnings.append("Docker does not answer: taken for a server without containers")

    def unlisted(self, known: Collection[str]) -> list[str]:
        """Clients of this fleet that have a container here and are not among ``known``."""
        ours = {
            item.labels.get(CLIENT, "")
            for item in self._containers
            if item.labels.get(FLEET) == self._settings.fleet
        }
        return sorted(ours - {""} - set(known))

    def run(self, clients: Sequence[Wanted]) -> dict[str, Row]:
        """Make the containers match. A client that fails does not keep others from it."""
        rows = {client.name: Row() for client in clients}
        if any(client.volume for client in clients):
            self._users = self._docker.mounting(DATA)
        todo = []
        for client in clients:
            row = rows[client.name]
            try:
                action = self._plan(client, row)
                if action is not Action.NOTHING:
                    todo.append((client, action))
            except FleetError as error:
                row.error = error
        if not self._settings.check:
            self._act_on_all(todo, rows)
        for name, row in rows.items():
            row.diff = _diff(name, row)
        return rows

    # Deciding.

    def _plan(self, client: Wanted, row: Row) -> Action:
        row.before = row.after = self._state(self._found(client.name))
        action = self._decide(client)
        row.changed = action not in (Action.NOTHING, Action.WAIT)
        if row.changed:
            row.after = self._expected(client)
        return action

    def _decide(self, client: Wanted) -> Action:
        """:raises FleetError: it cannot be done, or must not"""
        self._refuse_second_user(client)
        marks = self._marks(client.name, client.replaces)
        ours = self._settings.fleet in marks
        if not client.present and not ours:
            return Action.NOTHING
        # Parts without a mark, in a project of ours, are what an operator added to it.
        strangers = marks - {self._settings.fleet, None} if ours else marks
        if strangers:
            fleet = strangers.pop()
            raise FleetError(
                "a Compose project with this client's name "
                + (f"belongs to the fleet {fleet}" if fleet else "is not of this fleet"),
                f"docker compose --project-name {client.name} ps --all",
                "remove it, or give the client another name",
            )
        if not client.present:
            return Action.DOWN
        found = self._found(client.name)
        image = self._image_id(client.image)
        if (
            found is not None
            and found.labels.get(DIGEST) == client.digest
            and image in found.image_ids
        ):
            action = self._revive(client, found)
        else:
            action = Action.UP
        if action is Action.UP and image is None and not self._settings.check:
            raise FleetError(
                f"the image {client.image} is not on this server",
                self._settings.docker_host,
                "run the image step first",
            )
        return action

    def _marks(self, project: str, replaces: str) -> set[str | None]:
        """The fleets that the parts of a Compose project belong to; empty without a project.

        :param replaces: a container that gives way, with the networks of its project
        """
        parts: list[Container | Network] = [*self._containers, *self._networks]
        if any(item.id == replaces and item.project == project for item in self._containers):
            parts = [item for item in self._containers if item.id != replaces]
        return {part.labels.get(FLEET) for part in parts if part.project == project}

    def _refuse_second_user(self, client: Wanted) -> None:
        """Two instances on one database would ruin it.

        :raises FleetError: another container uses the client's volume
        """
        for user in self._users:
            mine = (user.labels.get(FLEET), user.labels.get(CLIENT))
            if not client.volume or user.volume != client.volume or user.id == client.replaces:
                continue
            if mine != (self._settings.fleet, client.name):
                raise FleetError(
                    f"the container {user.name} uses the client's volume {client.volume}",
                    self._settings.docker_host,
                    "to let the client's own container take its place: "
                    f"mai.fleet.adopt -e fleet_select={client.name} -e fleet_adopt_recreate=true",
                )

    def _revive(self, client: Wanted, found: Container) -> Action:
        """What a container needs that is the right one."""
        if found.state == "running":
            if found.health == "healthy":
                return Action.NOTHING
            if found.health != "unhealthy" or self._ready(client)[0]:
                return Action.WAIT
            return Action.RESTART
        if not found.network_ids <= {network.id for network in self._networks}:
            # It cannot start without, and Compose would only make the network.
            return Action.RECREATE
        actions = {
            "created": Action.START,
            "exited": Action.START,
            "paused": Action.UNPAUSE,
            "restarting": Action.RESTART,
        }
        return actions.get(found.state, Action.RECREATE)

    def _found(self, name: str) -> Container | None:
        """The one container of an instance; more than one is as good as none."""
        found = [item for item in self._containers if _is_instance(item, name)]
        return found[0] if len(found) == 1 else None

    def _image_id(self, reference: str) -> str | None:
        if reference not in self._images:
            try:
                self._images[reference] = self._docker.image_id(reference)
            except Unreachable:
                self._images[reference] = None
        return self._images[reference]

    # Reporting.

    def _state(self, container: Container | None) -> dict[str, Any]:
        if container is None:
            return {"container": "absent", "digest": None, "image": None, "started_at": None}
        unhealthy = container.state == "running" and container.health == "unhealthy"
        started = self._docker.inspect(container.id)["State"]["StartedAt"]
        return {
            "container": "unhealthy" if unhealthy else container.state,
            "digest": container.labels.get(DIGEST),
            "image": container.image,
            "started_at": started,
        }

    def _expected(self, client: Wanted) -> dict[str, Any]:
        if not client.present:
            return self._state(None)
        return {
            "container": "running",
            "digest": client.digest,
            "image": client.image,
            "started_at": None,
        }

    # Acting.

    def _act_on_all(self, todo: Sequence[tuple[Wanted, Action]], rows: dict[str, Row]) -> None:
        actions = {client.name: (client, action) for client, action in todo}
        compose: FleetError | None = None
        try:
            if any(action in _COMPOSED for _client, action in todo):
                self._compose.require()
        except FleetError as error:
            compose = error

        def act(name: str) -> Row:
            client, action = actions[name]
            row = rows[name]
            if compose is not None and action in _COMPOSED:
                row.error, row.changed, row.after = compose, False, row.before
            else:
                self._act(client, action, row)
            return row

        rows.update(for_each(list(actions), self._settings.pool, act))

    def _act(self, client: Wanted, action: Action, row: Row) -> None:
        try:
            with self._held(client, action):
                self._apply(client, action)
                if client.present:
                    self._await_ready(client, row)
        except FleetError as error:
            row.error = error
        if action is Action.WAIT:
            return
        try:
            row.after = self._state(self._watch.container(client.name, time.monotonic()))
        except FleetError as error:
            row.error = row.error or error
        row.changed = row.before != row.after

    def _held(self, client: Wanted, action: Action) -> AbstractContextManager[None]:
        """Requests wait for an instance that is about to come back."""
        if action in (Action.WAIT, Action.DOWN):
            return nullcontext()
        return held(client.name, self._settings.timeout + _STOP_GRACE)

    def _apply(self, client: Wanted, action: Action) -> None:
        found = self._found(client.name)
        if action is Action.DOWN:
            self._down(client.name)
        elif action in (Action.UP, Action.RECREATE) or found is None:
            self._give_way(client)
            self._up(client, recreate=action is Action.RECREATE)
        elif action is Action.START:
            self._docker.start(found.id)
        elif action is Action.UNPAUSE:
            self._docker.unpause(found.id)
        elif action is Action.RESTART:
            self._docker.restart(found.id)

    def _give_way(self, client: Wanted) -> None:
        """Remove the container that has been the client's instance until now; its volume stays."""
        if not any(user.id == client.replaces for user in self._users):
            return
        self._docker.remove_container(client.replaces)
        left = [item for item in self._containers if item.id != client.replaces]
        if any(item.project == client.name for item in left):
            return
        for network in self._networks:
            if network.project == client.name:
                self._docker.remove_network(network.id)

    def _up(self, client: Wanted, recreate: bool) -> None:
        if any(
            network.name == f"{client.name}_default" and client.subnet not in network.subnets
            for network in self._networks
            if client.subnet
        ):
            # Compose 2.26 keeps a network whose subnet changed, and does not say so.
            self._down(client.name)
        done = self._compose.up(client.name, recreate=recreate)
        if done.returncode == 0:
            return
        redactor = self._redactor(client.name)
        message = "its output is not shown, because .env is not understood"
        if redactor is not None:
            lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
            message = redactor.text("; ".join(lines[-3:]))
        what, todo = explain(message)
        raise FleetError(
            what,
            f"docker compose --project-name {client.name} up",
            todo or f"see {self._settings.directory / client.name}/compose.yml",
        )

    def _down(self, name: str) -> None:
        """Remove containers and networks; volumes stay."""
        for container in self._containers:
            if container.project == name:
                self._docker.remove_container(container.id)
        for network in self._networks:
            if network.project == name:
                self._docker.remove_network(network.id)

    # Waiting.

    def _await_ready(self, client: Wanted, row: Row) -> None:
        """Wait until the instance answers that it is ready.

        Docker's own check is a slow watch: it may notice minutes later.
        """
        begin = time.monotonic()
        while True:
            ready, seen = self._ready(client)
            container = self._watch.container(client.name, begin)
            if container is None or container.labels.get(DIGEST) != client.digest:
                raise FleetError(
                    "no container has the labels mai.fleet.client and mai.fleet.boot of the client",
                    f"{self._settings.directory / client.name}/compose.yml",
                    "keep these labels in a template of your own; else run again",
                )
            if ready and container.state == "running":
                return
            inspected = self._docker.inspect(container.id)
            reason = _hopeless(inspected)
            if not reason and time.monotonic() - begin > self._settings.timeout:
                reason = f"not ready within {self._settings.timeout:g} s"
            if reason:
                raise self._not_ready(client, inspected, f"{reason}; {seen}", row)
            time.sleep(0.5)

    def _ready(self, client: Wanted) -> tuple[bool, str]:
        """Whether the instance is ready, and what it answered."""
        url = f"http://127.0.0.1:{client.port}"
        try:
            status = Loopback(url, timeout=5).request("GET", "/ready").status
        except Unreachable as error:
            return False, str(error)
        return status == 200, f"GET {url}/ready: status {status}"

    def _not_ready(
        self, client: Wanted, inspected: dict[str, Any], why: str, row: Row
    ) -> FleetError:
        """The error, with what there is to learn about the cause; the log goes to the row."""
        redactor = self._redactor(client.name)
        state = inspected["State"]
        details = [why, f"its state is {state['Status']}"]
        if not state["Running"] or state["Restarting"]:
            details.append(f"its last exit code is {state['ExitCode']}")
        if state.get("OOMKilled"):
            details.append("it ran out of memory")
        checks = (state.get("Health") or {}).get("Log") or []
        log: list[str] = []
        if redactor is not None:
            if checks:
                output = _cut(redactor.text(" ".join(checks[-1]["Output"].split())))
                details.append(
                    f"its last health check ended with {checks[-1]['ExitCode']} {output}"
                )
            text = redactor.text(self._docker.logs(inspected["Id"], _LOG_LINES))
            log = [_cut(line) for line in text.splitlines() if line.strip()]
            if log:
                details.append(f"its log ends with: {log[-1]}")
        row.more["log"] = log
        name = inspected["Name"].lstrip("/")
        return FleetError("; ".join(details), f"container {name}", f"see `docker logs {name}`")

    def _redactor(self, name: str) -> Redactor | None:
        """What hides the client's secrets, None if nobody knows them."""
        try:
            env = read_env(self._settings.directory, name)
        except FleetError:
            return None
        return None if env is None else Redactor(secret_values(env, self._settings.secret_names))


def _is_instance(container: Container, project: str) -> bool:
    """Whether it is the instance of the project, and not something that an operator added."""
    return container.project == project and container.labels.get(CLIENT) == project


def _hopeless(inspected: dict[str, Any]) -> str:
    """Why there is nothing to wait for, empty as long as there is."""
    state = inspected["State"]
    if state["Status"] in ("exited", "dead"):
        return "its container stopped"
    # Between two attempts, when the exit code of the last one can be seen.
    if state["Restarting"] and inspected["RestartCount"] >= _HOPELESS_RESTARTS:
        return f"its container stopped {inspected['RestartCount'] + 1} times"
    return ""


def _cut(line: str) -> str:
    return line if len(line) <= _LINE_LENGTH else line[: _LINE_LENGTH - 1] + "…"


def _diff(name: str, row: Row) -> list[dict[str, str]]:
    if not row.changed:
        return []
    before, after = (
        "".join(f"{key}: {value}\n" for key, value in side.items() if key != "started_at")
        for side in (row.before, row.after)
    )
    header = f"container of {name}"
    return [{"before_header": header, "after_header": header, "before": before, "after": after}]
