# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Everywhere that a run writes to, or that somebody can read while it goes on."""

from __future__ import annotations

import json
import stat
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from leaks.needles import Needle, Needles
from leaks.watch import FOLDERS
from leaks.world import WEBUI, Watcher, World

#: What Docker keeps of a container's environment that is secret: docs/leaks.md says why.
KEPT_BY_DOCKER = (
    "OPENROUTER_API_KEY",
    "OPENAI_API_KEYS",
    "WEBUI_SECRET_KEY",
    "WEBUI_ADMIN_PASSWORD",
    "SMTP_PASSWORD",
)


@dataclass(frozen=True)
class Piece:
    """Something that is searched.

    :ivar kind: of its place; each kind has a positive control
    :ivar owner: the client whose secrets may be there, empty for nobody's
    :ivar names: of further secrets that may be there
    """

    kind: str
    place: str
    data: bytes = field(repr=False)
    owner: str = ""
    names: tuple[str, ...] = ()

    def leaks(self, needles: Needles) -> list[Needle]:
        return [
            needle
            for needle in needles.within(self.data)
            if needle.name not in self.names and (not self.owner or needle.owner != self.owner)
        ]


@dataclass
class Search:
    """:ivar leaks: place and needle of each, never the secret

    :ivar kinds: how many pieces of each kind were searched
    """

    needles: Needles
    leaks: list[tuple[str, str, str]] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)
    size: int = 0

    def through(self, pieces: Iterable[Piece]) -> None:
        for piece in pieces:
            self.kinds[piece.kind] += 1
            self.size += len(piece.data)
            self.leaks += [
                (piece.kind, piece.place, str(needle)) for needle in piece.leaks(self.needles)
            ]


def everything(world: World, watcher: Watcher, since: float) -> Iterator[Piece]:
    """:param since: when the first run began; older files are not the runs'"""
    home = world.home
    for done in world.done:
        yield Piece("screen", done.title, done.run.output.encode(), names=done.shows)
    yield Piece("log", "ansible.log", world.log.read_bytes())
    for line in world.dump.read_bytes().splitlines():
        kind = "registered variables" if line.startswith(b'{"registered"') else "results"
        yield Piece(kind, "what callbacks get", line)
    for kind, folder in (
        ("fact cache", "facts"),
        ("retry file", "retry"),
        ("temporary file", "remote-tmp"),
        ("temporary file", "local-tmp"),
        ("home", "operator"),
        ("hook", "hooked"),
        ("inventory", "inventory"),
    ):
        yield from _files(kind, home / folder)
    yield from _new_files(home, since)
    yield from _git(home / "inventory")
    yield from _server(home / "server")
    yield from _docker(world)
    for place, data in watcher.seen:
        kind = place if place.startswith("/proc") else "readable file"
        yield Piece(f"seen by others: {kind}", place, data)


def _files(kind: str, folder: Path) -> Iterator[Piece]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink() and ".git" not in path.parts:
            yield Piece(kind, str(path.relative_to(folder.parent)), path.read_bytes())


def _new_files(home: Path, since: float) -> Iterator[Piece]:
    """Files for temporary things that came since, and stayed. The fleet's own folder is apart."""
    for folder in FOLDERS:
        for entry in sorted(Path(folder).iterdir()):
            if entry == home or not entry.is_file() or entry.is_symlink():
                continue
            if entry.stat().st_mtime >= since and entry.stat().st_size < 4_000_000:
                yield Piece("temporary file", str(entry), entry.read_bytes())
        for entry in sorted(Path(folder).glob("ansible*")):
            if entry.is_dir() and entry.stat().st_mtime >= since:
                yield from _files("temporary file", entry)


def _git(inventory: Path) -> Iterator[Piece]:
    """What an operator who commits the inventory has in the repository from then on."""

    def git(*command: str) -> bytes:
        return subprocess.run(
            ["git", *command], cwd=inventory, check=True, stdout=subprocess.PIPE
        ).stdout

    git("init", "--quiet")
    git("add", "--all")
    for name in git("ls-files", "-z").decode().split("\0"):
        if name:
            yield Piece("git", name, git("cat-file", "blob", f":{name}"))


def _server(folder: Path) -> Iterator[Piece]:
    for path in sorted(folder.rglob("*")):
        if not path.is_file():
            continue
        status = path.stat()
        mine = (status.st_uid, stat.S_IMODE(status.st_mode)) == (0, 0o600)
        client = path.relative_to(folder).parts[0]
        is_env = path.name == ".env" and path.parent.parent == folder
        owner = client if mine and is_env else ""
        place = f"{path.relative_to(folder.parent)} ({stat.filemode(status.st_mode)})"
        yield Piece("server", place, path.read_bytes(), owner=owner)


def _docker(world: World) -> Iterator[Piece]:
    label: dict[str, Any] = {"label": f"mai.fleet.fleet={world.NAME}"}
    for container in world.docker.containers.list(all=True, filters=label):
        client, where = container.labels["mai.fleet.client"], str(container.name)
        details = json.loads(json.dumps(container.attrs))
        for line in details["Config"].pop("Env"):
            name = line.partition("=")[0]
            owner = client if name in KEPT_BY_DOCKER else ""
            place = f"{where}: {name}"
            yield Piece("container's environment", place, line.encode(), owner=owner)
        text = json.dumps(details, ensure_ascii=False)
        yield Piece("docker inspect", where, text.encode())
        yield Piece("docker logs", where, container.logs())
        image = world.docker.images.get(container.attrs["Image"])
        data = json.dumps([image.attrs, image.history()]).encode()
        yield Piece("image", str(image.tags), data)
    for network in world.docker.networks.list(filters=label):
        yield Piece("docker inspect", str(network.name), json.dumps(network.attrs).encode())
    for client in WEBUI:
        # The instance's own database: a client's secrets are there, and no other's.
        for path in sorted(volume(world, client).rglob("*")):
            if path.is_file() and not path.is_symlink():
                place = f"volume {client}_data: {path.name}"
                yield Piece("volume", place, path.read_bytes(), owner=client)


def volume(world: World, client: str) -> Path:
    """Where the data of a client's instance lie on this machine."""
    return Path(world.docker.volumes.get(f"{client}_data").attrs["Mountpoint"])


def kept(world: World, client: str) -> dict[str, list[str]]:
    """Variables of a container's environment that hold a secret, and the names of the secrets."""
    found = {
        name: [needle.name for needle in world.needles.within(value.encode())]
        for name, value in world.environment(client).items()
    }
    return {name: names for name, names in found.items() if names}
