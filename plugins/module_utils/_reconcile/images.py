# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the mai.fleet collection
"""An image on one server."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ansible_collections.mai.fleet.plugins.module_utils._api.docker import Docker, silent
from ansible_collections.mai.fleet.plugins.module_utils._errors import (
    ApiError,
    FleetError,
    Unreachable,
)


@dataclass
class Image:
    """``id`` is None for an image that the server does not have (yet, in check mode)."""

    changed: bool
    id: str | None


def reconcile(
    docker_host: str, reference: str, source: str, archive: Path | None, check: bool
) -> Image:
    """Have an image on the server. One that is there is left alone: a pinned tag does not move.

    :param source: ``pull``, ``archive`` (needs ``archive``), or ``present``, which only looks
    :raises FleetError: it cannot be had
    """
    docker = Docker(docker_host)
    try:
        found = docker.image_id(reference)
    except Unreachable as error:
        if check:
            return Image(source != "present", None)
        raise silent(docker_host, error) from error
    if found or source == "present" or check:
        return Image(not found and source != "present", found)
    if archive is not None:
        _load(docker, reference, archive)
    else:
        _pull(docker, reference)
    return Image(True, docker.image_id(reference))


def _pull(docker: Docker, reference: str) -> None:
    try:
        docker.pull(reference)
    except ApiError as error:
        raise FleetError(
            f"the image cannot be pulled: {error.what}",
            f"image {reference}",
            error.todo
            or "check its name; where its registry cannot be reached, name a mirror (image_mirror) "
            "or an archive made by docker save (image_archive) in fleet.yml",
        ) from error


def _load(docker: Docker, reference: str, archive: Path) -> None:
    try:
        with archive.open("rb") as file:
            loaded = docker.load(file, archive.stat().st_size)
    except OSError as error:
        raise FleetError(error.strerror or str(error), str(archive)) from error
    except ApiError as error:
        raise FleetError(
            f"the archive cannot be loaded: {error.what}",
            str(archive),
            error.todo or "make it with docker save",
        ) from error
    if docker.image_id(reference) is None:
        raise FleetError(
            f"expected an archive of {reference}, it contains {', '.join(loaded) or 'no image'}",
            str(archive),
            "make it with `docker save NAME:TAG`; an archive knows no digest, so leave that out "
            "of the image's name",
        )
