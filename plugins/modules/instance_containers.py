#!/usr/bin/python
# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: instance_containers
author: mai.fleet contributors (@mai-fleet)
version_added: 0.1.0
short_description: Run the instances of many clients on their server
description:
  - Brings the Compose projects of all given clients of a server into their desired state in one
    call, and waits until the instances answer on C(/ready).
  - A container that carries the wanted digest and image and runs well is left alone. One that
    stopped is started, and made anew only if its digest or its image differs.
  - Volumes are never removed.
  - In check mode, a server where Docker does not answer is taken for one without containers.
options:
  directory:
    description: The directory that has one directory with C(compose.yml) for each client.
    type: path
    default: /srv/mai
  docker_host:
    description: The socket of the Docker Engine.
    type: str
    default: unix:///var/run/docker.sock
  fleet:
    description: The name of the fleet, which its containers carry in the label C(mai.fleet.fleet).
    type: str
    required: true
  clients:
    description: The clients to look after. Containers of others are not touched.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: The name of the client, and of its Compose project.
        type: str
        required: true
      state:
        description:
          - Whether the instance shall run.
          - With V(absent), its containers and networks are removed. This needs no files.
        type: str
        choices: [present, absent]
        default: present
      digest:
        description:
          - What C(compose.yml) sets the label C(mai.fleet.boot) to. A container that has another
            one is made anew.
          - Needed for a client that shall be present.
        type: str
      image:
        description:
          - The image that C(compose.yml) names.
          - Needed for a client that shall be present.
        type: str
      port:
        description:
          - The port on C(127.0.0.1) that C(compose.yml) publishes the instance on.
          - Needed for a client that shall be present.
        type: int
      subnet:
        description:
          - The subnet that C(compose.yml) gives the default network of the project.
          - Where that network has another one, it is made anew together with the container.
            Not every version of Compose does so by itself.
        type: str
      volume:
        description:
          - A volume that was there before the client's container, which C(compose.yml) mounts. It fails
            for the client if another container uses it.
        type: str
      replaces:
        description:
          - The id of the container that has been using O(clients[].volume) until now. It is stopped and
            removed right before the client's own one is made.
        type: str
  known:
    description:
      - The names of all clients that the fleet has, or had in the course of this run, on this
        server. Others are reported as RV(unlisted).
      - Without it, nothing is reported.
    type: list
    elements: str
  secret_names:
    description:
      - Variables of C(.env) whose values are secret. They are hidden where a log or an error
        message is shown.
    type: list
    elements: str
    default: []
  pool:
    description: How many instances may be made or started at the same time.
    type: int
    default: 4
  timeout:
    description: The seconds that an instance may take until it is ready.
    type: int
    default: 300
requirements:
  - Docker Engine 20.10 or later
  - Docker Compose 2.26 or later
extends_documentation_fragment:
  - mai.fleet.attributes
  - mai.fleet.attributes.full
  - mai.fleet.attributes.server
"""

EXAMPLES = r"""
- name: Run one instance and remove another
  mai.fleet.instance_containers:
    fleet: example
    clients:
      - name: acme
        digest: 5f70bf18a086
        image: ghcr.io/open-webui/open-webui:v0.12.4-slim
        port: 8301
      - name: globex
        state: absent
"""

RETURN = r"""
clients:
  description: What was found and done, by client.
  returned: always
  type: dict
  contains:
    changed:
      description: Whether containers of the client were made, started or removed.
      type: bool
    before:
      description:
        - C(container) is C(absent), C(unhealthy), or what Docker calls the state of the container.
        - C(digest) and C(image) are what the container was made from, C(started_at) is when it was
          last started. They are null without a container.
      type: dict
      sample:
        container: running
        digest: 5f70bf18a086
        image: ghcr.io/open-webui/open-webui:v0.12.4-slim
        started_at: "2026-01-31T12:00:00.123456789Z"
    after:
      description: The same as it is now, or would be, with RV(ignore:started_at) null then.
      type: dict
    warnings:
      description: What a person should know.
      type: list
      elements: str
    log:
      description: The last lines of the container's log, without secrets.
      returned: when an instance did not get ready
      type: list
      elements: str
    failed:
      description: Whether it failed for this client.
      type: bool
    failure:
      description: What went wrong, where, and what to do next.
      returned: when it failed
      type: dict
unlisted:
  description: Names of clients of this fleet that have a container here and are not known.
  returned: always
  type: list
  elements: str
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.containers import (
    Reconciler,
    Settings,
    Wanted,
)
from ansible_collections.mai.fleet.plugins.module_utils._rows import outcome

CLIENT = {
    "name": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "digest": {"type": "str"},
    "image": {"type": "str"},
    "port": {"type": "int"},
    "subnet": {"type": "str"},
    "volume": {"type": "str"},
    "replaces": {"type": "str"},
}
NEEDED = [("state", "present", ["digest", "image", "port"])]


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "directory": {"type": "path", "default": "/srv/mai"},
            "docker_host": {"type": "str", "default": "unix:///var/run/docker.sock"},
            "fleet": {"type": "str", "required": True},
            "clients": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": CLIENT,
                "required_if": NEEDED,
            },
            "known": {"type": "list", "elements": "str"},
            "secret_names": {"type": "list", "elements": "str", "default": [], "no_log": False},
            "pool": {"type": "int", "default": 4},
            "timeout": {"type": "int", "default": 300},
        },
        supports_check_mode=True,
    )
    options = module.params
    settings = Settings(
        directory=Path(options["directory"]),
        docker_host=options["docker_host"],
        fleet=options["fleet"],
        secret_names=options["secret_names"],
        pool=options["pool"],
        timeout=options["timeout"],
        check=module.check_mode,
    )
    try:
        reconciler = Reconciler(settings)
        known = options["known"]
        unlisted = [] if known is None else reconciler.unlisted(known)
        rows = reconciler.run([wanted(client) for client in options["clients"]])
    except FleetError as error:
        module.fail_json(msg=str(error), failure=error.failure())
    for warning in reconciler.warnings:
        module.warn(warning)
    module.exit_json(unlisted=unlisted, **outcome(rows, module._diff))


def wanted(client: dict[str, Any]) -> Wanted:
    present = client.pop("state") == "present"
    given = {key: value for key, value in client.items() if value is not None}
    return Wanted(present=present, **given)


if __name__ == "__main__":
    main()
