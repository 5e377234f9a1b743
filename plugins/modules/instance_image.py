#!/usr/bin/python
# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: instance_image
author: mai.fleet contributors (@mai-fleet)
version_added: 0.1.0
short_description: Have the image of instances on a server
description:
  - Pulls an image or loads it from an archive if the server does not have it.
  - An image that is there is left alone, so the reference should name a version that does not move.
  - A pull uses the login that the user of the module made with C(docker login) on the server.
  - In check mode, a server where Docker does not answer is taken for one without images.
options:
  image:
    description: The reference of the image, with a tag, a digest, or both.
    type: str
    required: true
  source:
    description:
      - Where to take the image from if it is missing.
      - V(pull) takes it from its registry, V(archive) from O(archive).
      - V(present) only finds out whether it is there.
    type: str
    choices: [pull, archive, present]
    default: pull
  archive:
    description:
      - A file on the server that C(docker save) wrote, compressed or not.
      - It must contain the image under the name O(image).
    type: path
  docker_host:
    description: The socket of the Docker Engine.
    type: str
    default: unix:///var/run/docker.sock
requirements:
  - Docker Engine 20.10 or later
extends_documentation_fragment:
  - mai.fleet.attributes
  - mai.fleet.attributes.server
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
    details:
      - An image is there or not.
  idempotent:
    support: full
"""

EXAMPLES = r"""
- name: Have the image
  mai.fleet.instance_image:
    image: ghcr.io/open-webui/open-webui:v0.12.4-slim

- name: Have it from an archive
  mai.fleet.instance_image:
    image: ghcr.io/open-webui/open-webui:v0.12.4-slim
    source: archive
    archive: /root/open-webui.tar.gz
"""

RETURN = r"""
present:
  description: Whether the server has the image now, or would have it.
  returned: always
  type: bool
id:
  description: The id of the image, null if the server does not have it.
  returned: always
  type: str
  sample: sha256:e5eae7039dcfbfa24a11f70b0baf58097ff0c7d8009b10140394572f043e1568
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.images import reconcile


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "image": {"type": "str", "required": True},
            "source": {
                "type": "str",
                "choices": ["pull", "archive", "present"],
                "default": "pull",
            },
            "archive": {"type": "path"},
            "docker_host": {"type": "str", "default": "unix:///var/run/docker.sock"},
        },
        required_if=[("source", "archive", ["archive"])],
        supports_check_mode=True,
    )
    options = module.params
    archive = Path(options["archive"]) if options["source"] == "archive" else None
    try:
        image = reconcile(
            options["docker_host"], options["image"], options["source"], archive, module.check_mode
        )
    except FleetError as error:
        module.fail_json(msg=str(error), failure=error.failure())
    module.exit_json(
        changed=image.changed, present=image.changed or image.id is not None, id=image.id
    )


if __name__ == "__main__":
    main()
