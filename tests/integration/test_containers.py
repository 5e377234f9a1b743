# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules for files, images and containers on the real Docker and Compose.

Most instances here run a tiny web server, which starts at once and misbehaves on demand. What
matters of the real image is tested with the real image.
"""

from __future__ import annotations

import importlib
import io
import ipaddress
import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import docker
import jinja2
import pytest
import requests
from docker.models.containers import Container

pytestmark = pytest.mark.docker

REPOSITORY = Path(__file__).resolve().parents[2]
TEMPLATES = REPOSITORY / "roles" / "files" / "templates"
OPEN_WEBUI = os.environ.get("MAI_FLEET_WEBUI_IMAGE", "mai-fleet/open-webui:0.12.4-slim")
FLEET = "t_fleet"
KEY = "sk-or-v1-" + "ab12" * 16
PASSWORD = 'it\'s a $ecret \\ "word"'
# What the instance does, by the value of BEHAVIOUR; the check of the template calls python3.
START = """#!/bin/sh
trap 'exit 0' TERM
[ -z "$SAY" ] || echo "$SAY $OPENROUTER_API_KEY $WEBUI_ADMIN_PASSWORD"
case "$BEHAVIOUR" in
    crash) echo "cannot start with $WEBUI_ADMIN_PASSWORD and $OPENROUTER_API_KEY" >&2; exit 7 ;;
    mute) sleep 600 & wait ;;
esac
mkdir -p /www
echo ready >/www/ready
httpd -f -p 8080 -h /www &
wait
"""
CHECK = """#!/bin/sh
wget -q -O /dev/null http://127.0.0.1:8080/ready
"""
BCRYPT_OF_MAI = "$2b$05$abcdefghijklmnopqrstuuK0m8V/6iFJyohLyFyCkwgHQVpm3hVZ."
APPLETS = [
    "cat",
    "date",
    "env",
    "httpd",
    "ip",
    "mkdir",
    "rm",
    "sh",
    "sleep",
    "timeout",
    "touch",
    "wget",
]


def plugin(name: str) -> Any:
    return importlib.import_module(f"ansible_collections.mai.fleet.plugins.{name}")


def package(name: str, folder: Path) -> Path:
    """The unpacked files of a Debian package; nothing is installed."""
    download = ["apt-get", "download", name]
    if subprocess.run(download, cwd=folder, check=False, capture_output=True).returncode != 0:
        subprocess.run(["apt-get", "update"], check=True, capture_output=True)
        subprocess.run(download, cwd=folder, check=True)
    (archive,) = folder.glob("*.deb")
    subprocess.run(["dpkg", "-x", str(archive), str(folder / "tree")], check=True)
    return folder / "tree"


@pytest.fixture(scope="session", autouse=True)
def importable(collections_path: Path) -> None:
    sys.path.insert(0, str(collections_path))


@pytest.fixture(scope="session")
def engine() -> docker.DockerClient:
    return docker.from_env()


@pytest.fixture(scope="session")
def busybox(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = package("busybox-static", tmp_path_factory.mktemp("busybox")) / "bin" / "busybox"
    return path.read_bytes()


def tiny_image(engine: docker.DockerClient, busybox: bytes, name: str, note: str = "") -> str:
    """An image that does what START says; returns its id."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        files = {"bin/busybox": busybox, "start": START.encode(), "bin/python3": CHECK.encode()}
        for path, content in {**files, "note": note.encode()}.items():
            entry = tarfile.TarInfo(path)
            entry.mode, entry.size = 0o755, len(content)
            archive.addfile(entry, io.BytesIO(content))
        for applet in APPLETS:
            entry = tarfile.TarInfo(f"bin/{applet}")
            entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(entry)
    repository, _colon, tag = name.rpartition(":")
    engine.api.import_image_from_data(
        buffer.getvalue(), repository=repository, tag=tag, changes=['CMD ["/start"]']
    )
    return str(engine.images.get(name).id)


@pytest.fixture(scope="session")
def tiny(engine: docker.DockerClient, busybox: bytes) -> Iterator[str]:
    name = f"mai-fleet-test/tiny:{secrets.token_hex(4)}"
    tiny_image(engine, busybox, name)
    yield name
    engine.images.remove(name, force=True)


def call(capsys: pytest.CaptureFixture[str], name: str, options: Any, **how: bool) -> Any:
    """Run a module in this process and return its result."""
    from ansible.module_utils.testing import patch_module_args

    arguments = {
        **options,
        "_ansible_check_mode": how.get("check", False),
        "_ansible_diff": how.get("diff", True),
    }
    with patch_module_args(arguments), pytest.raises(SystemExit):
        plugin(f"modules.{name}").main()
    return json.loads(capsys.readouterr().out)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """This machine as a server: clients whose names nobody else uses, files and containers."""

    def __init__(self, home: Path, engine: docker.DockerClient, image: str, capsys: Any) -> None:
        self.directory = home / "mai"
        self.engine = engine
        self.prefix = f"t_{secrets.token_hex(3)}_"
        self.clients: dict[str, dict[str, Any]] = {}
        self._image = image
        self._capsys = capsys
        # Room for 64 clients.
        block = ipaddress.ip_network(f"10.203.{4 * secrets.randbelow(60)}.0/22")
        self._subnets = block.subnets(new_prefix=28)

    def subnet(self) -> str:
        """One that no other client here has."""
        return str(next(self._subnets))

    def client(self, short: str, **how: Any) -> str:
        """Write a client's files; ``how`` overrides what the templates get."""
        name = self.prefix + short
        known = self.clients.setdefault(
            name,
            {
                "port": free_port(),
                "subnet": self.subnet(),
                "digest": "one",
                "image": self._image,
            },
        )
        known.update({key: value for key, value in how.items() if key in known})
        env = {"OPENROUTER_API_KEY": KEY, "WEBUI_ADMIN_PASSWORD": PASSWORD, **how.get("env", {})}
        variables = {
            "client": {
                "name": name,
                "display_name": how.get("display_name", "Łódź & $ons"),
                "memory": how.get("memory", "64m"),
                "cpus": how.get("cpus", 0.5),
                "port": known["port"],
                "volume": how.get("volume"),
            },
            "fleet": FLEET,
            "env": env,
            **{key: known[key] for key in ("subnet", "digest", "image")},
        }
        compose = render("compose.yml.j2", variables)
        for old, new in how.get("replace", {}).items():
            assert old in compose
            compose = compose.replace(old, new)
        texts = {name: {"compose.yml": compose, ".env": render("env.j2", variables)}}
        result = self.files([{"name": name}], texts)
        assert not result["clients"][name]["failed"], result
        return name

    def files(self, clients: list[dict[str, str]], texts: dict[str, Any]) -> Any:
        options = {
            "directory": str(self.directory),
            "clients": clients,
            "secret_names": ["OPENROUTER_API_KEY", "WEBUI_ADMIN_PASSWORD"],
            "secrets": json.dumps(texts),
        }
        return call(self._capsys, "instance_files", options)

    def run(self, *names: str, absent: bool = False, check: bool = False, **options: Any) -> Any:
        """instance_containers for these clients."""
        keys = ("digest", "image", "port", "subnet")
        clients = [
            {"name": name, "state": "absent"}
            if absent
            else {"name": name, **{key: self.clients[name][key] for key in keys}}
            for name in names
        ]
        options = {
            "directory": str(self.directory),
            "fleet": FLEET,
            "clients": clients,
            "secret_names": ["OPENROUTER_API_KEY", "WEBUI_ADMIN_PASSWORD"],
            "timeout": 60,
            **options,
        }
        return call(self._capsys, "instance_containers", options, check=check)

    def up(self, *names: str) -> list[Container]:
        result = self.run(*names)
        assert not any(row["failed"] for row in result["clients"].values()), result
        return [self.container(name) for name in names]

    def container(self, name: str) -> Container:
        return self.engine.containers.get(f"{name}-webui-1")

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.clients[name]['port']}"

    def clean(self) -> None:
        named: dict[str, Any] = {"name": self.prefix}
        # Others may remove containers of theirs while this list is made.
        for container in self.engine.containers.list(True, filters=named, ignore_removed=True):
            container.remove(force=True)
        for network in self.engine.networks.list(filters=named):
            network.remove()
        for volume in self.engine.volumes.list(filters=named):
            volume.remove()


def render(template: str, variables: dict[str, Any]) -> str:
    """What Ansible's own templating makes of it, without Ansible."""
    dotenv = plugin("filter.dotenv").dotenv
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - YAML and .env, not HTML
    )
    environment.filters |= {"mai.fleet.dotenv": dotenv, "to_json": json.dumps}
    return environment.get_template(template).render(variables)


@pytest.fixture
def server(
    tmp_path: Path, engine: docker.DockerClient, tiny: str, capsys: pytest.CaptureFixture[str]
) -> Iterator[Server]:
    server = Server(tmp_path, engine, tiny, capsys)
    yield server
    server.clean()


def life(container: Container) -> tuple[str, str]:
    """What changes when a container is made anew or started again."""
    container.reload()
    return str(container.id), container.attrs["State"]["StartedAt"]


def environment(container: Container) -> dict[str, str]:
    """What the main process got, as the kernel tells."""
    code, output = container.exec_run(["cat", "/proc/1/environ"])
    assert code == 0
    assert isinstance(output, bytes)
    return pairs(output.decode().split("\0")[:-1])


def pairs(entries: list[str]) -> dict[str, str]:
    """Names and values of NAME=value entries."""
    return {name: value for name, _equals, value in (entry.partition("=") for entry in entries)}


# One client, from nothing to nothing


def test_a_client_comes_up_and_stays(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    name = server.client("one")
    checked = server.run(name, check=True)
    row = checked["clients"][name]
    assert row["changed"] is True
    assert row["before"] == {
        "container": "absent",
        "digest": None,
        "image": None,
        "started_at": None,
    }
    assert server.engine.containers.list(all=True, filters={"name": name}) == []

    created = server.run(name)
    container = server.container(name)
    assert requests.get(f"{server.url(name)}/ready", timeout=5).status_code == 200
    row = created["clients"][name]
    assert row["changed"] is True
    assert row["after"] == {
        "container": "running",
        "digest": "one",
        "image": server.clients[name]["image"],
        "started_at": container.attrs["State"]["StartedAt"],
    }
    assert created["diff"] == checked["diff"]
    assert "+" not in created["diff"][0]["before"]

    before = life(container)
    # Without a docker command: an unchanged client costs no process.
    monkeypatch.setenv("PATH", "/nonexistent")
    again = server.run(name)
    assert again["changed"] is False
    assert again["diff"] == []
    assert again["clients"][name]["before"] == again["clients"][name]["after"] == row["after"]
    assert life(container) == before


def test_the_container_is_fenced(server: Server) -> None:
    name = server.client("one")
    (container,) = server.up(name)
    host = container.attrs["HostConfig"]
    port = str(server.clients[name]["port"])
    assert host["PortBindings"] == {"8080/tcp": [{"HostIp": "127.0.0.1", "HostPort": port}]}
    assert host["RestartPolicy"]["Name"] == "unless-stopped"
    assert host["Memory"] == 64 * 1024 * 1024
    assert host["NanoCpus"] == 500_000_000
    assert host["PidsLimit"] == 512
    assert host["SecurityOpt"] == ["no-new-privileges:true"]
    assert host["CapDrop"] == ["ALL"]
    assert host["LogConfig"] == {
        "Type": "json-file",
        "Config": {"max-size": "10m", "max-file": "3"},
    }
    assert container.attrs["Config"]["StopTimeout"] >= 60
    assert [mount["Name"] for mount in container.attrs["Mounts"]] == [f"{name}_data"]
    labels = container.labels
    assert labels["mai.fleet.client"] == name
    assert labels["mai.fleet.fleet"] == FLEET
    assert labels["mai.fleet.boot"] == "one"
    assert labels["mai.fleet.display_name"] == "Łódź & $ons"


def test_another_digest_makes_a_new_container_and_keeps_the_data(server: Server) -> None:
    name = server.client("one")
    (old,) = server.up(name)
    old.exec_run(["touch", "/app/backend/data/kept"])
    server.client("one", digest="two")
    checked = server.run(name, check=True)
    result = server.run(name)
    new = server.container(name)
    row = result["clients"][name]
    assert checked["clients"][name]["changed"] is row["changed"] is True
    assert (row["before"]["digest"], row["after"]["digest"]) == ("one", "two")
    assert new.id != old.id
    assert new.exec_run(["cat", "/app/backend/data/kept"])[0] == 0
    assert server.run(name)["changed"] is False


def test_another_subnet_makes_a_new_network(server: Server) -> None:
    name = server.client("one")
    server.up(name)
    wanted = server.subnet()
    server.client("one", digest="two", subnet=wanted)
    (container,) = server.up(name)
    _gateway, address = addresses(container)
    assert ipaddress.ip_address(address) in ipaddress.ip_network(wanted)
    assert server.run(name)["changed"] is False


def test_a_template_without_our_labels_is_refused(server: Server) -> None:
    name = server.client("one", replace={"mai.fleet.boot": "another.label"})
    row = server.run(name)["clients"][name]
    assert row["failure"]["what"].startswith("no container has the labels mai.fleet.client and")
    assert row["failure"]["where"] == f"{server.directory}/{name}/compose.yml"


def test_a_seed_value_does_not_touch_the_container(server: Server) -> None:
    name = server.client("one", env={"SEED": "1"})
    (container,) = server.up(name)
    before = life(container)
    server.client("one", env={"SEED": "2"})
    assert server.run(name)["changed"] is False
    assert life(container) == before


def test_another_image_under_the_same_name_makes_a_new_container(
    server: Server, busybox: bytes
) -> None:
    image = f"mai-fleet-test/moving:{secrets.token_hex(4)}"
    first = tiny_image(server.engine, busybox, image, "first")
    name = server.client("one", image=image)
    try:
        (old,) = server.up(name)
        wanted = tiny_image(server.engine, busybox, image, "another")
        result = server.run(name)
        assert result["changed"] is True
        assert server.container(name).id != old.id
        assert server.container(name).attrs["Image"] == wanted
        assert server.run(name)["changed"] is False
    finally:
        server.clean()
        server.engine.images.remove(image)
        server.engine.images.remove(first)


@pytest.mark.parametrize("how", ["stop", "pause", "kill"])
def test_what_does_not_run_is_started_and_not_made_anew(
    server: Server, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = server.client("one", env={"SEED": "1"})
    (container,) = server.up(name)
    # Compose would now make it anew, and must not be asked.
    server.client("one", env={"SEED": "2"})
    monkeypatch.setenv("PATH", "/nonexistent")
    getattr(container, how)()
    assert server.run(name, check=True)["clients"][name]["after"]["container"] == "running"
    row = server.run(name)["clients"][name]
    assert row["failed"] is False, row
    assert row["changed"] is True
    assert row["before"]["container"] == ("paused" if how == "pause" else "exited")
    assert life(container)[0] == server.container(name).id
    assert requests.get(f"{server.url(name)}/ready", timeout=5).status_code == 200
    assert server.run(name)["changed"] is False


def test_a_stopped_container_that_lost_its_network_comes_back(server: Server) -> None:
    name = server.client("one")
    (container,) = server.up(name)
    container.stop()
    (network,) = server.engine.networks.list(names=[f"{name}_default"])
    network.remove()
    row = server.run(name)["clients"][name]
    assert row["failed"] is False, row
    assert requests.get(f"{server.url(name)}/ready", timeout=5).status_code == 200
    assert server.run(name)["changed"] is False


def test_an_unhealthy_instance_is_restarted(server: Server) -> None:
    quick = {"interval: 120s": "interval: 1s", "start_period: 180s": "start_period: 0s"}
    name = server.client("one", replace=quick)
    (container,) = server.up(name)
    container.exec_run(["rm", "/www/ready"])
    wait_for_health(container, "unhealthy")
    assert server.run(name, check=True)["clients"][name]["before"]["container"] == "unhealthy"
    before = life(container)
    row = server.run(name)["clients"][name]
    assert row["changed"] is True
    assert (row["before"]["container"], row["after"]["container"]) == ("unhealthy", "running")
    assert life(container)[0] == before[0]
    assert life(container)[1] != before[1]
    wait_for_health(container, "healthy")
    assert server.run(name)["changed"] is False


def wait_for_health(container: Container, wanted: str) -> None:
    for _second in range(30):
        container.reload()
        if container.attrs["State"]["Health"]["Status"] == wanted:
            return
        time.sleep(0.5)
    raise AssertionError(container.attrs["State"]["Health"])


def test_an_absent_client_leaves_its_volume(server: Server) -> None:
    name, other = server.client("one"), server.client("two")
    _container, kept = server.up(name, other)
    shutil.rmtree(server.directory / name)
    assert server.run(name, absent=True, check=True)["changed"] is True
    row = server.run(name, absent=True)["clients"][name]
    assert row["changed"] is True
    assert row["after"]["container"] == "absent"
    assert server.engine.containers.list(all=True, filters={"name": name}) == []
    assert server.engine.networks.list(names=[f"{name}_default"]) == []
    assert server.engine.volumes.get(f"{name}_data")
    assert kept.status == "running"
    assert server.run(name, absent=True)["changed"] is False


# Values that are hard on quoting

VALUES = {
    "SPACES": "  around and  within  ",
    "SINGLE": "it's",
    "DOUBLE": 'say "hi"',
    "BOTH": 'it\'s "both"',
    "DOLLAR": "$HOME ${HOME} $$ ${UNSET?error} 5 $",
    "DOLLAR_QUOTE": 'it\'s $HOME "${HOME}" $$',
    "HASH": "# no comment # at all",
    "BACKSLASH": "a\\nb\\\\c\\'d\\",
    "ONLY_BACKSLASH": "\\",
    "LETTERS": "Müller & Söhne, Łódź, Zażółć gęślą jaźń 😀",
    "BRACES": "{{ x }} {% raw %}",
    "SHELL": "`id` $(id) ; ! %",
    "JSON": '{"0":{"model_ids":["a/b:free"],"tags":[{"name":"it\'s"}]}}',
    "TAB": "a\tb",
    "EMPTY": "",
}


def test_every_value_reaches_the_container_unharmed(server: Server) -> None:
    display = 'Łódź $HOME ${HOME} $$ "it\'s" \\ # {{ x }} 😀'
    name = server.client("one", env=VALUES, display_name=display)
    (container,) = server.up(name)
    found = environment(container)
    assert {key: found[key] for key in VALUES} == VALUES
    assert found["WEBUI_ADMIN_PASSWORD"] == PASSWORD
    assert pairs(container.attrs["Config"]["Env"]).items() <= found.items()
    assert container.labels["mai.fleet.display_name"] == display


def test_every_value_survives_interpolation(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An operator's own template may say ${NAME}; the environment of the run is no source."""
    monkeypatch.setenv("SINGLE", "from outside")
    labels = "".join(f'      v.{key}: "${{{key}}}"\n' for key in VALUES)
    name = server.client("one", env=VALUES, replace={"    ports:\n": f"{labels}    ports:\n"})
    (container,) = server.up(name)
    assert {key: container.labels[f"v.{key}"] for key in VALUES} == VALUES


def test_files_find_what_they_wrote(server: Server) -> None:
    name = server.client("one", env=VALUES)
    text = (server.directory / name / ".env").read_text(encoding="utf-8")
    assert VALUES.items() <= plugin("module_utils._dotenv").parse(text).items()


# Failures, each of one client


def test_a_crash_fails_its_client_and_shows_no_secret(server: Server) -> None:
    bad = server.client("bad", env={"BEHAVIOUR": "crash"})
    good = server.client("good")
    result = server.run(bad, good)
    row = result["clients"][bad]
    text = json.dumps(result, ensure_ascii=False)
    assert result["clients"][good]["failed"] is False
    assert row["failed"] is True
    assert re.match(r"its container stopped \d+ times; ", row["failure"]["what"])
    assert "its last exit code is 7" in row["failure"]["what"]
    hidden = plugin("module_utils._secrets").fingerprint
    last = f"cannot start with {hidden(PASSWORD)} and {hidden(KEY)}"
    assert row["log"][-1] == last
    assert row["failure"]["what"].endswith(f"its log ends with: {last}")
    assert row["failure"]["where"] == f"container {bad}-webui-1"
    assert row["failure"]["todo"] == f"see `docker logs {bad}-webui-1`"
    for secret in (KEY, PASSWORD, json.dumps(PASSWORD)[1:-1]):
        assert secret not in text

    # Without the file, nobody knows what is secret in the log.
    (server.directory / bad / ".env").unlink()
    row = server.run(bad)["clients"][bad]
    assert row["failed"] is True
    assert row["log"] == []
    assert "cannot start" not in json.dumps(row)


def test_an_instance_that_does_not_answer_fails_after_the_timeout(server: Server) -> None:
    quick = {"interval: 120s": "interval: 1s"}
    name = server.client("one", env={"BEHAVIOUR": "mute", "SAY": "hello"}, replace=quick)
    begin = time.monotonic()
    row = server.run(name, timeout=4)["clients"][name]
    assert time.monotonic() - begin < 12
    what = row["failure"]["what"]
    assert what.startswith("not ready within 4 s; ")
    assert f"GET {server.url(name)}/ready" in what
    assert "its state is running" in what
    assert "its last health check ended with 1" in what
    assert [line.split()[0] for line in row["log"]] == ["hello"]
    assert KEY not in json.dumps(row)
    again = server.run(name, timeout=1)["clients"][name]
    assert again["failed"] is True
    assert again["changed"] is False


def test_a_taken_port_fails_its_client(server: Server) -> None:
    name = server.client("one")
    with socket.socket() as other:
        other.bind(("127.0.0.1", server.clients[name]["port"]))
        other.listen()
        for _attempt in range(2):
            row = server.run(name, timeout=5)["clients"][name]
            assert row["failure"]["what"].startswith(
                "its port on 127.0.0.1 is taken by something else: "
            )
            assert "another port" in row["failure"]["todo"]
    row = server.run(name)["clients"][name]
    assert row["failed"] is False
    assert row["after"]["container"] == "running"


def test_a_port_of_another_client_fails_the_later_one(server: Server) -> None:
    first = server.client("first")
    server.up(first)
    second = server.client("second", port=server.clients[first]["port"])
    row = server.run(second, timeout=5)["clients"][second]
    assert "is taken by something else" in row["failure"]["what"]


def test_a_taken_subnet_fails_its_client(server: Server) -> None:
    first = server.client("first")
    server.up(first)
    second = server.client("second", subnet=server.clients[first]["subnet"])
    row = server.run(second)["clients"][second]
    assert row["failure"]["what"].startswith("its subnet overlaps with another network")
    assert "another subnet" in row["failure"]["todo"]
    assert row["after"]["container"] == "absent"
    assert row["changed"] is False


def test_a_missing_image_fails_its_client(server: Server) -> None:
    bad = server.client("bad", image="mai-fleet-test/none:1")
    good = server.client("good")
    assert server.run(bad, check=True)["clients"][bad]["failed"] is False
    result = server.run(bad, good)
    assert result["clients"][bad]["failure"]["what"] == (
        "the image mai-fleet-test/none:1 is not on this server"
    )
    assert result["clients"][bad]["changed"] is False
    assert result["clients"][good]["failed"] is False


def test_files_that_compose_refuses_fail_their_client(server: Server) -> None:
    name = server.client("one", memory=KEY)
    row = server.run(name)["clients"][name]
    shown = plugin("module_utils._secrets").fingerprint(KEY)
    assert f"invalid size: '{shown}'" in row["failure"]["what"]
    assert row["failure"]["where"] == f"docker compose --project-name {name} up"
    assert KEY not in json.dumps(row)


def test_a_project_of_somebody_else_is_not_touched(server: Server) -> None:
    name = server.client("one")
    (container,) = server.up(name)
    before = life(container)
    row = server.run(name, fleet="another")["clients"][name]
    assert row["failure"]["what"] == (
        f"a Compose project with this client's name belongs to the fleet {FLEET}"
    )
    assert row["changed"] is False
    assert server.run(name, absent=True, fleet="another")["clients"][name]["changed"] is False
    assert life(container) == before


def test_a_project_without_our_mark_is_not_touched(server: Server, tiny: str) -> None:
    name = server.client("one")
    labels = {"com.docker.compose.project": name}
    mine = server.engine.containers.run(tiny, name=f"{name}-mine", labels=labels, detach=True)
    row = server.run(name)["clients"][name]
    assert row["failure"]["what"].endswith("is not of this fleet")
    assert server.run(name, absent=True)["clients"][name]["changed"] is False
    mine.reload()
    assert mine.status == "running"


def test_what_an_operator_added_to_a_project_is_no_obstacle(server: Server) -> None:
    more = "  more:\n    image: {image}\n    networks: [default]\n\n# Without labels"
    name = server.client("one", replace={"# Without labels": more.format(image=server._image)})
    server.up(name)
    assert server.run(name)["changed"] is False
    assert server.run(name, absent=True)["clients"][name]["failed"] is False
    assert server.engine.containers.list(all=True, filters={"name": name}) == []


# The server as a whole


def test_unlisted_clients_are_named_and_not_touched(server: Server) -> None:
    known, forgotten = server.client("known"), server.client("forgotten")
    _known, container = server.up(known, forgotten)
    before = life(container)
    result = server.run(known, known=[known])
    assert forgotten in result["unlisted"]
    assert known not in result["unlisted"]
    assert result["changed"] is False
    assert server.run(known)["unlisted"] == []
    assert life(container) == before


def test_a_server_without_docker(server: Server) -> None:
    name = server.client("one")
    host = f"unix://{server.directory}/no.sock"
    checked = server.run(name, check=True, docker_host=host)
    assert checked["clients"][name]["changed"] is True
    assert checked["clients"][name]["failed"] is False
    result = server.run(name, docker_host=host)
    assert result["failed"] is True
    assert result["failure"]["where"] == host
    assert "install and start Docker" in result["failure"]["todo"]


def test_a_server_without_compose_fails_only_who_needs_it(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    running, new = server.client("one"), server.client("two")
    server.up(running)
    monkeypatch.setenv("PATH", "/nonexistent")
    rows = server.run(running, new)["clients"]
    assert not rows[running]["failed"]
    assert rows[new]["failure"]["what"] == "there is no docker command"


# Many clients


def test_more_networks_than_docker_has_room_for_by_itself(server: Server) -> None:
    """Docker's own address pools have room for 31; ours are taken from the fleet's block."""
    for number in range(32):
        pool = docker.types.IPAMPool(subnet=server.subnet())
        server.engine.networks.create(
            f"{server.prefix}n{number}", ipam=docker.types.IPAMConfig(pool_configs=[pool])
        )
    names = [server.client(f"c{number}") for number in range(8)]
    server.up(*names)
    assert server.run(*names)["changed"] is False


def test_the_pool_bounds_how_many_start_at_once(server: Server) -> None:
    names = [server.client(f"c{number}", env={"BEHAVIOUR": "mute"}) for number in range(3)]
    begin = time.monotonic()
    rows = server.run(*names, pool=2, timeout=2)["clients"]
    assert all(row["failed"] for row in rows.values())
    assert time.monotonic() - begin > 4
    first, second, third = sorted(row["after"]["started_at"] for row in rows.values())
    assert seconds_between(second, third) > 1.5
    assert seconds_between(first, second) < 1.5


def seconds_between(first: str, second: str) -> float:
    parsed = [datetime.fromisoformat(f"{text[:23]}+00:00") for text in (first, second)]
    return (parsed[1] - parsed[0]).total_seconds()


def test_no_client_reaches_another(server: Server) -> None:
    one, two = server.client("one"), server.client("two")
    first, second = server.up(one, two)
    gateway, address = addresses(second)
    own_gateway, own = addresses(first)
    port = server.clients[two]["port"]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        # Sends nothing: finds this machine's own address.
        probe.connect(("192.0.2.1", 9))
        outside = probe.getsockname()[0]

    assert reaches(first, f"http://{own}:8080/ready")
    assert reaches(second, f"http://{address}:8080/ready")
    assert not reaches(first, f"http://{address}:8080/ready")
    assert not reaches(first, f"http://{two}-webui-1:8080/ready")
    for host in ("127.0.0.1", own_gateway, gateway, outside):
        assert not reaches(first, f"http://{host}:{port}/ready")


def addresses(container: Container) -> tuple[str, str]:
    container.reload()
    (network,) = container.attrs["NetworkSettings"]["Networks"].values()
    return network["Gateway"], network["IPAddress"]


def reaches(container: Container, url: str) -> bool:
    code, _output = container.exec_run(["timeout", "2", "wget", "-q", "-O", "/dev/null", url])
    return bool(code == 0)


# Images


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Debian's registry on a free port of this machine; user and password are ``mai``."""
    home = tmp_path_factory.mktemp("registry")
    program = package("docker-registry", home) / "usr" / "bin" / "docker-registry"
    port = free_port()
    users = home / "users"
    users.write_text(f"mai:{BCRYPT_OF_MAI}\n")
    config = home / "config.yml"
    config.write_text(
        json.dumps(
            {
                "version": 0.1,
                "log": {"level": "error", "accesslog": {"disabled": True}},
                "storage": {"filesystem": {"rootdirectory": str(home / "data")}},
                "http": {"addr": f"127.0.0.1:{port}"},
                "auth": {"htpasswd": {"realm": "test", "path": str(users)}},
            }
        )
    )
    process = subprocess.Popen([str(program), "serve", str(config)], stderr=subprocess.DEVNULL)
    for _attempt in range(50):
        try:
            requests.get(f"http://127.0.0.1:{port}/v2/", timeout=1)
            break
        except requests.ConnectionError:
            time.sleep(0.1)
    yield f"127.0.0.1:{port}"
    process.terminate()
    process.wait()


@pytest.fixture
def published(
    registry: str,
    engine: docker.DockerClient,
    tiny: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[tuple[str, str]]:
    """Name and digest of an image that is in the registry and not on this server."""
    login = {"username": "mai", "password": "mai"}
    name = f"{registry}/some/tiny"
    engine.images.get(tiny).tag(name, "1")
    engine.images.push(name, "1", auth_config=login)
    digest = requests.get(
        f"http://{registry}/v2/some/tiny/manifests/1",
        auth=("mai", "mai"),
        headers={"Accept": "application/vnd.docker.distribution.manifest.v2+json"},
        timeout=5,
    ).headers["Docker-Content-Digest"]
    engine.images.remove(f"{name}:1")
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    (tmp_path / "config.json").write_text(
        json.dumps({"auths": {registry: {"auth": "bWFpOm1haQ=="}}})
    )
    yield name, digest
    for reference in (f"{name}:1", f"{name}@{digest}"):
        subprocess.run(["docker", "rmi", reference], capture_output=True, check=False)


@pytest.mark.parametrize("form", ["{name}:1", "{name}@{digest}", "{name}:1@{digest}"])
def test_an_image_is_pulled_once(
    published: tuple[str, str], capsys: Any, engine: docker.DockerClient, form: str
) -> None:
    name, digest = published
    options = {"image": form.format(name=name, digest=digest)}
    checked = call(capsys, "instance_image", options, check=True)
    assert checked["changed"] is checked["present"] is True
    assert checked["id"] is None
    pulled = call(capsys, "instance_image", options)
    assert pulled["changed"] is pulled["present"] is True
    assert pulled["id"] == engine.images.get(options["image"]).id
    again = call(capsys, "instance_image", options)
    assert again["changed"] is False
    assert again["id"] == pulled["id"]


def test_a_pulled_digest_runs(published: tuple[str, str], server: Server, capsys: Any) -> None:
    image = "{}:1@{}".format(*published)
    assert call(capsys, "instance_image", {"image": image})["changed"] is True
    name = server.client("one", image=image)
    server.up(name)
    assert server.run(name)["changed"] is False
    server.clean()


def test_a_pull_without_a_login_says_what_to_do(
    published: tuple[str, str], capsys: Any, tmp_path: Path
) -> None:
    (tmp_path / "config.json").unlink()
    result = call(capsys, "instance_image", {"image": f"{published[0]}:1"})
    assert result["failure"]["where"] == f"image {published[0]}:1"
    assert result["failure"]["what"].startswith("the image cannot be pulled: ")
    assert "no basic auth credentials" in result["failure"]["what"]


def test_an_unknown_tag_says_what_to_do(published: tuple[str, str], capsys: Any) -> None:
    result = call(capsys, "instance_image", {"image": f"{published[0]}:2"})
    assert "manifest" in result["failure"]["what"]
    assert "image_mirror" in result["failure"]["todo"]
    assert "image_archive" in result["failure"]["todo"]


def test_a_registry_that_does_not_answer_says_what_to_do(capsys: Any) -> None:
    result = call(capsys, "instance_image", {"image": f"127.0.0.1:{free_port()}/a:1"})
    assert "connection refused" in result["failure"]["what"]
    assert "image_mirror" in result["failure"]["todo"]


@pytest.fixture
def archive(tiny: str, engine: docker.DockerClient, tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """The name of an image that is not on this server, and an archive of it."""
    name = f"mai-fleet-test/archived:{secrets.token_hex(4)}"
    engine.images.get(tiny).tag(name)
    path = tmp_path / "image.tar"
    subprocess.run(["docker", "save", "--output", str(path), name], check=True)
    engine.images.remove(name)
    yield name, path
    subprocess.run(["docker", "rmi", name], capture_output=True, check=False)


@pytest.mark.parametrize("packed", [False, True])
def test_an_image_is_loaded_from_an_archive_once(
    archive: tuple[str, Path], capsys: Any, packed: bool
) -> None:
    name, path = archive
    if packed:
        subprocess.run(["gzip", str(path)], check=True)
        path = path.with_suffix(".tar.gz")
    options = {"image": name, "source": "archive", "archive": str(path)}
    present = {"image": name, "source": "present"}
    missing = call(capsys, "instance_image", present)
    assert (missing["changed"], missing["present"], missing["id"]) == (False, False, None)
    assert call(capsys, "instance_image", options, check=True)["changed"] is True
    loaded = call(capsys, "instance_image", options)
    assert loaded["changed"] is True
    path.unlink()
    assert call(capsys, "instance_image", options)["changed"] is False
    assert call(capsys, "instance_image", present)["id"] == loaded["id"]


def test_an_archive_of_another_image_is_named(archive: tuple[str, Path], capsys: Any) -> None:
    name, path = archive
    options = {"image": "mai-fleet-test/wanted:1", "source": "archive", "archive": str(path)}
    result = call(capsys, "instance_image", options)
    assert result["failure"]["what"] == (
        f"expected an archive of mai-fleet-test/wanted:1, it contains {name}"
    )


@pytest.mark.parametrize("content", [None, b"", b"no archive" * 100])
def test_a_bad_archive_is_named(capsys: Any, tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "image.tar"
    if content is not None:
        path.write_bytes(content)
    options = {"image": "mai-fleet-test/wanted:1", "source": "archive", "archive": str(path)}
    result = call(capsys, "instance_image", options)
    assert result["failed"] is True
    assert result["failure"]["where"] == str(path)


def test_an_image_on_a_server_without_docker(capsys: Any, tmp_path: Path) -> None:
    options = {"image": "a:1", "docker_host": f"unix://{tmp_path}/no.sock"}
    checked = call(capsys, "instance_image", options, check=True)
    assert checked["changed"] is True
    result = call(capsys, "instance_image", options)
    assert "install and start Docker" in result["failure"]["todo"]


# The real image


def test_the_real_image_runs_within_the_fence(server: Server) -> None:
    env = {
        "WEBUI_SECRET_KEY": secrets.token_hex(16),
        "WEBUI_NAME": "Łódź & $ons",
        "WEBUI_ADMIN_EMAIL": "anna@example.com",
        "OFFLINE_MODE": "true",
        "RAG_EMBEDDING_ENGINE": "openai",
        "ENABLE_OLLAMA_API": "false",
    }
    name = server.client("real", image=OPEN_WEBUI, env=env, memory="1g", cpus=2)
    result = server.run(name, timeout=180)
    assert result["clients"][name]["failed"] is False, result
    container = server.container(name)
    before = life(container)
    check = container.attrs["Config"]["Healthcheck"]["Test"]
    assert container.exec_run(check[1:])[0] == 0
    assert container.exec_run([*check[1:-1], check[-1].replace("8080", "8081")])[0] != 0
    config = requests.get(f"{server.url(name)}/api/config", timeout=5).json()
    assert config["name"].startswith("Łódź & $ons")
    assert server.run(name)["changed"] is False
    container.stop()
    container.reload()
    # Not killed.
    assert container.attrs["State"]["ExitCode"] == 0
    assert server.run(name, timeout=180)["clients"][name]["changed"] is True
    assert life(server.container(name))[0] == before[0]
