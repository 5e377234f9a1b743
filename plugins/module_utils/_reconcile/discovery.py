# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the mai.fleet collection
"""The Open WebUI instances of one server, whoever made them, and the keys that they use.

An instance is a container that mounts something where Open WebUI keeps its data. What it uses is
in its database, which can be read without a token, and also while it does not answer. Only where
nothing is stored yet its environment counts.
"""

from __future__ import annotations

import contextlib
import io
import json
import sqlite3
import tarfile
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ansible_collections.mai.fleet.plugins.module_utils import _dotenv
from ansible_collections.mai.fleet.plugins.module_utils._api.docker import (
    CLIENT,
    DATA,
    FLEET,
    PROJECT,
    Docker,
    Mounting,
)
from ansible_collections.mai.fleet.plugins.module_utils._api.openwebui import OpenWebUI
from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError, NotFound
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.accounts import stored_accounts
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.bulk import for_each
from ansible_collections.mai.fleet.plugins.module_utils._rows import Row
from ansible_collections.mai.fleet.plugins.module_utils._secrets import fingerprint, seal, sha256
from ansible_collections.mai.fleet.plugins.module_utils._transport.loopback import Loopback

_DATABASE = "webui.db"
# Where Open WebUI's own start script keeps the secret key that it made itself.
_KEY_FILE = "/app/backend/.webui_secret_key"
_FOLDER = "com.docker.compose.project.working_dir"
_INNER_PORT = "8080/tcp"
_NAMES = ("WEBUI_NAME", "ORGANIZATION_NAME", "WEBUI_URL")


@dataclass(frozen=True)
class Stored:
    """What an instance's database says. Empty where nothing is stored."""

    config: dict[str, Any]
    admin: str


def discover(docker: Docker, pads: dict[str, str], pool: int, timeout: float) -> dict[str, Row]:
    """A row for each instance, by its container's name.

    :param pads: by container's name what to cover its secrets with
    :param timeout: seconds to wait for an instance's answer
    :raises FleetError: Docker does not answer
    """
    found = {one.name: one for one in docker.mounting(DATA)}

    def look(name: str) -> Row:
        return _look(docker, found[name], pads.get(name), timeout)

    return for_each(sorted(found), pool, look)


def connections(config: dict[str, Any], env: dict[str, str]) -> list[dict[str, Any]]:
    """The connections to providers that are in force, keys and all."""
    where = "settings" if "openai.api_base_urls" in config else "environment"
    if where == "settings" and env.get("ENABLE_PERSISTENT_CONFIG", "").lower() != "false":
        urls = list(config["openai.api_base_urls"] or [])
        keys = list(config.get("openai.api_keys") or [])
        options = dict(config.get("openai.api_configs") or {})
    else:
        where = "environment"
        urls = _split(env.get("OPENAI_API_BASE_URLS") or env.get("OPENAI_API_BASE_URL", ""))
        keys = _split(env.get("OPENAI_API_KEYS") or env.get("OPENAI_API_KEY", ""))
        options = _options(env.get("OPENAI_API_CONFIGS", ""))
    keys += [""] * len(urls)
    rows = []
    for index, url in enumerate(urls):
        own: dict[str, Any] = options.get(str(index)) or options.get(url) or {}
        rows.append(
            {
                "url": url,
                "key": keys[index],
                "enabled": own.get("enable", True) is True,
                "model_ids": list(own.get("model_ids") or []),
                "source": where,
            }
        )
    return rows


def _look(docker: Docker, found: Mounting, pad: str | None, timeout: float) -> Row:
    inspected = docker.inspect(found.id)
    env = _environment(inspected["Config"]["Env"] or [])
    address, port = _published(inspected)
    row = Row(
        more={
            "container": found.name,
            "id": found.id,
            "project": found.labels.get(PROJECT, ""),
            "client": found.labels.get(CLIENT, ""),
            "fleet": found.labels.get(FLEET, ""),
            "image": found.image,
            "state": found.state,
            "volume": found.volume,
            "source": found.source,
            "address": address,
            "port": port,
            "version": "",
            "app": "",
            **{name.lower(): env.get(name, "") for name in _NAMES},
            "admin_email": "",
            "connections": [],
            "key_hashes": {},
            "size": 0,
        }
    )
    try:
        stored = read_database(Path(found.source) / _DATABASE)
    except FleetError as error:
        # An instance that never started has none; its environment says what it would use.
        stored = Stored({}, "")
        row.warnings.append(f"{error.what} ({error.where})")
    row.more["admin_email"] = stored.admin
    row.more["webui_url"] = str(stored.config.get("webui.url") or row.more["webui_url"])
    used = connections(stored.config, env)
    row.more["connections"] = [_shown(one) for one in used]
    row.more.update(_answer(found, port, timeout))
    secret = _secrets(docker, found, inspected["Image"], env, used)
    row.more["key_hashes"] = {name: sha256(key) for name, key in _keys(secret).items()}
    text = json.dumps(secret)
    row.more["size"] = len(text.encode("utf-8"))
    if pad is not None:
        try:
            row.more["sealed"] = seal(text, pad)
        except ValueError:
            raise FleetError(
                "expected a pad in hexadecimal, long enough for the secrets",
                f"option secrets, {found.name}",
            ) from None
    return row


def read_database(path: Path) -> Stored:
    """What the database says of providers, and who was its first admin.

    ``mode=ro`` never writes to it, and neither waits for a running instance nor holds it up.

    :raises FleetError: the file is not there, or of a release that keeps its settings otherwise
    """
    query = "SELECT key, value FROM config WHERE key LIKE 'openai.%' OR key = 'webui.url'"
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as connection:
            config = {key: json.loads(value) for key, value in connection.execute(query)}
    except (sqlite3.Error, ValueError, TypeError) as error:
        raise FleetError(
            f"Open WebUI's settings cannot be read from its database: {error}",
            str(path),
            "run as root; releases before 0.10 and other databases than SQLite are not read",
        ) from None
    admins = [account for account in stored_accounts(path) if account.role == "admin"]
    people = [account.email for account in admins if not account.email.endswith(".invalid")]
    return Stored(config, people[0] if people else "")


def _answer(found: Mounting, port: int, timeout: float) -> dict[str, str]:
    """The release, and why the instance does not answer; empty when it does."""
    if found.state != "running":
        return {"version": "", "app": f"its container is {found.state}"}
    if not port:
        return {"version": "", "app": "its port is not published on this server"}
    api = OpenWebUI(Loopback(f"http://127.0.0.1:{port}", timeout))
    try:
        api.ready()
        return {"version": api.version(), "app": ""}
    except FleetError as error:
        return {"version": "", "app": error.what}


def _secrets(
    docker: Docker, found: Mounting, image: str, env: dict[str, str], used: list[dict[str, Any]]
) -> dict[str, Any]:
    """All that is needed to go on with this instance, to be sealed.

    Of a Compose project its own files as well, which are gone with nobody else's help.
    """
    folder = found.labels.get(_FOLDER, "")
    secret_key = env.get("WEBUI_SECRET_KEY") or _file_of(docker, found.id, _KEY_FILE)
    dotenv = _parsed(_text(folder, ".env"))
    found_keys = {**_env_keys("environment", env), **_env_keys("dotenv", dotenv)}
    return {
        "environment": env,
        "variables": sorted(set(env) - set(docker.image_variables(image))),
        "connections": used,
        "keys": list(found_keys.values()),
        "secret_key": secret_key,
        "dotenv": dotenv,
        "compose": _text(folder, "compose.yml"),
    }


def _keys(secret: dict[str, Any]) -> dict[str, str]:
    """Every key that could be OpenRouter's, by where it was found."""
    keys = {
        **_env_keys("environment", secret["environment"]),
        **_env_keys("dotenv", secret["dotenv"]),
    }
    for one in secret["connections"]:
        keys[f"connection {one['url']}"] = one["key"]
    return {name: key for name, key in keys.items() if key}


def _env_keys(place: str, env: dict[str, str]) -> dict[str, str]:
    keys = {}
    for name in ("OPENROUTER_API_KEY", "OPENAI_API_KEY", "OPENAI_API_KEYS"):
        for number, key in enumerate(_split(env.get(name, ""))):
            keys[f"{place}: {name}{f' #{number + 1}' if number else ''}"] = key
    return {name: key for name, key in keys.items() if key}


def _shown(connection: dict[str, Any]) -> dict[str, Any]:
    key = connection["key"]
    shown = {name: value for name, value in connection.items() if name != "key"}
    return {
        **shown,
        "hash": sha256(key) if key else "",
        "fingerprint": fingerprint(key) if key else "",
    }


def _published(inspected: dict[str, Any]) -> tuple[str, int]:
    """The address and the port of this server at which the instance is published."""
    bindings = (inspected["HostConfig"].get("PortBindings") or {}).get(_INNER_PORT) or []
    running = (inspected["NetworkSettings"].get("Ports") or {}).get(_INNER_PORT) or []
    for binding in [*running, *bindings]:
        if binding.get("HostPort"):
            return binding.get("HostIp") or "0.0.0.0", int(binding["HostPort"])  # noqa: S104
    return "", 0


def _file_of(docker: Docker, container: str, path: str) -> str:
    """The text of a small file in a container, empty where there is none."""
    try:
        content = docker.archive(container, path)
    except NotFound:
        return ""
    with contextlib.suppress(tarfile.TarError), tarfile.open(fileobj=io.BytesIO(content)) as files:
        for member in files.getmembers():
            file = files.extractfile(member)
            if file is not None:
                return file.read().decode("utf-8", "replace").strip()
    return ""


def _text(folder: str, name: str) -> str:
    if not folder:
        return ""
    try:
        return (Path(folder) / name).read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""


def _parsed(text: str) -> dict[str, str]:
    try:
        return _dotenv.parse(text)
    except ValueError:
        return {}


def _environment(lines: list[str]) -> dict[str, str]:
    return {name: value for name, _sign, value in (line.partition("=") for line in lines)}


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(";")] if text else []


def _options(text: str) -> dict[str, Any]:
    try:
        options = json.loads(text or "{}")
    except ValueError:
        return {}
    return options if isinstance(options, dict) else {}
