# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Leaks on purpose, one of each kind: a search that does not find them finds nothing.

Each is the same secret in another form, so that forms are controlled as well.
"""

from __future__ import annotations

import os
import secrets as random
import subprocess
import time
from pathlib import Path

import yaml

from leaks.needles import forms
from leaks.places import KEPT_BY_DOCKER, volume
from leaks.world import NOBODY, PYTHON, WEBUI, World

NAME = "a control"
IMAGE = "mai-fleet/leaks-control"
#: Every kind of place that the suite knows.
KINDS = frozenset(
    {
        "screen",
        "log",
        "results",
        "registered variables",
        "fact cache",
        "retry file",
        "temporary file",
        "home",
        "hook",
        "inventory",
        "git",
        "server",
        "container's environment",
        "docker inspect",
        "docker logs",
        "image",
        "volume",
        "seen by others: /proc/PID/cmdline",
        "seen by others: /proc/PID/environ",
        "seen by others: readable file",
    }
)


class Controls:
    def __init__(self, world: World) -> None:
        self._world = world
        self._secret = f'control "&" <ü>/{random.token_urlsafe(24)}'
        self._forms = list(forms(self._secret).values())
        self._files: list[Path] = []
        world.needles.plant(NAME, self._secret)

    def leak(self) -> None:
        """A playbook that shows the secret, and things that lie around."""
        world, home = self._world, self._world.home
        play = {
            "hosts": "web1",
            "gather_facts": False,
            "tasks": [
                {
                    "ansible.builtin.set_fact": {
                        "leaked": "{{ lookup('env', 'LEAKS_CONTROL') }}",
                        "cacheable": True,
                    }
                },
                {"ansible.builtin.debug": {"var": "leaked"}},
            ],
        }
        playbook = home / "control.yml"
        playbook.write_text(yaml.safe_dump([play]))
        world.act("a control", str(playbook), environment={"LEAKS_CONTROL": self._secret})
        self._write(home / "retry" / "control.retry")
        self._write(home / "remote-tmp" / "control")
        self._write(home / "operator" / "control")
        self._write(home / "hooked" / "control")
        self._write(home / "inventory" / "control.txt")
        # In its right place, but of the wrong client; and in the right place, but readable.
        self._write(home / "server" / WEBUI[0] / ".env.control", mode=0o600)
        self._write(volume(world, WEBUI[1]) / "control")
        self._write(Path(f"/tmp/leaks-control-{os.getpid()}"), mode=0o644)
        self._process()
        self._container()
        time.sleep(1)

    def _form(self) -> str:
        """The next form, so that all have their turn."""
        self._forms.append(self._forms.pop(0))
        return self._forms[-1]

    def _write(self, path: Path, mode: int = 0o600) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"something = {self._form()};", encoding="utf-8")
        path.chmod(mode)
        self._files.append(path)

    def _process(self) -> None:
        """Half a second is what a module takes."""
        subprocess.run(
            [PYTHON, "-c", "import time; time.sleep(0.5)", self._form()],
            env={"CONTROL": self._form()},
            user=NOBODY,
            group=NOBODY,
            extra_groups=[],
            cwd="/",
            check=True,
        )

    def _container(self) -> None:
        docker = self._world.docker
        image = self._world.container(WEBUI[0]).image
        made = docker.containers.create(image.id)
        made.commit(IMAGE, changes=f"LABEL control={self._forms[0]!r}")
        made.remove()
        labels = {
            "mai.fleet.fleet": self._world.NAME,
            "mai.fleet.client": WEBUI[0],
            "control": self._form(),
        }
        said = f"print({self._form()!r})"
        docker.containers.run(
            IMAGE,
            ["python3", "-c", said],
            environment={KEPT_BY_DOCKER[0]: self._form(), "ANOTHER": self._form()},
            labels=labels,
            detach=True,
            network_mode="none",
        ).wait()

    def clean(self) -> None:
        for path in self._files:
            path.unlink(missing_ok=True)
        docker = self._world.docker
        for container in docker.containers.list(all=True, filters={"ancestor": IMAGE}):
            container.remove(force=True)
        for image in docker.images.list(IMAGE):
            docker.images.remove(str(image.id), force=True)
