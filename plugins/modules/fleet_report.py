#!/usr/bin/python
# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_report
short_description: Say what became of each client
version_added: 0.1.0
author: mai.fleet contributors (@mai-fleet)
description:
  - >-
    Prints a table of the clients of the run. Its verdict tells when a client failed in any stage, when its
    server dropped out, or when its file has a mistake. The role C(report) fails the run on it.
extends_documentation_fragment:
  - mai.fleet.attributes
  - mai.fleet.attributes.read_only
  - mai.fleet.attributes.controller
options:
  select:
    description: The selection of the run, which says whether clients of servers that failed early belong to it.
    type: raw
    default: ""
"""

EXAMPLES = r"""
- name: Report
  mai.fleet.fleet_report:
  run_once: true
"""

RETURN = r"""
clients:
  description: What became of each client, by name, with the gates of its proof.
  returned: always
  type: dict
table:
  description: The lines of the table.
  returned: always
  type: list
  elements: dict
verdict:
  description: Why the run failed, empty when it did not.
  returned: always
  type: str
problems:
  description: What needs a person, each with C(client), C(stage), C(what), C(where) and C(todo).
  returned: always
  type: list
  elements: dict
"""
