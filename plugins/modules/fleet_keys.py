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
    An attempt is written down before a key is created, and the secret is stored right after it. A key of an
    attempt that nobody has the secret of is disabled, and another is made.
  - >-
    A key that ends soon, or is older than its client's C(key_lifetime_days), is replaced without being asked
    for.
options:
  replace:
    description: Clients that get a new key although they have one, named like in the selection.
    type: raw
  max_age_days:
    description: Replace only keys that are older than that; 0 for all.
    type: float
    default: 0
  undo:
    description: Clients that go back to the key that was replaced last, named like in the selection.
    type: raw
  retire:
    description: >-
      Disable the keys that newer and proven ones replace, and delete those that were disabled for long
      enough, instead of reconciling.
    type: bool
    default: false
  grace:
    description: Seconds from the disabling of a key to its deletion.
    type: float
    default: 0
  quiet:
    description: Seconds for which a key must not have spent anything before it is disabled.
    type: float
    default: 0
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
