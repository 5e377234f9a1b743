#!/usr/bin/python
# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_budget
short_description: Stop a run in which too many clients fail
version_added: 0.1.0
author: mai.fleet contributors (@mai-fleet)
description:
  - >-
    Counts the clients that failed in this batch of servers and in those before it. When the budget is used up,
    the clients that are left drop out of the later stages; the report says so, and the run fails.
  - What is already done stays, and the next run goes on from there.
extends_documentation_fragment:
  - mai.fleet.attributes
  - mai.fleet.attributes.read_only
  - mai.fleet.attributes.controller
options:
  failures:
    description: After how many failed clients the run stops. With V(0) it never does.
    type: int
    default: 0
"""

EXAMPLES = r"""
- name: Stop if too many clients failed
  mai.fleet.fleet_budget:
    failures: 3
  run_once: true
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
stopped:
  description: Whether the budget is used up.
  returned: always
  type: bool
"""
