#!/usr/bin/python
# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_lock
short_description: Keep other runs from changing the same things
version_added: 0.1.0
author: mai.fleet contributors (@mai-fleet)
description:
  - >-
    Takes the lock of a server, or that of the fleet at OpenRouter, for the run that the task is part of, and
    gives it back. It lasts until then, also when the run ends without that.
  - A lock of a run that has died is taken over, with a warning, if it was one of this controller.
  - A lock of anybody else fails the clients of the server. With O(place=openrouter), or without O(state),
    it fails the task.
options:
  state:
    description: >-
      The state of the run, as the stage before gave it. Without it, the task is about the server as such,
      and fails when somebody else has the lock.
    type: dict
  place:
    description: Which lock. V(openrouter) is at the place that C(fleet.yml) names.
    type: str
    choices: [server, openrouter]
    default: server
  release:
    description: Whether to give it back. A warning says when it was lost meanwhile.
    type: bool
    default: false
extends_documentation_fragment:
  - mai.fleet.attributes
  - mai.fleet.attributes.controller
attributes:
  check_mode:
    support: full
    details:
      - It takes no lock, and warns of one that somebody else has.
  diff_mode:
    support: N/A
    details:
      - A lock is no change.
  idempotent:
    support: full
    details:
      - A lock is no change.
"""

EXAMPLES = r"""
- name: Lock the servers
  mai.fleet.fleet_lock:
    state: "{{ fleet_state }}"
  register: fleet_state
"""

RETURN = r"""
held:
  description: Whether the run has the lock now.
  returned: without C(state), when it is taken
  type: bool
clients:
  description: What became of each client so far, by name. It never holds a secret.
  returned: when a server is locked
  type: dict
  contains:
    server:
      description: The client's server.
      type: str
    state:
      description: V(present), V(suspended) or V(absent).
      type: str
    locked:
      description: Whether the run has the lock of the client's server.
      type: bool
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
  returned: when a server is locked
  type: dict
unlisted:
  description: Clients that have a key or an instance, and no client file.
  returned: when a server is locked
  type: list
  elements: str
"""
