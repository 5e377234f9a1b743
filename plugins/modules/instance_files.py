#!/usr/bin/python
# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: instance_files
author: mai.fleet contributors (@mai-fleet)
version_added: 0.1.0
short_description: Write the files of many clients on their server
description:
  - Writes C(compose.yml) and C(.env) of all given clients of a server in one call, each client in
    its own directory, which only the owner can read.
  - A file is never seen half-written. What fails for one client leaves the files of that client as
    they were and does not keep the others from being written.
  - A wrong mode or owner is repaired.
options:
  directory:
    description:
      - The directory that has one directory for each client.
      - It is made if it is missing. It must belong to the user that the module runs as, and nobody
        else may be able to write to it.
    type: path
    default: /srv/mai
  clients:
    description: The clients to look after. Files of others are not touched.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: The name of the client, and of its directory.
        type: str
        required: true
      state:
        description:
          - Whether the files shall be there.
          - With V(absent), the two files are removed, and the directory if nothing else is in it.
        type: str
        choices: [present, absent]
        default: present
  secret_names:
    description:
      - Variables of C(.env) whose values are secret. In a diff they are shown as fingerprints,
        wherever they occur.
    type: list
    elements: str
    default: []
  secrets:
    description:
      - The texts of the files, as a JSON object that has for each client that shall be there an
        object with C(.env), and C(compose.yml) unless the client has no instance.
      - A C(compose.yml) that is not given is removed.
    type: str
    required: true
extends_documentation_fragment:
  - mai.fleet.attributes
  - mai.fleet.attributes.full
  - mai.fleet.attributes.server
"""

EXAMPLES = r"""
- name: Write the files of two clients
  mai.fleet.instance_files:
    clients:
      - name: acme
      - name: globex
        state: absent
    secret_names:
      - OPENROUTER_API_KEY
    secrets: "{{ texts | ansible.builtin.to_json }}"
  vars:
    texts:
      acme:
        compose.yml: "{{ lookup('ansible.builtin.file', 'acme/compose.yml') }}\n"
        .env: "{{ lookup('ansible.builtin.file', 'acme/env') }}\n"
"""

RETURN = r"""
clients:
  description: What was found and done, by client.
  returned: always
  type: dict
  contains:
    changed:
      description: Whether a file of the client was written, repaired or removed.
      type: bool
    before:
      description:
        - The first digits of the SHA-256 of each file, null if it was not there.
        - C(drift) lists what was wrong besides the contents.
      type: dict
      sample: {"compose.yml": "sha256:5f70bf18a086", ".env": null}
    after:
      description: The same as it is now, or would be.
      type: dict
    warnings:
      description: What a person should know.
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

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.files import reconcile
from ansible_collections.mai.fleet.plugins.module_utils._rows import outcome, parse_secrets

CLIENT = {
    "name": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "directory": {"type": "path", "default": "/srv/mai"},
            "clients": {"type": "list", "elements": "dict", "required": True, "options": CLIENT},
            "secret_names": {"type": "list", "elements": "str", "default": [], "no_log": False},
            "secrets": {"type": "str", "required": True, "no_log": True},
        },
        supports_check_mode=True,
    )
    try:
        rows = reconcile(
            Path(module.params["directory"]),
            module.params["clients"],
            parse_secrets(module.params["secrets"]),
            module.params["secret_names"],
            module.check_mode,
        )
    except FleetError as error:
        module.fail_json(msg=str(error), failure=error.failure())
    module.exit_json(**outcome(rows, module._diff))


if __name__ == "__main__":
    main()
