#!/usr/bin/python
# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_accept
short_description: Make keys that administrators typed in the clients' own
version_added: 0.1.0
author: mai.fleet contributors (@mai-fleet)
description:
  - >-
    Of clients whose C(foreign_keys) is C(adopt), looks whether a key that is none of the fleet's stands in the
    connection to OpenRouter. If it is one of this account's, its secret is stored and it gets the client's name. The
    stages that follow cap and fence it and retire the key before it.
options:
  state:
    description: The state of the run, as the stage before gave it.
    type: dict
    required: true
extends_documentation_fragment:
  - mai.fleet.attributes
  - mai.fleet.attributes.full
  - mai.fleet.attributes.controller
"""

EXAMPLES = r"""
- name: Make keys that administrators typed in the clients' own
  mai.fleet.fleet_accept:
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
