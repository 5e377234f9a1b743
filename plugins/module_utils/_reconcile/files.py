# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the mai.fleet collection
"""The files of the clients of one server: desired texts against the disk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from ansible_collections.mai.fleet.plugins.module_utils import _dotenv
from ansible_collections.mai.fleet.plugins.module_utils._api.disk import (
    ENV,
    NAMES,
    ClientDirectory,
    Found,
    prepare_base,
)
from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError
from ansible_collections.mai.fleet.plugins.module_utils._redaction import Redactor, secret_values
from ansible_collections.mai.fleet.plugins.module_utils._rows import Row
from ansible_collections.mai.fleet.plugins.module_utils._secrets import fingerprint, seal, sha256

KEY = "OPENROUTER_API_KEY"
#: What cannot be made anew: another one locks people out, or ends their sessions.
RECOVERABLE = (KEY, "WEBUI_SECRET_KEY", "WEBUI_ADMIN_PASSWORD")

Contents = dict[str, bytes]


def reconcile(
    directory: Path,
    clients: Iterable[dict[str, Any]],
    texts: dict[str, Any],
    secret_names: Collection[str],
    check: bool,
) -> dict[str, Row]:
    """Make the files of all clients match, one client after the other.

    :param clients: ``name`` and ``state`` (``present`` or ``absent``) of each
    :param texts: by client the texts of ``compose.yml`` and ``.env``; one of the two that is not
        given is removed
    :param secret_names: variables of the ``.env`` whose values are never shown
    :raises FleetError: ``directory`` itself cannot be used
    """
    clients = list(clients)
    prepare_base(
        directory, create=not check and any(client["state"] == "present" for client in clients)
    )
    rows: dict[str, Row] = {}
    for client in clients:
        name = client["name"]
        row = rows[name] = Row()
        try:
            wanted = None
            if client["state"] == "present":
                wanted = _encoded(name, texts.get(name))
            _reconcile_one(directory, name, wanted, secret_names, check, row)
        except FleetError as error:
            row.error = error
            row.changed = False
            row.diff = []
    return rows


def read_env(directory: Path, name: str) -> dict[str, str] | None:
    """The values of a client's ``.env``, None where there is no such file.

    :raises FleetError: it cannot be read or is not understood
    """
    content = ClientDirectory(directory, name).read(ENV)
    if content is None:
        return None
    try:
        return _dotenv.parse(content.decode("utf-8"))
    except ValueError as error:
        raise FleetError(
            _not_understood(error),
            str(directory / name / ENV),
            "let a run of the files stage write it anew",
        ) from None


def find_secrets(directory: Path, name: str, pad: str | None) -> Row:
    """What a client's ``.env`` says of its key; secrets themselves only under ``pad``."""
    row = Row(more={"fingerprint": None, "hash": None})
    try:
        env = read_env(directory, name) or {}
        found = {secret: env[secret] for secret in RECOVERABLE if env.get(secret)}
        if KEY in found:
            row.more.update(fingerprint=fingerprint(env[KEY]), hash=sha256(env[KEY]))
        if found and pad is not None:
            row.more["sealed"] = seal(json.dumps(found), str(pad))
    except FleetError as error:
        row.error = error
    except ValueError:
        row.error = FleetError(
            "expected a pad in hexadecimal, long enough for the secrets", f"option secrets, {name}"
        )
    return row


def _encoded(name: str, texts: Any) -> Contents:
    """The texts of a client as bytes.

    :raises FleetError: they are not what this module can write, or Compose can read
    """
    where = f"option secrets, {name}"
    known = isinstance(texts, dict) and ENV in texts and set(texts) <= set(NAMES)
    if not known or not all(isinstance(text, str) for text in texts.values()):
        raise FleetError("expected the text of .env, and of compose.yml if there is one", where)
    try:
        _dotenv.parse(texts[ENV])
    except ValueError as error:
        raise FleetError(
            _not_understood(error), f"{where}, .env", "correct the template env.j2"
        ) from None
    return {file: text.encode("utf-8") for file, text in texts.items()}


def _not_understood(error: ValueError) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "expected UTF-8"
    return f"{error}; expected NAME='value' on one line"


def _reconcile_one(
    directory: Path,
    name: str,
    wanted: Contents | None,
    secret_names: Collection[str],
    check: bool,
    row: Row,
) -> None:
    place = ClientDirectory(directory, name)
    path = directory / name
    found = place.look()
    _compare(path, found, wanted, row)
    if not row.changed:
        return
    row.diff = _diff(path, found, wanted or {}, secret_names)
    if check:
        return
    if wanted is None:
        place.remove()
    else:
        place.write(wanted)


def _compare(path: Path, found: Found, wanted: Contents | None, row: Row) -> None:
    """Fill in what differs: contents, and what is wrong with a file besides its content."""
    after = wanted or {}
    row.before = {name: _short(found.contents.get(name)) for name in NAMES}
    row.after = {name: _short(after.get(name)) for name in NAMES}
    drift = [f"{name}: left behind by an interrupted run" for name in found.leftovers]
    if wanted is not None:
        drift += [f"{name}: {note}" for name, note in found.drift.items()]
    if drift:
        row.before["drift"] = drift
        row.after["drift"] = []
    row.changed = row.before != row.after
    if wanted is None and found.exists:
        row.changed = row.changed or not found.foreign
        if found.foreign:
            row.warnings.append(
                f"{path} stays, it contains files that are not of this collection: "
                + ", ".join(found.foreign)
            )


def _diff(
    path: Path, found: Found, wanted: Contents, secret_names: Collection[str]
) -> list[dict[str, str]]:
    """Both sides of each file that changes, without secrets."""
    new = _env(wanted)
    values = secret_values(new, secret_names)
    try:
        old = _env(found.contents)
    except ValueError:
        # Nobody can tell which parts of these files are secret.
        before = dict.fromkeys(found.contents, "(content not shown)\n")
    else:
        # Of a variable that is given up nobody says any more whether it is secret.
        names = {*secret_names, *(old.keys() - new.keys())}
        values += secret_values(old, names)
        before = _shown(found.contents, values, names)
    after = _shown(wanted, values, secret_names)
    parts = []
    for name in NAMES:
        if found.contents.get(name) == wanted.get(name) and name not in found.drift:
            continue
        header = str(path / name)
        note = f" ({found.drift[name]})" if name in found.drift else ""
        parts.append(
            {
                "before_header": header + note,
                "after_header": header,
                "before": before.get(name, ""),
                "after": after.get(name, ""),
            }
        )
    return parts


def _env(contents: Contents) -> dict[str, str]:
    return _dotenv.parse(contents.get(ENV, b"").decode("utf-8"))


def _shown(
    contents: Contents, values: Iterable[str], secret_names: Collection[str]
) -> dict[str, str]:
    redactor = Redactor(values)
    texts = {name: text.decode("utf-8", "replace") for name, text in contents.items()}
    return {
        name: redactor.env(text, secret_names) if name == ENV else redactor.text(text)
        for name, text in texts.items()
    }


def _short(content: bytes | None) -> str | None:
    return None if content is None else f"sha256:{hashlib.sha256(content).hexdigest()[:12]}"
