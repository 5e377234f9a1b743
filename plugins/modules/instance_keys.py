#!/usr/bin/python
# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: instance_keys
author: mai.fleet contributors (@mai-fleet)
version_added: 0.1.0
short_description: Find the OpenRouter keys of clients on their server
description:
  - Reads the OpenRouter keys from the C(.env) files of clients, so that a key whose secret is not
    stored on the controller can be recovered.
  - Returns the hash of each key, and the key itself only covered by a pad that the caller gave.
options:
  directory:
    description: The directory that has one directory for each client.
    type: path
    default: /srv/mai
  clients:
    description: The names of the clients to look for.
    type: list
    elements: str
    required: true
  secrets:
    description:
      - A JSON object that has for each client whose secrets are wanted a pad of random bytes in
        hexadecimal, of 512 bytes or more, and used only once.
    type: str
    default: "{}"
extends_documentation_fragment:
  - mai.fleet.attributes
  - mai.fleet.attributes.read_only
  - mai.fleet.attributes.server
"""

EXAMPLES = r"""
- name: Compare the keys on the server with those at OpenRouter
  mai.fleet.instance_keys:
    clients:
      - acme
"""

RETURN = r"""
clients:
  description: What was found, by client.
  returned: always
  type: dict
  contains:
    changed:
      description: Always false.
      type: bool
    before:
      description: Always empty.
      type: dict
    after:
      description: Always empty.
      type: dict
    warnings:
      description: Always empty.
      type: list
      elements: str
    fingerprint:
      description: The fingerprint of the key, null if no key was found.
      type: str
      sample: sha256:5f70bf18a086
    hash:
      description: The SHA-256 of the key, which is its C(hash) at OpenRouter; null without a key.
      type: str
    sealed:
      description:
        - The values of C(OPENROUTER_API_KEY), C(WEBUI_SECRET_KEY) and C(WEBUI_ADMIN_PASSWORD), as far
          as they are there, as a JSON object, combined with the pad, in Base64.
      returned: when there is one of them and a pad was given
      type: str
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
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.files import find_secrets
from ansible_collections.mai.fleet.plugins.module_utils._rows import outcome, parse_secrets


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "directory": {"type": "path", "default": "/srv/mai"},
            "clients": {"type": "list", "elements": "str", "required": True},
            "secrets": {"type": "str", "default": "{}", "no_log": True},
        },
        supports_check_mode=True,
    )
    directory = Path(module.params["directory"])
    try:
        pads = parse_secrets(module.params["secrets"])
    except FleetError as error:
        module.fail_json(msg=str(error), failure=error.failure())
    rows = {
        name: find_secrets(directory, name, pads.get(name)) for name in module.params["clients"]
    }
    module.exit_json(**outcome(rows, diff=False))


if __name__ == "__main__":
    main()
