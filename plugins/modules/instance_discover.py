#!/usr/bin/python
# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: instance_discover
author: mai.fleet contributors (@mai-fleet)
version_added: 0.1.0
short_description: Find the Open WebUI instances of a server and the keys that they use
description:
  - Finds every container that mounts something where Open WebUI keeps its data, whoever made it.
  - Reads the connections to providers from each instance's database, and from its environment where
    nothing is stored yet. It needs no account in the instance, and the instance need not answer.
  - Returns the hash of each key, and keys and other secrets only covered by a pad that the caller
    gave.
options:
  docker_host:
    description: The URL of Docker's socket.
    type: str
    default: unix:///var/run/docker.sock
  pool:
    description: How many instances to look at at the same time.
    type: int
    default: 8
  timeout:
    description: How long to wait for an instance's answer, in seconds.
    type: float
    default: 5
  secrets:
    description:
      - A JSON object that has for each container whose secrets are wanted a pad of random bytes in
        hexadecimal, of at least RV(instances.size) bytes, and used only once.
    type: str
    default: "{}"
extends_documentation_fragment:
  - mai.fleet.attributes
  - mai.fleet.attributes.read_only
  - mai.fleet.attributes.server
"""

EXAMPLES = r"""
- name: See which instances there are
  mai.fleet.instance_discover:
"""

RETURN = r"""
instances:
  description: What was found, by the container's name.
  returned: always
  type: dict
  contains:
    container:
      description: The container's name.
      type: str
    id:
      description: The container's id.
      type: str
    project:
      description: Its Compose project, empty without one.
      type: str
    client:
      description: The client that it is labelled with, empty without that label.
      type: str
    fleet:
      description: The fleet that it is labelled with, empty without that label.
      type: str
    image:
      description: Its image.
      type: str
    state:
      description: Its state, such as V(running).
      type: str
    volume:
      description: The volume that holds its data, empty where that is a directory of the server.
      type: str
    source:
      description: Where the data lies on this server.
      type: str
    address:
      description: The address at which it is published, empty when it is not.
      type: str
    port:
      description: The port at which it is published, 0 when it is not.
      type: int
    version:
      description: The release of Open WebUI that answers, empty without an answer.
      type: str
    app:
      description: Why it does not answer, empty when it does.
      type: str
    webui_name:
      description: The name that its environment gives it.
      type: str
    organization_name:
      description: The organization that its environment names.
      type: str
    webui_url:
      description: Its public URL, from its settings or else from its environment.
      type: str
    admin_email:
      description: The address of its first administrator.
      type: str
    connections:
      description:
        - The connections to providers that are in force, each with C(url), C(enabled),
          C(model_ids), C(source) (V(settings) or V(environment)), and the key's C(hash) (its SHA-256)
          and C(fingerprint), both empty without a key.
      type: list
      elements: dict
    key_hashes:
      description: The SHA-256 of every key that was found, by where it was found.
      type: dict
    size:
      description: How long a pad has to be, in bytes.
      type: int
    sealed:
      description:
        - The environment, the connections with their keys, the secret key, and the C(.env) and
          C(compose.yml) of its project, as a JSON object, combined with the pad, in Base64.
      returned: when a pad was given
      type: str
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
      description: What could not be found out.
      type: list
      elements: str
    failed:
      description: Whether it failed for this instance.
      type: bool
    failure:
      description: What went wrong, where, and what to do next.
      returned: when it failed
      type: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mai.fleet.plugins.module_utils._api.docker import Docker, silent
from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError, Unreachable
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.discovery import discover
from ansible_collections.mai.fleet.plugins.module_utils._rows import outcome, parse_secrets


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "docker_host": {"type": "str", "default": "unix:///var/run/docker.sock"},
            "pool": {"type": "int", "default": 8},
            "timeout": {"type": "float", "default": 5},
            "secrets": {"type": "str", "default": "{}", "no_log": True},
        },
        supports_check_mode=True,
    )
    params = module.params
    try:
        pads = parse_secrets(params["secrets"])
        docker = Docker(params["docker_host"])
        rows = discover(docker, pads, params["pool"], params["timeout"])
    except FleetError as error:
        known = silent(params["docker_host"], error) if isinstance(error, Unreachable) else error
        module.fail_json(msg=str(known), failure=known.failure())
    module.exit_json(changed=False, instances=outcome(rows, diff=False)["clients"])


if __name__ == "__main__":
    main()
