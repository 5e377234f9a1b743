#!/usr/bin/python
# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_adopt
short_description: Make clients of the instances that were found on a server
version_added: 0.1.0
author: mai.fleet contributors (@mai-fleet)
description:
  - >-
    Matches the keys that instances use with those of the account by their SHA-256. For each instance that has one
    it writes the client's file, its record and its secrets, and gives the key and its guardrail the fleet's mark.
  - A file that exists is never overwritten. What cannot be written whole is not written at all.
extends_documentation_fragment:
  - mai.fleet.attributes
  - mai.fleet.attributes.full
  - mai.fleet.attributes.controller
options:
  examined:
    description: The name of the variable in which each server's result of M(mai.fleet.fleet_examine) is.
    type: str
    required: true
  names:
    description: What clients are to be called, by container, or by SERVER/CONTAINER.
    type: dict
    default: {}
  select:
    description: Only these, named by client or by container. All when it is empty.
    type: raw
    default: ""
"""

EXAMPLES = r"""
- name: Look at the server
  mai.fleet.fleet_examine:
    everything: true
  register: adopt_found

- name: Adopt what is there
  mai.fleet.fleet_adopt:
    examined: adopt_found
  register: adopt_server
"""

RETURN = r"""
rows:
  description: >-
    What became of each instance, by container: C(client), C(kind), C(key) (a fingerprint), C(id), C(changed),
    C(replace) (whether its container has to give way to the client's own one), C(notes) and C(failure).
  returned: always
  type: dict
"""
