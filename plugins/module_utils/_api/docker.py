# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the mai.fleet collection
"""Docker on this server: the Engine's API over its socket, and ``docker compose up``.

Paths carry no API version, so that an engine of any age answers with its own.
https://docs.docker.com/reference/api/engine/
"""

from __future__ import annotations

import base64
import contextlib
import errno
import json
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote, urlencode

from ansible_collections.mai.fleet.plugins.module_utils._errors import (
    ApiError,
    FleetError,
    NotFound,
    api_error,
)
from ansible_collections.mai.fleet.plugins.module_utils._transport.loopback import (
    Download,
    Loopback,
    Response,
)

PROJECT = "com.docker.compose.project"
CLIENT = "mai.fleet.client"
FLEET = "mai.fleet.fleet"
DIGEST = "mai.fleet.boot"
#: Where Open WebUI keeps its data.
DATA = "/app/backend/data"

# A pull or a load says something every few seconds; a container may take its whole grace period
# to stop.
_TRANSFER_TIMEOUT = 600.0
_STOP_TIMEOUT = 300.0
_COMPOSE_TIMEOUT = 600.0
_HEALTH = re.compile(r"\((?:health: )?(healthy|unhealthy|starting)\)")

# What Docker and Compose say, what it means, what to do.
_CAUSES = [
    (
        r"port is already allocated|address already in use|ports are not available",
        "its port on 127.0.0.1 is taken by something else",
        "find it with `ss -ltnp`, then stop it or give the client another port",
    ),
    (
        r"[Pp]ool overlaps|overlaps with existing|conflicts with network",
        "its subnet overlaps with another network of this server",
        "find that with `docker network inspect`, then remove it or give the client another subnet",
    ),
    (
        r"[Nn]o space left on device|not enough space",
        "the disk is full",
        "make room where Docker keeps its data (`docker system df`) and run again",
    ),
]


@dataclass(frozen=True)
class Container:
    """A container of a Compose project, as the list of containers shows it."""

    id: str
    labels: dict[str, str]
    image: str
    image_ids: frozenset[str]
    network_ids: frozenset[str]
    state: str
    health: str

    @property
    def project(self) -> str:
        return self.labels[PROJECT]

    @classmethod
    def parse(cls, data: dict[str, Any]) -> Container:
        labels = data["Labels"]
        match = _HEALTH.search(data["Status"])
        return cls(
            id=data["Id"],
            labels=labels,
            image=data["Image"],
            # Compose notes the id that the reference had when it made the container.
            image_ids=frozenset((data["ImageID"], labels.get("com.docker.compose.image", ""))),
            network_ids=frozenset(
                network["NetworkID"] for network in data["NetworkSettings"]["Networks"].values()
            ),
            state=data["State"],
            health=match[1] if match else "",
        )


@dataclass(frozen=True)
class Mounting:
    """A container, of a Compose project or not, and what it mounts at a place.

    :ivar volume: the name of a volume; empty when a directory of the server is mounted
    :ivar source: that directory, or where the volume lies
    """

    id: str
    name: str
    labels: dict[str, str]
    image: str
    state: str
    volume: str
    source: str

    @classmethod
    def parse(cls, data: dict[str, Any], place: str) -> Mounting | None:
        """None for a container that mounts nothing there."""
        for mount in data.get("Mounts") or []:
            if mount["Destination"] == place:
                return cls(
                    id=data["Id"],
                    name=data["Names"][0].lstrip("/"),
                    labels=data["Labels"] or {},
                    image=data["Image"],
                    state=data["State"],
                    volume=mount.get("Name", "") if mount["Type"] == "volume" else "",
                    source=mount["Source"],
                )
        return None


@dataclass(frozen=True)
class Network:
    """A network, of a Compose project or not."""

    id: str
    name: str
    labels: dict[str, str]
    subnets: frozenset[str]

    @property
    def project(self) -> str | None:
        return self.labels.get(PROJECT)

    @classmethod
    def parse(cls, data: dict[str, Any]) -> Network:
        pools = data["IPAM"]["Config"] or []
        return cls(
            id=data["Id"],
            name=data["Name"],
            labels=data["Labels"] or {},
            subnets=frozenset(pool.get("Subnet", "") for pool in pools),
        )


@dataclass(frozen=True)
class Volume:
    """A volume, and the Compose project that made it; empty for none."""

    name: str
    project: str


class Docker:
    """The Engine's API. All methods raise :class:`FleetError` only.

    :param host: ``unix:///PATH`` of the socket
    """

    def __init__(self, host: str) -> None:
        try:
            self._http = Loopback(host, timeout=60.0)
        except ValueError as error:
            raise FleetError(str(error), "option docker_host") from None
        self._host = host

    def containers(self) -> list[Container]:
        """All containers of Compose projects, stopped ones too."""
        query = {"all": "1", "filters": json.dumps({"label": [PROJECT]})}
        return [Container.parse(data) for data in self._get(f"/containers/json?{urlencode(query)}")]

    def mounting(self, place: str) -> list[Mounting]:
        """All containers that mount something at this place, those of no project too."""
        found = [Mounting.parse(data, place) for data in self._get("/containers/json?all=1")]
        return [one for one in found if one is not None]

    def networks(self) -> list[Network]:
        """All networks."""
        return [Network.parse(data) for data in self._get("/networks")]

    def inspect(self, container: str) -> dict[str, Any]:
        """All that the Engine knows of a container, its ``State`` above all."""
        data: dict[str, Any] = self._get(f"/containers/{container}/json")
        return data

    def archive(self, container: str, path: str) -> bytes:
        """A tar archive of a file in a container, which need not run.

        :raises NotFound: there is no such file
        """
        query = urlencode({"path": path})
        return self._call("GET", f"/containers/{container}/archive?{query}").body

    def start(self, container: str) -> None:
        self._call("POST", f"/containers/{container}/start")

    def unpause(self, container: str) -> None:
        self._call("POST", f"/containers/{container}/unpause")

    def restart(self, container: str) -> None:
        """Stop, within the container's own grace period, and start."""
        self._call("POST", f"/containers/{container}/restart", timeout=_STOP_TIMEOUT)

    def stop(self, container: str) -> None:
        """Stop, within the container's own grace period."""
        self._call("POST", f"/containers/{container}/stop", timeout=_STOP_TIMEOUT)

    def remove_container(self, container: str) -> None:
        """Stop, within the container's own grace period, and remove; volumes stay."""
        with contextlib.suppress(NotFound):
            self._call("POST", f"/containers/{container}/stop", timeout=_STOP_TIMEOUT)
            self._call("DELETE", f"/containers/{container}?force=1", timeout=_STOP_TIMEOUT)

    def remove_network(self, network: str) -> None:
        with contextlib.suppress(NotFound):
            self._call("DELETE", f"/networks/{network}")

    def volumes(self) -> list[Volume]:
        """All volumes."""
        found = self._get("/volumes")["Volumes"] or []
        return [Volume(data["Name"], (data["Labels"] or {}).get(PROJECT, "")) for data in found]

    def users(self, volume: str) -> list[str]:
        """The names of the containers that have a volume, stopped ones too."""
        query = urlencode({"all": "1", "filters": json.dumps({"volume": [volume]})})
        return [data["Names"][0].lstrip("/") for data in self._get(f"/containers/json?{query}")]

    def remove_volume(self, volume: str) -> None:
        with contextlib.suppress(NotFound):
            self._call("DELETE", f"/volumes/{quote(volume)}", timeout=_STOP_TIMEOUT)

    @contextlib.contextmanager
    def reader(self, name: str, image: str, volume: str, path: str) -> Iterator[str]:
        """A container that never runs, through which a volume can be read; its id.

        :param name: of the container; one that an earlier run left is removed
        :param path: where the image has a directory for the volume
        """
        with contextlib.suppress(NotFound):
            self._call("DELETE", f"/containers/{name}?force=1&v=1")
        mount = {
            "Type": "volume",
            "Source": volume,
            "Target": path,
            "ReadOnly": True,
            "VolumeOptions": {"NoCopy": True},
        }
        options = {
            "Image": image,
            "Entrypoint": ["true"],
            "HostConfig": {"NetworkMode": "none", "Mounts": [mount]},
        }
        answer = self._call("POST", f"/containers/create?name={name}", json=options)
        container = str(answer.json()["Id"])
        try:
            yield container
        finally:
            self._call("DELETE", f"/containers/{container}?force=1&v=1")

    @contextlib.contextmanager
    def tree(self, container: str, path: str) -> Iterator[Download]:
        """A tar archive, of any size, of what a container has at a path."""
        request = f"/containers/{container}/archive?{urlencode({'path': path})}"
        with self._http.download(request, _TRANSFER_TIMEOUT) as answer:
            if answer.status != 200:
                where = f"GET {self._host}{request}"
                raise _error(answer.status, f"status {answer.status}", where)
            yield answer

    def logs(self, container: str, lines: int) -> str:
        """The last lines of both output streams."""
        query = urlencode({"stdout": "1", "stderr": "1", "tail": str(lines)})
        answer = self._call("GET", f"/containers/{container}/logs?{query}")
        return b"".join(_frames(answer.body)).decode("utf-8", "replace")

    def image_id(self, reference: str) -> str | None:
        """The id of an image, None where the Engine does not have it."""
        try:
            return str(self._get(f"/images/{quote(reference)}/json")["Id"])
        except NotFound:
            return None

    def image_variables(self, image: str) -> list[str]:
        """The names of the environment that an image brings; empty where the image is gone."""
        try:
            found = self._get(f"/images/{quote(image)}/json")
        except NotFound:
            return []
        return [line.partition("=")[0] for line in found["Config"].get("Env") or []]

    def pull(self, reference: str) -> None:
        """Fetch an image from its registry, with the login that this server has there."""
        name, tag = split_reference(reference)
        query = urlencode({"fromImage": name, "tag": tag})
        self._transfer(f"/images/create?{query}", headers=_registry_auth(name))

    def load(self, archive: BinaryIO, size: int) -> list[str]:
        """Take the images of an archive that ``docker save`` wrote, and return their names."""
        headers = {"Content-Type": "application/x-tar", "Content-Length": str(size)}
        said = self._transfer("/images/load?quiet=1", body=archive, headers=headers)
        return re.findall(r"^Loaded image(?: ID)?: (.+)$", said, re.MULTILINE)

    def _transfer(self, path: str, **how: Any) -> str:
        """What the Engine says in the course of a transfer.

        The status is sent before the work is done: an error is in the stream of messages.
        """
        answer = self._call("POST", path, timeout=_TRANSFER_TIMEOUT, **how)
        messages = [json.loads(line) for line in answer.body.splitlines() if line.strip()]
        for message in messages:
            if "error" in message:
                raise _error(answer.status, message["error"], f"POST {self._host}{path}")
        return "".join(message.get("stream", "") for message in messages)

    def _get(self, path: str) -> Any:
        return self._call("GET", path).json()

    def _call(self, method: str, path: str, **how: Any) -> Response:
        answer = self._http.request(method, path, **how)
        # 304: it is in that state already.
        if answer.status < 300 or answer.status == 304:
            return answer
        try:
            message = str(answer.json()["message"])
        except (ValueError, KeyError, TypeError):
            message = f"status {answer.status}"
        raise _error(answer.status, message, f"{method} {self._host}{path}")


class Compose:
    """The ``docker compose`` command, for what the Engine's API does not do.

    :param directory: of all clients
    """

    def __init__(self, host: str, directory: Path) -> None:
        self._directory = directory
        # Nothing else of our environment: Compose would put it into files that say ${NAME}.
        self._environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": os.environ.get("HOME", "/root"),
            "DOCKER_HOST": host,
        }

    def require(self) -> None:
        """:raises FleetError: there is no Compose v2 on this server"""
        done = self._run("version", "--short")
        if done.returncode != 0:
            raise FleetError(
                "`docker compose` does not work: " + done.stderr.strip(),
                "docker compose version",
                "install Docker's Compose v2 plugin on this server",
            )

    def up(self, name: str, *, recreate: bool) -> subprocess.CompletedProcess[str]:
        """Make the project ``name`` match its files. The output may contain secrets.

        :param recreate: make containers anew although Compose sees no reason
        """
        folder = self._directory / name
        return self._run(
            "--ansi=never",
            f"--project-name={name}",
            f"--project-directory={folder}",
            f"--file={folder / 'compose.yml'}",
            "up",
            "--detach",
            "--remove-orphans",
            "--no-build",
            "--pull=never",
            *(["--force-recreate"] if recreate else []),
        )

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = ["docker", "compose", *arguments]
        try:
            # Ansible's run_command would add our whole environment, and is not made for threads.
            return subprocess.run(  # pylint: disable=ansible-bad-function
                command,
                env=self._environment,
                cwd="/",
                stdin=subprocess.DEVNULL,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=_COMPOSE_TIMEOUT,
                check=False,
            )
        except FileNotFoundError:
            raise FleetError(
                "there is no docker command", "docker compose", "install Docker on this server"
            ) from None
        except subprocess.TimeoutExpired:
            raise FleetError(
                f"not done within {_COMPOSE_TIMEOUT:g} s", " ".join(command), "see `docker info`"
            ) from None


def _error(status: int, message: str, where: str) -> ApiError:
    what, todo = explain(message)
    return api_error(status, what, where, todo)


def silent(host: str, error: FleetError) -> FleetError:
    """What to say when the Engine does not answer at all."""
    todo = "install and start Docker on this server, or correct docker_host"
    if error.what == os.strerror(errno.EACCES):
        todo = "run with become"
    return FleetError(f"Docker does not answer: {error.what}", host, todo)


def explain(message: str) -> tuple[str, str]:
    """What a message of Docker or Compose means, and what to do; unknown ones as they are."""
    for pattern, what, todo in _CAUSES:
        if re.search(pattern, message):
            return f"{what}: {message}", todo
    return message, ""


def split_reference(reference: str) -> tuple[str, str]:
    """The name of an image, and its digest or else its tag.

    >>> split_reference("localhost:5000/a/b:1@sha256:00")
    ('localhost:5000/a/b', 'sha256:00')
    """
    name, _at, digest = reference.partition("@")
    folder, slash, last = name.rpartition("/")
    last, _colon, tag = last.partition(":")
    return folder + slash + last, digest or tag or "latest"


def _registry_auth(name: str) -> dict[str, str]:
    """The header for a registry that this server's user logged in to, empty where it did not.

    :param name: of an image
    """
    first, slash, _rest = name.partition("/")
    if not slash or not re.search(r"[.:]|^localhost$", first):
        return {}
    path = Path(os.environ.get("DOCKER_CONFIG", "~/.docker")).expanduser() / "config.json"
    try:
        entry = json.loads(path.read_text(encoding="utf-8"))["auths"][first]["auth"]
        user, _colon, password = base64.b64decode(entry).decode("utf-8").partition(":")
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    login = json.dumps({"username": user, "password": password, "serveraddress": first})
    return {"X-Registry-Auth": base64.urlsafe_b64encode(login.encode("utf-8")).decode("ascii")}


def _frames(stream: bytes) -> Iterator[bytes]:
    """The payloads of a log stream: eight bytes of header each, the last four are the length."""
    while len(stream) > 8:
        end = 8 + int.from_bytes(stream[4:8], "big")
        yield stream[8:end]
        stream = stream[end:]
