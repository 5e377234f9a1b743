#!/usr/bin/python
# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_keys
short_description: Reconcile keys and guardrails at OpenRouter
version_added: 0.1.0
author: mai.fleet contributors (@mai-fleet)
description:
  - >-
    One bulk pass over the account: lists, compares, and creates or updates only what differs. Runs once for
    all servers of the batch, with the management key of E(OPENROUTER_MANAGEMENT_KEY).
  - >-
    An attempt is written down before a key is created, and the secret is stored right after it.
options:
  replace:
    description: Clients that get a new key although they have one, named like in the selection.
    type: raw
  retire:
    description: Delete the keys that newer and proven ones replace, instead of reconciling.
    type: bool
    default: false
extends_documentation_fragment:
  - mai.fleet.attributes
  - mai.fleet.attributes.full
  - mai.fleet.attributes.controller
"""

EXAMPLES = r"""
- name: Reconcile keys and guardrails
  mai.fleet.fleet_keys:
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
