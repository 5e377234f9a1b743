#!/usr/bin/python
# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_preflight
short_description: Check the account and resolve the selection
version_added: 0.1.0
author: mai.fleet contributors (@mai-fleet)
description:
  - >-
    Checks the vault password, the management key (E(OPENROUTER_MANAGEMENT_KEY), or the
    file that E(OPENROUTER_MANAGEMENT_KEY_FILE) names), the account's credit and
    the catalog, and finds out which clients the run is about. It writes nothing.
  - >-
    What is wrong with the whole fails the task; what is wrong with one client is in the client's row.
options:
  select:
    description: >-
      Names of clients, C(plan_NAME), C(ring_NAME) or servers, separated by commas or as a list. Empty for all.
      C(--limit) narrows it further. V(due) are those who need a run because of the time, which may be nobody.
    type: raw
  named:
    description: Whether to refuse a run that does not say whom it is about.
    type: bool
    default: false
  grace:
    description: Seconds after which a key that was disabled is due to be deleted.
    type: float
    default: 0
extends_documentation_fragment:
  - mai.fleet.attributes
  - mai.fleet.attributes.read_only
  - mai.fleet.attributes.controller
"""

EXAMPLES = r"""
- name: Check the account and resolve the selection
  mai.fleet.fleet_preflight:
    select: acme,plan_gold
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
"""
