#!/usr/bin/python
# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_proof
short_description: Prove at the instance and at OpenRouter that a client is as it was sold
version_added: 0.1.0
author: mai.fleet contributors (@mai-fleet)
description:
  - >-
    Asks the instance as an admin and as an ordinary user, and OpenRouter with the client's own key.
  - >-
    In check mode nothing is asked with O(scope=changed), because what would change cannot be proven
    yet. With O(scope=all) the gates that cost nothing are made.
options:
  state:
    description: The state of the run, as the stage before gave it.
    type: dict
    required: true
  scope:
    description: Make all gates for clients that V(changed) and the free ones for the rest, or all for V(all).
    type: str
    choices: [changed, all]
    default: changed
  chat:
    description: Make one small chat through each instance.
    type: bool
    default: true
  fence:
    description: Make one call with each client's key that OpenRouter has to refuse.
    type: bool
    default: true
  budget:
    description: USD that these calls may cost at most in a run, estimated from the catalog.
    type: float
    default: 0.5
  patience:
    description: Seconds that a change of a guardrail may take to be in force, and a chat to be counted as spent.
    type: int
    default: 30
  pool:
    description: How many instances are asked at the same time.
    type: int
    default: 8
extends_documentation_fragment:
  - mai.fleet.attributes
  - mai.fleet.attributes.read_only
  - mai.fleet.attributes.controller
"""

EXAMPLES = r"""
- name: Prove it
  mai.fleet.fleet_proof:
    state: "{{ fleet_state }}"
    scope: all
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
