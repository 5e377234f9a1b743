#!/usr/bin/python
# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_containers
short_description: Bring up the instances of a server that differ
version_added: 0.1.0
author: mai.fleet contributors (@mai-fleet)
description:
  - >-
    Makes sure that the images are there, by pull, through a mirror, or as an archive sent once, and brings up
    the Compose projects whose boot digest differs.
options:
  state:
    description: The state of the run, as the stage before gave it.
    type: dict
    required: true
  pool:
    description: How many clients are brought up at the same time.
    type: int
    default: 4
  timeout:
    description: Seconds that instances have to get ready.
    type: int
    default: 300
  replace:
    description: Ids of containers that give way to a client's own one on the same volume, by client.
    type: dict
    default: {}
extends_documentation_fragment:
  - mai.fleet.attributes
  - mai.fleet.attributes.full
  - mai.fleet.attributes.controller
"""

EXAMPLES = r"""
- name: Bring up the instances that differ
  mai.fleet.fleet_containers:
    state: "{{ fleet_state }}"
  register: fleet_state
"""

RETURN = r"""
clients:
  description: What became of each client so far, by name. It never holds a secret.
  returned: always
  type: dict
  contains:
    server:
      description: The client's server.
      type: str
    state:
      description: V(present), V(suspended) or V(absent).
      type: str
    changed:
      description: The stages that changed something.
      type: list
      elements: str
    warnings:
      description: What a person should know.
      type: list
      elements: str
    failure:
      description: >-
        Why the client dropped out, with C(stage), C(what), C(where) and C(todo), or nothing.
      type: dict
catalog:
  description: The names of the models in use, by id.
  returned: always
  type: dict
unlisted:
  description: Clients that have a key or an instance, and no client file.
  returned: always
  type: list
  elements: str
"""
