# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How each playbook is run here: well, in check mode, and in every way in which it can fail.

A playbook that is not named here makes the suite fail. To add one: a function, and its line in
:data:`PLAYBOOKS`.
"""

from __future__ import annotations

import contextlib
import json
import secrets as random
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from hetzner.web import Hetzner
from integration.fleet import REPOSITORY

from leaks.world import FILES_ONLY, PYTHON, WEBUI, World

ACME, LODZ = WEBUI
ALL = ("-e", "fleet_select=lk_acme,lk_lodz,lk_none")
NOWHERE = {"ansible_host": "127.0.0.1", "ansible_port": 1}
HETZNER = ("-i", "servers.yml", "-i", "hcloud.yml", "-i", "fleet.yml")
SSH_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ8sQr3vKkA0n9l6m7mX0xg1zZ0q3e2s5f8b7c6d5e4f me"
FAILED = (2, 4)
STOPPED = (1, 2, 4, 99, 130, 250, -signal.SIGINT, -signal.SIGTERM, -signal.SIGKILL)


def site(world: World, full: bool) -> None:
    world.act("site, check mode, of nothing", "site", "--check")
    world.act("site", "site")
    world.act("site, a wrong management key", "site", status=FAILED, environment=_wrong_key(world))
    with _another_password(world) as file:
        world.act(
            "site, a wrong vault password",
            *("site", "-e", f"fleet_select={FILES_ONLY}"),
            status=FAILED,
            environment={"ANSIBLE_VAULT_PASSWORD_FILE": file},
        )
    world.simulator.fault(path="/guardrails.*", status=500, times=0)
    world.act("site, OpenRouter fails", "site", status=FAILED)
    world.simulator.clear_faults()
    if full:
        world.act("site, check mode, of what is there", "site", "--check")
        _lose_files(world)
        world.act(
            "site, ended with SIGTERM", "site", stop=_at("files", signal.SIGTERM), status=STOPPED
        )
        world.act("site, after that", "site")


def verify(world: World, full: bool) -> None:
    world.act("verify", "verify")
    world.simulator.fault(path="/chat/completions", status=401, times=0)
    world.act("verify, the key is refused", "verify", status=FAILED)
    world.simulator.clear_faults()
    if full:
        world.act("verify, check mode", "verify", "--check")


def handover(world: World, full: bool) -> None:
    named = ("-e", f"fleet_select={ACME}")
    world.act("handover, check mode", "handover", "--check", *named)
    # The screen is where the first password belongs, and nowhere else.
    world.act("handover", "handover", *named, shows=(f"{ACME} admin_password",))
    if full:
        world.act("handover, once more", "handover", *named, status=FAILED)


def rotate(world: World, full: bool) -> None:
    world.act("rotate", "rotate", *ALL)
    with _broken_python(world):
        world.act("rotate, a module crashes", "rotate", "-e", f"fleet_select={LODZ}", status=FAILED)
    world.act(
        "rotate, ended with Ctrl-C",
        *("rotate", "-e", f"fleet_select={ACME}"),
        stop=_at("settings", signal.SIGINT),
        status=STOPPED,
    )
    world.act("site, after that", "site")
    if full:
        world.act("rotate, check mode", "rotate", "--check", *ALL)
        undo = ("-e", f"fleet_select={LODZ}", "-e", "fleet_undo=true")
        world.act("rotate, undone", "rotate", *undo)
        world.simulator.fault(method="POST", path="/keys", cut="after")
        world.act("rotate, the answer is lost", "rotate", *ALL, status=FAILED)
        world.act("site, after that", "site")


def servers(world: World, full: bool) -> None:
    """A server that is nowhere, and with time to spare one that is made at Hetzner's double."""
    # No more than the facts, since this machine is not to become a server.
    world.act("servers, facts only", "servers", "--limit", "web1", "--tags", "nothing")
    world.servers(gone=NOWHERE)
    world.act("servers, unreachable", "servers", "--limit", "gone", status=FAILED)
    with Hetzner(token=random.token_urlsafe(32)) as hetzner:
        _at_hetzner(world)
        given = ("servers", *HETZNER, "--limit", "gone", "-e", "fleet_provision=hetzner")
        world.act(
            "servers, a wrong token",
            *given,
            status=(1, *FAILED),
            environment={"HCLOUD_ENDPOINT": hetzner.url},
        )
        if full:
            project = _project(world, hetzner)
            world.act("servers, at Hetzner, check mode", *given, "--check", environment=project)
            # Nobody can be let in by a server that is nowhere.
            world.act("servers, at Hetzner", *given, status=FAILED, environment=project)
    world.servers()


def hetzner_delete(world: World, full: bool) -> None:
    with Hetzner(token=random.token_urlsafe(32)) as hetzner:
        _at_hetzner(world)
        given = ("hetzner_delete", *HETZNER, "-e", "hetzner_delete=server/gone")
        project = _project(world, hetzner)
        world.act("hetzner_delete", *given, status=(0, *FAILED), environment=project)
        if full:
            checked = (*given, "--check")
            world.act(
                "hetzner_delete, check mode", *checked, status=(0, *FAILED), environment=project
            )
    world.servers()


def guard(world: World, full: bool) -> None:
    world.act("guard", "guard")


def doctor(world: World, full: bool) -> None:
    world.act("doctor", "doctor", status=(0, *FAILED))
    if full:
        world.act(
            "doctor, a wrong management key", "doctor", status=FAILED, environment=_wrong_key(world)
        )


def journal(world: World, full: bool) -> None:
    world.act("journal", "journal", "-e", "fleet_journal_show=true")


def unlock(world: World, full: bool) -> None:
    world.act("unlock", "unlock")


def move_secrets(world: World, full: bool) -> None:
    """To a program that keeps secrets, and back."""
    before = world.read("fleet.yml")
    store = {"type": "command", "command": str(_keeper(world))}
    world.write("fleet.yml", {**before, "secret_store": store})
    if full:
        world.act("move_secrets, check mode", "move_secrets", "--check")
    world.act("move_secrets", "move_secrets")
    if full:
        world.act("verify, with another store", "verify")
    world.write("fleet.yml", before)
    world.act("move_secrets, back", "move_secrets")


def schedule(world: World, full: bool) -> None:
    """In check mode: this machine is to have no timer of a fleet's."""
    key = world.home / "management-key"
    key.touch(0o600)
    key.write_text(world.simulator.management_key)
    given = {
        "schedule_management_key": str(key),
        "schedule_vault_password": str(world.home / "vault-password"),
    }
    words = ("-e", json.dumps(given))
    world.act("schedule, check mode", "schedule", "--check", *words, status=(0, *FAILED))


def adopt(world: World, full: bool) -> None:
    """Of a fleet that is known already, and so has nothing to adopt."""
    world.act("adopt, check mode", "adopt", "--check", status=(0, *FAILED))
    if full:
        world.act("adopt", "adopt", status=(0, *FAILED))


def offboard(world: World, full: bool) -> None:
    named = ("-e", f"fleet_select={FILES_ONLY}")
    world.act("offboard, check mode", "offboard", "--check", *named, status=(0, *FAILED))
    world.act("offboard", "offboard", *named, status=(0, *FAILED))


def onboard(world: World, full: bool) -> None:
    answers = {
        "organization": "Leaky Ltd",
        "plan": "",
        "spending_limit": "20",
        "admin_email": "it@leaky.example",
        "client_name": "lk_new",
        "confirm": "no",
    }
    given = [word for name, text in answers.items() for word in ("-e", f"{name}='{text}'")]
    world.act("onboard, not wanted", "onboard", *given)


#: In this order.
PLAYBOOKS: dict[str, Callable[[World, bool], None]] = {
    "guard": guard,
    "site": site,
    "verify": verify,
    "handover": handover,
    "rotate": rotate,
    "servers": servers,
    "hetzner_delete": hetzner_delete,
    "onboard": onboard,
    "doctor": doctor,
    "journal": journal,
    "unlock": unlock,
    "move_secrets": move_secrets,
    "schedule": schedule,
    "adopt": adopt,
    "offboard": offboard,
}

#: Playbooks that are not run, each with the reason.
LEFT_OUT: dict[str, str] = {}


def unknown() -> set[str]:
    """Playbooks of the collection that nobody has thought of here."""
    return playbooks() - PLAYBOOKS.keys() - LEFT_OUT.keys()


def playbooks() -> set[str]:
    return {path.stem for path in (REPOSITORY / "playbooks").glob("*.yml")}


# --- what goes wrong ----------------------------------------------------------------------------


def _at(role: str, sign: int) -> tuple[str, int]:
    return f"TASK [mai.fleet.{role} :", sign


def _wrong_key(world: World) -> dict[str, str]:
    wrong = "sk-or-v1-" + world.needles.secrets["LEAKS_HOOK_TOKEN"][::-1]
    world.needles.plant("a wrong management key", wrong)
    return {"OPENROUTER_MANAGEMENT_KEY": wrong}


def _at_hetzner(world: World) -> None:
    """A server that the inventory describes, and that is nowhere but at Hetzner's double."""
    described = {
        **NOWHERE,
        "hetzner_type": "cx23",
        "hetzner_wait_seconds": 0,
        "hetzner_ssh_keys": {"me": SSH_KEY},
        "hetzner_network": False,
        "hetzner_firewall": False,
        "hetzner_placement_group": "",
    }
    world.servers(gone=described)
    example = REPOSITORY / "inventories" / "example" / "hcloud.yml"
    text = example.read_text(encoding="utf-8")
    (world.home / "inventory" / "hcloud.yml").write_text(text, encoding="utf-8")


def _project(world: World, hetzner: Hetzner) -> dict[str, str]:
    world.needles.plant("Hetzner's HCLOUD_TOKEN", hetzner.token)
    return {"HCLOUD_ENDPOINT": hetzner.url, "HCLOUD_TOKEN": hetzner.token}


@contextlib.contextmanager
def _another_password(world: World) -> Iterator[str]:
    wrong = f"wrong {world.PASSWORD[::-1]}"
    world.needles.plant("a wrong vault password", wrong)
    file = world.home / "wrong-password"
    file.touch(0o600)
    file.write_text(wrong)
    yield str(file)
    file.unlink()


@contextlib.contextmanager
def _broken_python(world: World) -> Iterator[None]:
    """The server's Python raises what no module expects, where a file is to be put in its place."""
    broken = world.home / "broken"
    broken.mkdir()
    (broken / "sitecustomize.py").write_text(
        "import os\ndef replace(*arguments, **options):\n"
        "    raise RuntimeError(f'planted: {arguments}')\nos.replace = os.rename = replace\n"
    )
    python = broken / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={broken} exec {PYTHON} "$@"\n')
    python.chmod(0o755)
    world.servers(web1={"ansible_connection": "local", "ansible_python_interpreter": str(python)})
    yield
    world.servers()


def _keeper(world: World) -> Path:
    """A program that keeps secrets in a folder that nobody else can enter."""
    folder = world.home / "hooked" / "keeper"
    folder.mkdir(exist_ok=True)
    program = folder / "keep"
    program.write_text(f"#!{sys.executable}\n{_KEEPER}")
    program.chmod(0o700)
    return program


_KEEPER = """
import json, os, pathlib, sys
given = json.load(sys.stdin)
folder = pathlib.Path(__file__).parent
file = folder / f"{given.get('client')}.json"
if sys.argv[1] == "put":
    file.touch(0o600)
    file.write_text(json.dumps(given["secrets"]))
    print("{}")
elif sys.argv[1] == "get":
    print(json.dumps({"secrets": json.loads(file.read_text()) if file.exists() else None}))
elif sys.argv[1] == "delete":
    file.unlink(missing_ok=True)
    print("{}")
else:
    print(json.dumps({"clients": [one.stem for one in folder.glob("*.json")]}))
"""


def _lose_files(world: World) -> None:
    """So that they have to be written again."""
    for path in sorted((world.home / "server").glob("*/.env")):
        Path(path).unlink()
