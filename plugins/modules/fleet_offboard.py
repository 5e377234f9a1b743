#!/usr/bin/python
# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_offboard
short_description: Hold the volumes of clients that are gone, and remove them in time
version_added: 0.1.0
author: mai.fleet contributors (@mai-fleet)
description:
  - Writes down what became of the clients with C(state=absent) that are still in the run, and until when
    their volumes are held. Removes volumes and secrets of those that were held for long enough, also of
    clients whose file is gone.
options:
  state:
    description: The state of the run, as the stage before gave it.
    type: dict
    required: true
  select:
    description: The selection as it was given, empty for none.
    type: raw
  hold:
    description: >-
      Days for which the volumes are held, instead of what the clients' files say. It is refused unless
      O(select) names the clients.
    type: raw
  show:
    description: Whether to show the dated record of each of them.
    type: bool
    default: false
extends_documentation_fragment:
  - mai.fleet.attributes
  - mai.fleet.attributes.full
  - mai.fleet.attributes.controller
"""

EXAMPLES = r"""
- name: Hold the volumes of clients that are gone
  mai.fleet.fleet_offboard:
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
