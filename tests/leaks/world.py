# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fleet full of secrets, whose runs are written down wherever Ansible can write.

Two clients with an instance each on the real Docker, one without, and somebody without privileges
who watches. Everything lies in one folder that others may enter, as an operator's home does.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import secrets as random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import yaml
from ansible.parsing.vault import VaultLib, VaultSecret
from integration.fleet import Fleet, Run
from simulator import keys as simulated_keys
from simulator.simulator import Simulator

from leaks.needles import Needles

CALLBACKS = Path(__file__).with_name("callback")
WATCH = Path(__file__).with_name("watch.py")
NOBODY = 65534
#: The Python of servers, which everybody may start.
PYTHON = "/usr/bin/python3"
WEBUI = ("lk_acme", "lk_lodz")
FILES_ONLY = "lk_none"
MODELS = ["openai/gpt-4o-mini", "google/gemini-2.5-flash"]
#: Of the operator's shell. What Ansible's own programs get, they get for a reason.
_PATIENCE = 15
ENVIRONMENT = ("OPENROUTER_MANAGEMENT_KEY", "HCLOUD_TOKEN", "LEAKS_HOOK_TOKEN")


@dataclass(frozen=True)
class Done:
    """A run that is over.

    :ivar shows: names of secrets that it has to show on the screen, and nowhere else
    """

    title: str
    run: Run
    shows: tuple[str, ...] = ()


@dataclass
class Watcher:
    """:ivar seen: what another user saw, by place"""

    process: subprocess.Popen[bytes]
    told: IO[bytes]
    seen: list[tuple[str, bytes]] = field(default_factory=list)
    summary: dict[str, int] = field(default_factory=dict)

    def end(self) -> None:
        self.process.send_signal(signal.SIGINT)
        self.process.wait(timeout=60)
        self.told.seek(0)
        for line in self.told:
            told = json.loads(line)
            if "place" in told:
                self.seen.append((told["place"], base64.b64decode(told["data"])))
            else:
                self.summary |= told


def watcher(*folders: Path) -> Watcher:
    """Somebody else on the machine, who has begun to watch.

    :param folders: they were there before, and are watched all the same
    """
    # It has no name, so that nobody finds what was seen: not even the one who sees.
    told = tempfile.TemporaryFile()  # noqa: SIM115
    process = subprocess.Popen(
        [PYTHON, "-I", "-c", WATCH.read_text(encoding="utf-8"), *map(str, folders)],
        stdin=subprocess.DEVNULL,
        stdout=told,
        cwd="/",
        env={},
        user=NOBODY,
        group=NOBODY,
        extra_groups=[],
    )
    deadline = time.monotonic() + 10
    while not os.fstat(told.fileno()).st_size:
        assert time.monotonic() < deadline and process.poll() is None, "nobody watches"
        time.sleep(0.02)
    return Watcher(process, told)


class World(Fleet):
    NAME = "leaks"
    PASSWORD = 'vault "pass" & <word>/' + random.token_urlsafe(15)
    FIRST_PORT = 18760
    SUBNETS = "10.203.0.0/16"

    def __init__(self, home: Path, simulator: Simulator, collections: Path) -> None:
        self.needles = Needles()
        self.done: list[Done] = []
        self.own_secrets = {
            client: f'{client} "env" & <ü>/{random.token_urlsafe(15)}' for client in WEBUI
        }
        self.tokens = {name: random.token_urlsafe(24) for name in ENVIRONMENT[1:]}
        self.dump = home / "dump.jsonl"
        self.log = home / "ansible.log"
        self.hooked = home / "hooked"
        super().__init__(home, simulator, collections)
        self._plant()
        self.made: list[str] = []

    # What the operator has

    def _prepare(self) -> None:
        inventory = self.home / "inventory"
        for file in (inventory / "clients").iterdir():
            file.unlink()
        (self.home / "vault-password").write_text(self.PASSWORD)
        (self.home / "vault-password").chmod(0o600)
        config = self.read("fleet.yml")
        for name in ("secrets", "state", "journal"):
            del config[name]
        config.update(
            fleet=self.NAME,
            directory=str(self.home / "server"),
            openrouter_url=self.simulator.url,
            first_port=self.FIRST_PORT,
            subnets=self.SUBNETS,
        )
        self.write("fleet.yml", config)
        self.servers()
        vault = VaultLib([("default", VaultSecret(self.PASSWORD.encode()))])
        for client in (*WEBUI, FILES_ONLY):
            self._client(client, vault)
        self._hook()

    def servers(self, **more: Any) -> None:
        here = {"ansible_connection": "local", "ansible_python_interpreter": PYTHON}
        hooks = {name: [str(self.hooked / "hook")] for name in ("before", "after", "failure")}
        hosts = {"web1": here, **more}
        self.write("servers.yml", {"servers": {"hosts": hosts, "vars": {"fleet_hooks": hooks}}})

    def _client(self, name: str, vault: VaultLib) -> None:
        file = self.home / "inventory" / "clients" / f"{name}.yml"
        content = {
            "schema": 1,
            "organization": f"{name} GmbH",
            "server": "web1",
            "models": MODELS,
            "spending_limit": 50,
            "admin_email": f"it@{name.replace('_', '-')}.example",
        }
        if name == FILES_ONLY:
            content["instance"] = "none"
        text = yaml.safe_dump(content)
        if name in self.own_secrets:
            lines = vault.encrypt(self.own_secrets[name]).decode().splitlines()
            text += "env:\n  SMTP_PASSWORD: !vault |\n"
            text += "".join(f"    {line}\n" for line in lines)
        file.write_text(text, encoding="utf-8")

    def _hook(self) -> None:
        """A hook that keeps what it gets, where only its own user can read it."""
        self.hooked.mkdir(mode=0o700)
        hook = self.hooked / "hook"
        kept = self.hooked / "kept"
        hook.write_text(f"#!/bin/sh\nunset LEAKS_HOOK_TOKEN\n{{ env; cat; }} >> {kept}\n")
        hook.chmod(0o700)

    def _plant(self) -> None:
        self.needles.plant("the vault password", self.PASSWORD)
        self.needles.plant("OPENROUTER_MANAGEMENT_KEY", self.simulator.management_key)
        for name, token in self.tokens.items():
            self.needles.plant(name, token)
        for client, secret in self.own_secrets.items():
            self.needles.plant(f"{client} SMTP_PASSWORD", secret, client)

    # Runs

    def environment_of(self, changes: Mapping[str, str]) -> dict[str, str]:
        home = self.home
        given = {
            **{name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL") if name in os.environ},
            "HOME": str(home / "operator"),
            "ANSIBLE_CONFIG": str(home / "inventory" / "ansible.cfg"),
            "ANSIBLE_COLLECTIONS_PATH": str(self._collections),
            "ANSIBLE_VAULT_PASSWORD_FILE": str(home / "vault-password"),
            "ANSIBLE_HOME": str(home / "operator" / ".ansible"),
            "ANSIBLE_LOG_PATH": str(self.log),
            "ANSIBLE_CACHE_PLUGIN": "jsonfile",
            "ANSIBLE_CACHE_PLUGIN_CONNECTION": str(home / "facts"),
            "ANSIBLE_RETRY_FILES_ENABLED": "true",
            "ANSIBLE_RETRY_FILES_SAVE_PATH": str(home / "retry"),
            "ANSIBLE_REMOTE_TEMP": str(home / "remote-tmp"),
            "ANSIBLE_LOCAL_TEMP": str(home / "local-tmp"),
            "ANSIBLE_CALLBACK_PLUGINS": str(CALLBACKS),
            "ANSIBLE_CALLBACKS_ENABLED": "dump",
            "ANSIBLE_DEBUG": "false",
            "ANSIBLE_NOCOLOR": "1",
            "LEAKS_DUMP": str(self.dump),
            "OPENROUTER_MANAGEMENT_KEY": self.simulator.management_key,
            **self.tokens,
        }
        return {**given, **changes}

    def act(
        self,
        title: str,
        playbook: str,
        *arguments: str,
        status: tuple[int, ...] = (0,),
        shows: tuple[str, ...] = (),
        stop: tuple[str, int] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Run:
        """A run of a playbook with everything that can be told told.

        :param status: how it may end
        :param stop: a text, and the signal that the whole run gets when the text was printed
        """
        started = time.monotonic()
        name = playbook if playbook.endswith(".yml") else f"mai.fleet.{playbook}"
        command = [
            str(Path(sys.executable).with_name("ansible-playbook")),
            *(name, "-vvvv", "--diff", *arguments),
        ]
        printed = self.home / "printed"
        for mine in (printed, self.dump):
            mine.touch(0o600)
        with printed.open("wb") as screen:
            process = subprocess.Popen(
                command,
                cwd=self.home / "inventory",
                env=self.environment_of(environment or {}),
                stdin=subprocess.DEVNULL,
                stdout=screen,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            if stop:
                self._stop(process, printed, *stop)
            ended = process.wait(timeout=600)
        run = Run(ended, printed.read_text(encoding="utf-8", errors="replace"))
        self._collect()
        took = time.monotonic() - started
        print(f"  {title}: status {ended}, {len(run.output)} characters, {took:.0f} s", flush=True)
        self.done.append(Done(title, run, shows))
        # A callback that fails only warns, and then nothing more is written down.
        assert "Callback dispatch" not in run.output, run.output
        if ended not in status:
            raise AssertionError(f"{title} ended with {ended}:\n{run.output[-6000:]}")
        return run

    def _stop(self, process: subprocess.Popen[bytes], printed: Path, text: str, sign: int) -> None:
        deadline = time.monotonic() + 120
        while text.encode() not in printed.read_bytes():
            assert process.poll() is None, f"it ended before {text!r}"
            assert time.monotonic() < deadline, f"it never came to {text!r}"
            time.sleep(0.02)
        time.sleep(0.1)
        os.killpg(process.pid, sign)
        try:
            process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            # Ansible waits for ever now and then, for a worker that is gone; so does no person.
            os.killpg(process.pid, signal.SIGKILL)

    def _collect(self) -> None:
        """The secrets that there are now: they are gone when the next run is over."""
        for file in sorted((self.home / "inventory" / "secrets").glob("*.yml")):
            for name, secret in self.secrets(file.stem).items():
                self.needles.plant(f"{file.stem} {name}", secret, file.stem)
        for number, secret in enumerate(self.made):
            self.needles.plant(f"key {number} of OpenRouter's", secret)

    def secrets(self, client: str) -> dict[str, str]:
        vault = VaultLib([("default", VaultSecret(self.PASSWORD.encode()))])
        data = (self.home / "inventory" / "secrets" / f"{client}.yml").read_bytes()
        return dict(yaml.safe_load(vault.decrypt(data)))


@contextlib.contextmanager
def recorded(made: list[str]) -> Iterator[None]:
    """Keep every key that the simulator makes, also those that no client ever gets."""
    real = simulated_keys.new_secret

    def new_secret() -> str:
        secret = real()
        made.append(secret)
        return secret

    simulated_keys.new_secret = new_secret
    try:
        yield
    finally:
        simulated_keys.new_secret = real
