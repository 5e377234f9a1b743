#!/usr/bin/python
# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_journal
short_description: Verify the journals of clients
version_added: 0.1.0
author: mai.fleet contributors (@mai-fleet)
description:
  - >-
    Reads the journal of every selected client and checks that no line was changed, taken away or put in, and
    that the lines at its end that the client's record knows are still there.
  - Prints a line a client, and fails if a journal is damaged. It asks neither a server nor OpenRouter.
extends_documentation_fragment:
  - mai.fleet.attributes
  - mai.fleet.attributes.read_only
  - mai.fleet.attributes.controller
options:
  select:
    description: >-
      Clients, plans or servers, separated by commas. Clients that have no file any more can be named, too.
      Without it, all journals are verified.
    type: str
    default: ""
  show:
    description: Whether to print the lines of the journals for a reader.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Verify all journals
  mai.fleet.fleet_journal:
  run_once: true

- name: Tell what was done to one client
  mai.fleet.fleet_journal:
    select: acme
    show: true
  run_once: true
"""

RETURN = r"""
journals:
  description: What was found, by client.
  returned: always
  type: dict
  contains:
    lines:
      description: How many lines there are.
      type: int
    first:
      description: The time of the first line, in UTC. Null if there is none.
      type: str
    last:
      description: The time of the last line, in UTC. Null if there is none.
      type: str
    ends:
      description: >-
        How many lines are followed by none. More than one after the work of two operators was united, until
        the next line joins them.
      type: int
    failure:
      description: What is wrong with the journal, with C(what), C(where) and C(todo), or nothing.
      type: dict
"""
