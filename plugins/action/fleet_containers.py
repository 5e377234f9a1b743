# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
from typing import Any

from ansible.errors import AnsibleError
from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError
from ansible_collections.mai.fleet.plugins.module_utils._fleet.environment import SECRET
from ansible_collections.mai.fleet.plugins.plugin_utils._instance import image_reference
from ansible_collections.mai.fleet.plugins.plugin_utils._stage import Row, Stage, State


class ActionModule(Stage):
    STAGE = "containers"
    NOTED = "change container"
    OPTIONS = ("state", "pool", "timeout", "replace")

    def stage(self) -> dict[str, Any]:
        state: State = self.option("state")
        images_changed = self._images(state)
        clients = [
            self._wanted(name, client, row)
            for name, client, row in self.mine(state, ("present", "suspended", "absent"))
        ]
        fleet = self.fleet()
        # A client with a mistake in its file has a file.
        known = {*fleet, *(error["client"] for error in self._vars["fleet_errors"])}
        own = {variable for client in fleet.values() for variable in client["env"]}
        answer = self.on_server(
            state,
            [client["name"] for client in clients],
            lambda: self.call(
                "instance_containers",
                {
                    "directory": self.config["directory"],
                    "fleet": self.config["name"],
                    "clients": clients,
                    "known": sorted(known),
                    "secret_names": sorted({*SECRET, *own}),
                    "pool": self.option("pool"),
                    "timeout": self.option("timeout"),
                },
            ),
        )
        result = self.result(state, answer["clients"], answer.get("diff"))
        result["changed"] = result["changed"] or images_changed
        result["unlisted"] = sorted({*state["unlisted"], *answer.get("unlisted", [])})
        return result

    def line(self, client: str, row: Row, news: Row) -> Row | None:
        line = super().line(client, row, news)
        if line and not news.get("failed"):
            line["what"] = f"{_deed(news['before'], news['after'])} container"
        return line

    def _wanted(self, name: str, client: dict[str, Any], row: Row) -> dict[str, Any]:
        # A client may have had an instance before its file said that it has none.
        if row["state"] == "absent" or row["instance"] == "none":
            return {"name": name, "state": "absent"}
        return {
            "name": name,
            "state": "present",
            "digest": row["digest"],
            "image": image_reference(self.config, client["version"]),
            "port": row["port"],
            "subnet": row["subnet"],
            "volume": client["volume"] or "",
            "replaces": dict(self.option("replace") or {}).get(name, ""),
        }

    def _images(self, state: State) -> bool:
        """Every version's image on the server; a version that cannot be had fails its clients."""
        users: dict[str, list[str]] = {}
        for name, client, row in self.mine(state):
            if row["instance"] == "webui":
                users.setdefault(client["version"], []).append(name)
        changed = False
        for version, names in users.items():
            try:
                changed |= self._image(version)
            except FleetError as error:
                self.fail(state, names, error)
                found: dict[str, Row] = {name: {} for name in names}
                self.warn(state, found)
        return changed

    def _image(self, version: str) -> bool:
        image = image_reference(self.config, version)
        archive = self.config["image_archive"]
        if not archive:
            return bool(self.call("instance_image", {"image": image})["changed"])
        if self.call("instance_image", {"image": image, "source": "present"})["present"]:
            return False
        path = archive.format(version=version)
        if not os.path.exists(path):
            raise FleetError(
                "the image archive does not exist",
                path,
                "make it with docker save, or change image_archive in fleet.yml",
            )
        if self.check:
            return True
        remote = self._send(path)
        self.call("instance_image", {"image": image, "source": "archive", "archive": remote})
        return True

    def _send(self, path: str) -> str:
        """The archive's path on the server, where Ansible removes it after the task."""
        try:
            folder = self._make_tmp_path()
            remote = str(self._connection._shell.join_path(folder, os.path.basename(path)))
            self._transfer_file(path, remote)
            self._fixup_perms2([folder, remote])
        except AnsibleError as error:
            raise FleetError(
                f"the image archive could not be sent: {error}",
                f"server {self.host}",
                "is there room for it in Ansible's remote_tmp? ANSIBLE_REMOTE_TEMP names another",
            ) from error
        return remote


def _deed(before: Row, after: Row) -> str:
    """What was done to a container, in a word."""
    if after["container"] == "absent":
        return "remove"
    if before["container"] == "absent":
        return "create"
    same = all(before[field] == after[field] for field in ("digest", "image"))
    return "start" if same else "recreate"
