# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError
from ansible.module_utils.parsing.convert_bool import boolean
from ansible_collections.mai.fleet.plugins.module_utils._atomic import write_atomically
from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.offboarding import (
    begun,
    needs_export,
)
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.records import (
    Offboarding,
    Record,
    now,
    stamp,
)
from ansible_collections.mai.fleet.plugins.plugin_utils._instance import image_reference
from ansible_collections.mai.fleet.plugins.plugin_utils._stage import Row, Stage, State
from ansible_collections.mai.fleet.plugins.plugin_utils._yaml import shown

_CHUNK = 1 << 20


class ActionModule(Stage):
    STAGE = "export"
    NOTED = "export data"
    OPTIONS = ("state", "wanted", "select", "reserve", "pool")

    def stage(self) -> dict[str, Any]:
        state: State = self.option("state")
        self._store = self.store()
        wanted = boolean(self.option("wanted", True))
        if not wanted and not (self.option("select") or self._vars.get("ansible_limit")):
            raise FleetError(
                "clients are not exported only if they are named",
                "fleet_export",
                "name them, too: -e fleet_select=NAME",
            )
        leaving = self._leaving(state)
        if not wanted:
            found = {name: self._go_without(record) for name, record in leaving.items()}
            self.take(state, found)
            return self.result(state, found)
        answer = self._export(state, leaving)
        return self.result(state, answer["clients"], answer.get("diff"))

    def line(self, client: str, row: Row, news: Row) -> Row | None:
        # What was exported has its line when it is where it is to be.
        return super().line(client, row, news) if news.get("failed") else None

    def _leaving(self, state: State) -> dict[str, Record]:
        """This server's clients whose data has to be exported, with that written down."""
        leaving = {}
        for name, _client, _row in self.mine(state, ("absent",)):
            try:
                record = self._store.record(name)
                if record is not None and needs_export(record):
                    leaving[name] = self._begin(record)
            except FleetError as error:
                self.fail(state, [name], error)
        return leaving

    def _begin(self, record: Record) -> Record:
        first = dataclasses.replace(record, offboarding=begun(record, now()))
        if first != record and not self.check:
            self._store.note(record.client, "begin offboarding", "done")
            self._store.save_record(first)
        return first

    def _export(self, state: State, leaving: dict[str, Record]) -> dict[str, Any]:
        clients = [
            {
                "name": name,
                "archive": _archive(record),
                "image": image_reference(self.config, self.client(name, row)["version"]),
                "volume": self.client(name, row)["volume"] or "",
                "key_hashes": [record.key_hash, *(former.hash for former in record.former)],
                "about": self._about(record, self.client(name, row)),
            }
            for name, record in leaving.items()
            for row in [state["clients"][name]]
        ]
        answer = self.on_server(
            state, list(leaving), lambda: self._call(clients, reader=self._reader())
        )
        if self.check:
            return answer
        found = {
            name: self._keep(leaving[name], row)
            for name, row in answer["clients"].items()
            if row and not row["failed"]
        }
        self._discard([one for one in clients if found.get(one["name"], {}).get("fetched")])
        for name, news in found.items():
            if not news.get("failed"):
                found[name] = self._settle(leaving[name], news)
        self.take(state, {name: {**news, "changed": False} for name, news in found.items()})
        return answer

    def _about(self, record: Record, client: dict[str, Any]) -> dict[str, Any]:
        return {
            "organization": record.organization,
            "server": record.server,
            "open_webui": client["version"],
            "made_at": stamp(now()),
        }

    def _call(self, clients: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        options = {
            "directory": self._directory,
            "fleet": self.config["name"],
            "clients": clients,
            "reserve": self.option("reserve", 512),
            "pool": self.option("pool", 2),
            **more,
        }
        return self.call(
            "instance_export", {name: value for name, value in options.items() if value is not None}
        )

    @property
    def _directory(self) -> str:
        return f"{self.config['directory']}-exports"

    def _reader(self) -> str | None:
        """Whom the server has to let read the archives: who Ansible signs in as."""
        if self.config["exports_on_server"]:
            return None
        return str(self._make_tmp_path())

    def _keep(self, record: Record, row: Row) -> Row:
        """Bring the archive to where it is to be, and say where that is."""
        manifest = row["export"]
        if manifest is None:
            return {"without": "there is no volume, and so no data"}
        # Where it goes here is never the server's to say.
        name = _archive(record)
        remote = f"{self._directory}/{name}"
        if self.config["exports_on_server"]:
            return {"archive": f"{record.server}:{remote}", "manifest": manifest}
        try:
            target = Path(self.config["exports"]) / name
            archive = self._fetch(remote, target, manifest)
            return {"archive": archive, "manifest": manifest, "fetched": True}
        except FleetError as error:
            return {"failed": True, "failure": error.failure()}

    def _fetch(self, remote: str, target: Path, manifest: dict[str, Any]) -> str:
        """:raises FleetError: it did not come whole; the server has it still"""
        part = target.with_name(f"{target.name}.part")
        text = json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"
        try:
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            part.unlink(missing_ok=True)
            # Nobody else can read it from its first byte on.
            os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600))
            self._connection.fetch_file(remote, str(part))
            part.chmod(0o600)
            if _digest(part) != manifest["sha256"]:
                raise FleetError("it is not the archive that the server made")
            manifest_path = str(target).replace(".tar.gz", ".json")
            write_atomically(manifest_path, text.encode("utf-8"), 0o600)
            os.replace(part, target)
        except (OSError, AnsibleError, FleetError) as error:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
            raise FleetError(
                f"the export could not be brought here: {error}",
                f"server {self.host}, {remote}",
                f"is there room in {shown(str(target.parent))}? Run again; until then the instance "
                "is stopped, and nothing is taken away",
            ) from error
        return shown(str(target))

    def _discard(self, clients: list[dict[str, Any]]) -> None:
        """Remove from the server what is here."""
        gone = [
            {"name": client["name"], "archive": client["archive"], "state": "absent"}
            for client in clients
        ]
        try:
            if gone:
                self._call(gone)
        except FleetError as error:
            names = ", ".join(str(client["archive"]) for client in gone)
            self._warnings.append(f"{names} was fetched, and is on the server still: {error}")

    def _settle(self, record: Record, news: Row) -> Row:
        """Write down that there is an export, or none."""
        manifest = news.get("manifest", {})
        archive, without = news.get("archive", ""), news.get("without", "")
        try:
            details = {"archive": archive, "sha256": manifest.get("sha256")} if archive else {}
            self._store.note(
                record.client,
                "export data",
                f"skipped: {without}" if without else "done",
                **details,
            )
            self._write(
                record,
                exported=stamp(now()),
                archive=archive,
                size=manifest.get("size", 0),
                sha256=manifest.get("sha256", ""),
                without=without,
            )
        except FleetError as error:
            return {"failed": True, "failure": error.failure()}
        return {"warnings": [f"no export was made: {without}"] if without else []}

    def _go_without(self, record: Record) -> Row:
        if self.check:
            return {"changed": True}
        return {**self._settle(record, {"without": "it was not wanted"}), "changed": True}

    def _write(self, record: Record, **steps: Any) -> None:
        leaving = record.offboarding or Offboarding(stamp(now()))
        self._store.save_record(
            dataclasses.replace(record, offboarding=dataclasses.replace(leaving, **steps))
        )


def _archive(record: Record) -> str:
    """One name for all runs that it takes, so that an earlier one's archive is not left behind."""
    begin = record.offboarding.begun if record.offboarding else ""
    return f"{record.client}-{begin.replace('-', '').replace(':', '')}.tar.gz"


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(_CHUNK):
            digest.update(piece)
        os.fsync(file.fileno())
    return digest.hexdigest()
