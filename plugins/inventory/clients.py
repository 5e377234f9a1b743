# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: clients
short_description: A fleet's clients, one YAML file each
version_added: 0.1.0
author: mai.fleet contributors (@mai-fleet)
description:
  - Reads C(clients/NAME.yml), one file a client, fills in what the client's plan says, checks
    everything, and hangs each client on its server.
  - Makes a group C(client_NAME) for each client, C(plan_NAME) for each plan, C(ring_NAME) for each
    ring (clients that change together), and C(fleet) around them, so that
    C(ansible-inventory --graph) shows the fleet.
  - The servers come from any other inventory source, which has to be named before this one.
  - Mistakes never raise, because Ansible would go on with an empty inventory and exit status 0.
    They travel in the variable C(fleet_errors), and the first task of every playbook fails on them.
  - The file that configures this plugin has to be named C(fleet.yml). Name it, and not the directory
    it lies in, as the inventory. Ansible reads directories recursively and would take client files
    for inventories.
options:
  plugin:
    description: Always V(mai.fleet.clients).
    type: str
    required: true
    choices: [mai.fleet.clients]
  schema:
    description: The version of this file's layout.
    type: int
    required: true
  fleet:
    description:
      - The fleet's name. It marks the fleet's keys and guardrails at OpenRouter, so it cannot be
        changed once there are clients.
      - It has 2 to 31 characters, a lowercase letter first, then lowercase letters, digits and underscores.
    type: str
    required: true
  clients:
    description: The directory with one C(NAME.yml) per client, relative to this file.
    type: str
    default: clients
  plans:
    description: The file with the plans, relative to this file. It may be missing.
    type: str
    default: plans.yml
  secrets:
    description: >-
      The directory with one file per client, relative to this file, for the secret stores that keep
      files.
    type: str
    default: secrets
  secret_store:
    description:
      - Where the secrets of clients are kept. C(type) is one of V(vault_files), V(sops),
        V(hashi_vault) and V(command); what else it holds depends on that, and C(docs/secrets.md)
        explains it.
      - Other options than those that name the place can change at any time. A change of the place
        needs C(ansible-playbook mai.fleet.move_secrets), and until then every run is refused.
    type: dict
    default:
      type: vault_files
  workspace_lasts:
    description: >-
      Says that the files of this controller last although it looks like a job of CI or AWX, whose
      files are thrown away after the run. Without it, a run that would keep secrets, records or journals
      there is refused.
    type: bool
    default: false
  state:
    description: >-
      The directory with what the collection has to remember of each client (no secrets),
      relative to this file.
    type: str
    default: state
  journal:
    description: >-
      The directory with what was done to each client, one file per client that is only ever added
      to (no secrets), relative to this file.
    type: str
    default: journal
  exports:
    description: >-
      The directory for the data of clients that go, one archive each (personal data, only for its
      owner to read), relative to this file.
    type: str
    default: exports
  exports_on_server:
    description: >-
      Leave the archives on the server instead, in the directory that is named like O(directory)
      with C(-exports) added.
    type: bool
    default: false
  volume_hold_days:
    description: >-
      For how many days the data of a client that is gone is held on its server. A plan or a client
      may say otherwise.
    type: int
    default: 30
  openrouter_url:
    description: The address of OpenRouter's API. Leave it alone unless you rehearse with a simulator.
    type: str
    default: https://openrouter.ai/api/v1
    env:
      - name: FLEET_OPENROUTER_URL
  directory:
    description: The directory on every server below which each client has one of its own.
    type: str
    default: /srv/mai
    env:
      - name: FLEET_DIRECTORY
  version:
    description: The version of Open WebUI for clients whose file and plan do not name one.
    type: str
    default: 0.12.4
  image:
    description: The image's reference. C({version}) stands for the client's version.
    type: str
    default: ghcr.io/open-webui/open-webui:v{version}-slim
  image_digests:
    description: The image's digest for each version, such as C(0.12.4) with C(sha256:...), where known.
    type: dict
    default: {}
  image_mirror:
    description: A registry that is asked instead of the image's own.
    type: str
  image_archive:
    description: >-
      An image archive (C(docker save)) on the controller, sent once to a server that lacks the
      image, instead of a pull. C({version}) stands for the version. Relative to this file.
    type: str
  first_port:
    description: Clients that name no port get the first free one of their server from here on.
    type: int
    default: 18000
  subnets:
    description: >-
      The network from which each client gets a subnet of 16 addresses of its own on its server.
      It holds 4096 clients with its default, where Docker's own pools end at about 30.
    type: str
    default: 10.201.0.0/16
  lock:
    description:
      - Where runs see that another one is changing the fleet at OpenRouter. Either C(server), the name
        of a server of the inventory, or C(directory), one that all controllers have mounted, relative
        to this file.
      - Name one if there is more than one controller. Without it, only servers are locked, each while a
        run works on clients there.
    type: dict
    default: {}
  foreign_keys:
    description:
      - >-
        What becomes of a key that is none of the fleet's and that a client's administrator typed into the
        connection to OpenRouter, for clients whose file and plan do not say it.
      - V(report) leaves it, and the client fails; V(keep) leaves it, and the gates take it; V(adopt) makes it
        the client's key if it is a key of this account; V(revert) puts the client's key back.
      - A key of another client of the fleet is replaced in any case, and the client fails.
    type: str
    choices: [report, keep, adopt, revert]
    default: report
"""

EXAMPLES = r"""
# fleet.yml
plugin: mai.fleet.clients
schema: 1
fleet: acme_hosting

# Named on the command line, servers first:
# ansible-inventory -i servers.yml -i fleet.yml --graph
"""

import os
from pathlib import Path
from typing import Any

from ansible import constants as C
from ansible import context
from ansible.inventory.data import InventoryData
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.inventory import BaseInventoryPlugin
from ansible_collections.mai.fleet.plugins.module_utils._errors import describe
from ansible_collections.mai.fleet.plugins.module_utils._fleet.names import did_you_mean
from ansible_collections.mai.fleet.plugins.module_utils._fleet.schema import (
    Problem,
    check_options,
    check_schema,
    clashes,
    read_plans,
    resolve,
)
from ansible_collections.mai.fleet.plugins.module_utils._fleet.selection import shared_groups
from ansible_collections.mai.fleet.plugins.module_utils._fleet.stores import check_store
from ansible_collections.mai.fleet.plugins.plugin_utils._yaml import printable, read, shown

_OPTIONS = (
    "openrouter_url",
    "directory",
    "version",
    "image",
    "image_digests",
    "image_mirror",
    "image_archive",
    "first_port",
    "subnets",
    "lock",
    "secret_store",
    "workspace_lasts",
    "foreign_keys",
    "exports_on_server",
    "volume_hold_days",
)

_NO_CLIENTS = "the directory with the clients does not exist"


class InventoryModule(BaseInventoryPlugin):
    NAME = "mai.fleet.clients"

    def verify_file(self, path: str) -> bool:
        return bool(super().verify_file(path)) and os.path.basename(path) in (
            "fleet.yml",
            "fleet.yaml",
        )

    def parse(
        self, inventory: InventoryData, loader: DataLoader, path: str, cache: bool = True
    ) -> None:
        super().parse(inventory, loader, path, cache)
        inventory.add_group("fleet")
        problems: list[Problem] = []
        config: dict[str, Any] = {"file": path}
        clients: dict[str, dict[str, Any]] = {}
        try:
            config, problems = self._config(path, self._read_config_data(path))
            problems += self._lock(config, inventory)
            clients, found = self._clients(config, inventory)
            problems += found
        except Exception as error:  # pylint: disable=broad-exception-caught
            # Raised, it would be a warning and an empty inventory; as data, every playbook fails.
            problems.append(Problem(f"{error}", shown(path), "mend the file that is named"))
        problems += self._other_sources(path, inventory)
        self._publish(inventory, config, clients, problems)

    def _config(self, path: str, given: dict[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
        base = Path(path).resolve().parent
        options = self.get_options()
        problems = check_schema(options, shown(path))
        problems += check_options({**given, **options}, options, shown(path))
        problems += check_store(options["secret_store"], f"{shown(path)}: secret_store")
        config = {name: options[name] for name in _OPTIONS}
        config["openrouter_url"] = config["openrouter_url"].rstrip("/")
        config.update(name=options["fleet"], file=path)
        for name in ("clients", "plans", "secrets", "state", "journal", "exports"):
            config[name] = str(base / options[name])
        if config["image_archive"]:
            config["image_archive"] = os.path.normpath(base / config["image_archive"])
        return config, problems

    def _lock(self, config: dict[str, Any], inventory: InventoryData) -> list[Problem]:
        lock = config["lock"]
        if "directory" in lock:
            config["lock"] = {
                "directory": str(Path(config["file"]).resolve().parent / lock["directory"])
            }
        server = lock.get("server")
        if server is None or server in inventory.hosts:
            return []
        known = sorted(inventory.hosts)
        todo = (
            did_you_mean(str(server), known) or f"name one of: {', '.join(known) or 'none so far'}"
        )
        return [Problem(f"unknown server {server}", f"{shown(config['file'])}: lock.server", todo)]

    def _clients(
        self, config: dict[str, Any], inventory: InventoryData
    ) -> tuple[dict[str, dict[str, Any]], list[Problem]]:
        plans: dict[str, dict[str, Any]] = {}
        if os.path.exists(config["plans"]):
            content, problems = read(config["plans"])
            if not problems:
                plans, problems = read_plans(content, shown(config["plans"]))
            if problems:
                # Every client of a plan would seem to be wrong as well.
                return {}, problems
        directory = Path(config["clients"])
        if not directory.is_dir():
            todo = "make it, with one file a client, or let mai.fleet.adopt do it"
            return {}, [Problem(_NO_CLIENTS, shown(config["clients"]), todo)]
        servers = sorted(inventory.hosts)
        clients: dict[str, dict[str, Any]] = {}
        problems = []
        for file in sorted(directory.iterdir()):
            name, where = printable(file.stem), shown(str(file))
            if file.name.startswith(".") or file.suffix.lower() not in (".yml", ".yaml"):
                continue
            if file.suffix != ".yml":
                problems.append(Problem("client files end in .yml", where, "rename it", name))
                continue
            content, found = read(str(file), name)
            if not found:
                client, found = resolve(name, content, where, plans, servers, config["version"])
                if not found:
                    clients[name] = client
            problems += found
        return clients, [*problems, *clashes(clients)]

    def _other_sources(self, path: str, inventory: InventoryData) -> list[Problem]:
        """Ways of naming the inventory that do not give what they seem to."""
        problems = []
        if "fleet_config" in inventory.groups["all"].get_vars():
            problems.append(
                Problem(
                    "a second fleet in one inventory", shown(path), "name one fleet.yml in a run"
                )
            )
        sources = context.CLIARGS.get("inventory") or C.config.get_config_value("DEFAULT_HOST_LIST")
        for source in sources:
            directory = Path(source)
            if directory.is_dir() and directory.resolve() in Path(path).resolve().parents:
                what = f"the inventory was named as a directory, {source}"
                todo = "name its files, the servers first: -i servers.yml -i fleet.yml"
                problems.append(Problem(what, shown(path), todo))
        return problems

    def _publish(
        self,
        inventory: InventoryData,
        config: dict[str, Any],
        clients: dict[str, dict[str, Any]],
        problems: list[Problem],
    ) -> None:
        on_server: dict[str, dict[str, Any]] = {}
        for name, client in clients.items():
            group = inventory.add_group(f"client_{name}")
            shared = shared_groups(client)
            for above in shared:
                inventory.add_group(above)
                inventory.add_child(above, group)
                inventory.add_child("fleet", above)
            if not shared:
                inventory.add_child("fleet", group)
            inventory.add_child(group, client["server"])
            on_server.setdefault(client["server"], {})[name] = client
        for server, its_clients in on_server.items():
            inventory.set_variable(server, "fleet_clients", its_clients)
        inventory.set_variable("all", "fleet_config", config)
        inventory.set_variable("all", "fleet_errors", [problem.as_dict() for problem in problems])
        for problem in problems:
            line = f"mai.fleet: {describe(problem.as_dict())}"
            if problem.what == _NO_CLIENTS:
                # No error to mai.fleet.adopt, which makes it; every other playbook fails on it.
                self.display.display(line, stderr=True)
            else:
                self.display.error(line)
