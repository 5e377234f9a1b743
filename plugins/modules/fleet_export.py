#!/usr/bin/python
# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_export
short_description: Export the data of clients that go
version_added: 0.1.0
author: mai.fleet contributors (@mai-fleet)
description:
  - Lets M(mai.fleet.instance_export) stop the instances of the clients with C(state=absent) that were not
    exported yet, brings the archives to the directory C(exports) of the fleet, and writes down where they
    are. Of an interrupted run the next one makes the archive again.
options:
  state:
    description: The state of the run, as the stage before gave it.
    type: dict
    required: true
  wanted:
    description: Whether there is an export. V(false) is refused unless O(select) names the clients.
    type: bool
    default: true
  select:
    description: The selection as it was given, empty for none.
    type: raw
  reserve:
    description: Mebibytes of the server's disk that have to stay free.
    type: int
    default: 512
  pool:
    description: How many exports are made at the same time.
    type: int
    default: 2
extends_documentation_fragment:
  - mai.fleet.attributes
  - mai.fleet.attributes.full
  - mai.fleet.attributes.controller
"""

EXAMPLES = r"""
- name: Export the data of clients that go
  mai.fleet.fleet_export:
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
