#!/usr/bin/python
# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_adopted
short_description: Say what was adopted and what was not
version_added: 0.1.0
author: mai.fleet contributors (@mai-fleet)
description:
  - Prints a table of the instances of all servers, what did not come along, and what to do about the rest.
extends_documentation_fragment:
  - mai.fleet.attributes
  - mai.fleet.attributes.read_only
  - mai.fleet.attributes.controller
options:
  examined:
    description: The name of the variable in which each server's result of M(mai.fleet.fleet_examine) is.
    type: str
    required: true
  results:
    description: The name of the variable in which each server's result of M(mai.fleet.fleet_adopt) is.
    type: str
    required: true
  recreate:
    description: Whether containers may be made anew.
    type: raw
    default: false
"""

EXAMPLES = r"""
- name: Say what was adopted
  mai.fleet.fleet_adopted:
    examined: adopt_found
    results: adopt_server
  run_once: true
"""

RETURN = r"""
table:
  description: The lines of the table.
  returned: always
  type: list
  elements: dict
problems:
  description: What was not adopted, each with C(client), C(what), C(where) and C(todo).
  returned: always
  type: list
  elements: dict
replace:
  description: Ids of the containers that may give way, by client; nothing without O(recreate).
  returned: always
  type: dict
site:
  description: The clients for which a run of site is to follow.
  returned: always
  type: list
  elements: str
verdict:
  description: Why the run should fail, empty when everything was adopted.
  returned: always
  type: str
"""
