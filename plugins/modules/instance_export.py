#!/usr/bin/python
# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: instance_export
author: mai.fleet contributors (@mai-fleet)
version_added: 0.1.0
short_description: Export the data of clients that go
description:
  - Stops the instances of the given clients and makes an archive of the volume of each, with a
    manifest beside it. Instances stay stopped. Where an export fails, its instance is started again.
  - The archive is read back from the disk, and the database in it is checked, before it counts.
  - An archive has below C(data) what the volume has, with the database as one file, and below
    C(chats) the chats of each person in the form in which Open WebUI imports them.
  - Given keys are taken out of the database of the archive. The secret key of the instance is not
    in the volume and not in the archive.
  - Volumes are read through the Docker Engine and are not changed.
options:
  directory:
    description:
      - Where the archives are made. It is made if it is missing.
      - There has to be room for the compressed data, and for the database twice.
    type: path
    default: /srv/mai-exports
  docker_host:
    description: The socket of the Docker Engine.
    type: str
    default: unix:///var/run/docker.sock
  fleet:
    description: The name of the fleet, which its containers carry in the label C(mai.fleet.fleet).
    type: str
    required: true
  clients:
    description: The clients whose data is exported. Others are not touched.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: The name of the client, and of its Compose project.
        type: str
        required: true
      state:
        description: Whether the archive shall be there. With V(absent), it is removed with its manifest.
        type: str
        choices: [present, absent]
        default: present
      archive:
        description: The file name of the archive, C(NAME-YYYYMMDDTHHMMSSZ.tar.gz).
        type: str
        required: true
      image:
        description: An image that this server has, for reading a volume that no container uses.
        type: str
        default: ""
      volume:
        description: The volume, if it is not the one that Compose made for the client.
        type: str
        default: ""
      key_hashes:
        description: The SHA-256 of keys that shall not be in the archive.
        type: list
        elements: str
        default: []
      about:
        description: What the manifest says besides what the module finds.
        type: dict
        default: {}
  reader:
    description:
      - A directory whose owner is to read the archives, such as the one in which Ansible has its
        temporary files. Without it, only the user that the module runs as can read them.
    type: path
  reserve:
    description: Mebibytes of the disk that have to stay free. An export that would need them fails.
    type: int
    default: 512
  pool:
    description: How many exports are made at the same time.
    type: int
    default: 2
extends_documentation_fragment:
  - mai.fleet.attributes
  - mai.fleet.attributes.full
  - mai.fleet.attributes.server
"""

EXAMPLES = r"""
- name: Export what a client has
  mai.fleet.instance_export:
    fleet: example
    clients:
      - name: acme
        archive: acme-20260131T120000Z.tar.gz
"""

RETURN = r"""
clients:
  description: What was found and done, by client.
  returned: always
  type: dict
  contains:
    changed:
      description: Whether an archive was made or removed.
      type: bool
    before:
      description:
        - C(instance) is what Docker calls the state of the container, or C(absent); null where an
          archive is to be removed.
        - C(archive) is the file name of the archive, null if there is none.
      type: dict
      sample: {"instance": running, "archive": null}
    after:
      description: The same as it is now, or would be.
      type: dict
    export:
      description:
        - The manifest, with C(archive), C(size), C(sha256), the numbers of C(files), C(bytes),
          C(users) and C(chats), and what was given as C(about).
        - Null when there is no volume, and in check mode.
      type: dict
    warnings:
      description: Always empty.
      type: list
      elements: str
    failed:
      description: Whether it failed for this client.
      type: bool
    failure:
      description: What went wrong, where, and what to do next.
      returned: when it failed
      type: dict
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.export import (
    Exporter,
    Settings,
    Wanted,
    discard,
)
from ansible_collections.mai.fleet.plugins.module_utils._rows import Row, outcome

CLIENT = {
    "name": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "archive": {"type": "str", "required": True},
    "image": {"type": "str", "default": ""},
    "volume": {"type": "str", "default": ""},
    "key_hashes": {"type": "list", "elements": "str", "default": [], "no_log": False},
    "about": {"type": "dict", "default": {}},
}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "directory": {"type": "path", "default": "/srv/mai-exports"},
            "docker_host": {"type": "str", "default": "unix:///var/run/docker.sock"},
            "fleet": {"type": "str", "required": True},
            "clients": {"type": "list", "elements": "dict", "required": True, "options": CLIENT},
            "reader": {"type": "path"},
            "reserve": {"type": "int", "default": 512},
            "pool": {"type": "int", "default": 2},
        },
        supports_check_mode=True,
    )
    try:
        rows = work(module.params, module.check_mode)
    except FleetError as error:
        module.fail_json(msg=str(error), failure=error.failure())
    module.exit_json(**outcome(rows, module._diff))


def work(options: dict[str, Any], check: bool) -> dict[str, Row]:
    settings = Settings(
        directory=Path(options["directory"]),
        docker_host=options["docker_host"],
        fleet=options["fleet"],
        reader=Path(options["reader"]) if options["reader"] else None,
        reserve=options["reserve"] << 20,
        pool=options["pool"],
        check=check,
    )
    present = [client for client in options["clients"] if client["state"] == "present"]
    rows = Exporter(settings).run([wanted(client) for client in present]) if present else {}
    for client in options["clients"]:
        if client["state"] == "absent":
            rows[client["name"]] = discard(settings.directory, client["archive"], check)
    return rows


def wanted(client: dict[str, Any]) -> Wanted:
    return Wanted(
        name=client["name"],
        archive=client["archive"],
        image=client["image"],
        key_hashes=frozenset(client["key_hashes"]),
        about=client["about"],
        volume=client["volume"],
    )


if __name__ == "__main__":
    main()
