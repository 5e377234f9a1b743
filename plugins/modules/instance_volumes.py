#!/usr/bin/python
# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: instance_volumes
author: mai.fleet contributors (@mai-fleet)
version_added: 0.1.0
short_description: List the volumes of clients on their server, or remove them
description:
  - A volume is a client's if its Compose project and the beginning of its name are the client's name,
    or if it is named as the client's.
  - A volume that a container has, running or not, is never removed.
options:
  docker_host:
    description: The socket of the Docker Engine.
    type: str
    default: unix:///var/run/docker.sock
  clients:
    description: The clients to look after. Volumes of others are not touched.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: The name of the client, and of its Compose project.
        type: str
        required: true
      state:
        description: Whether the volumes may stay. With V(absent), they are removed with all data.
        type: str
        choices: [present, absent]
        default: present
      named:
        description: Volumes that are the client's, whatever project they are of.
        type: list
        elements: str
        default: []
      volumes:
        description: Remove no others than these. Without it, all of the client's.
        type: list
        elements: str
extends_documentation_fragment:
  - mai.fleet.attributes
  - mai.fleet.attributes.full
  - mai.fleet.attributes.server
"""

EXAMPLES = r"""
- name: Remove the data of a client for good
  mai.fleet.instance_volumes:
    clients:
      - name: acme
        state: absent
        volumes:
          - acme_data
"""

RETURN = r"""
clients:
  description: What was found and done, by client.
  returned: always
  type: dict
  contains:
    changed:
      description: Whether a volume was removed.
      type: bool
    before:
      description: C(volumes) are the names of the client's volumes.
      type: dict
      sample: {"volumes": ["acme_data"]}
    after:
      description: The same as it is now, or would be.
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

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.volumes import Wanted, reconcile
from ansible_collections.mai.fleet.plugins.module_utils._rows import outcome

CLIENT = {
    "name": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "named": {"type": "list", "elements": "str", "default": []},
    "volumes": {"type": "list", "elements": "str"},
}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "docker_host": {"type": "str", "default": "unix:///var/run/docker.sock"},
            "clients": {"type": "list", "elements": "dict", "required": True, "options": CLIENT},
        },
        supports_check_mode=True,
    )
    wanted = [
        Wanted(client["name"], client["state"] == "present", client["named"], client["volumes"])
        for client in module.params["clients"]
    ]
    try:
        rows = reconcile(module.params["docker_host"], wanted, module.check_mode)
    except FleetError as error:
        module.fail_json(msg=str(error), failure=error.failure())
    module.exit_json(**outcome(rows, module._diff))


if __name__ == "__main__":
    main()
