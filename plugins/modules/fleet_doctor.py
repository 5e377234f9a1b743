#!/usr/bin/python
# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_doctor
short_description: Compare each client's key in all places, and say what is wrong
version_added: 0.1.0
author: mai.fleet contributors (@mai-fleet)
description:
  - >-
    Holds against each other the key in the store, on the server, in the app and at OpenRouter, with its age,
    cap, guardrail and use. It prints a table and what to do. What cannot be looked at is said in its cell, and
    keeps nothing else from being looked at. The role C(doctor) fails the run on the verdict.
extends_documentation_fragment:
  - mai.fleet.attributes
  - mai.fleet.attributes.read_only
  - mai.fleet.attributes.controller
options:
  select:
    description: The clients to look at, named like in C(fleet_select). All when it is empty.
    type: raw
    default: ""
  examined:
    description: The name of the variable in which each server's result of M(mai.fleet.fleet_examine) is.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Compare
  mai.fleet.fleet_doctor:
    examined: doctor_server
  run_once: true
"""

RETURN = r"""
table:
  description: The lines of the table.
  returned: always
  type: list
  elements: dict
clients:
  description: >-
    What was found of each client, by name: C(state), C(key) (the fingerprint), C(places) with the C(key) in each,
    whether it is the C(same), and an C(error); C(openrouter) with all C(keys) of the client and its
    C(guardrail); and C(notes). It never holds a secret.
  returned: always
  type: dict
problems:
  description: What is wrong, each with C(client) (empty for the fleet), C(place), C(what) and C(todo).
  returned: always
  type: list
  elements: dict
verdict:
  description: Why the run should fail, empty when nothing is wrong.
  returned: always
  type: str
"""
