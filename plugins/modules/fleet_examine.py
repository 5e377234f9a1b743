#!/usr/bin/python
# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_examine
short_description: Look which keys a server and its instances hold
version_added: 0.1.0
author: mai.fleet contributors (@mai-fleet)
description:
  - >-
    Reads the C(.env) files of the server's clients and the settings of all Open WebUI instances on it. What
    cannot be read is in the result, and fails nothing.
options:
  everything:
    description: Whether to look for instances also where no client is to have one.
    type: bool
    default: false
extends_documentation_fragment:
  - mai.fleet.attributes
  - mai.fleet.attributes.read_only
  - mai.fleet.attributes.controller
"""

EXAMPLES = r"""
- name: Look at the server
  mai.fleet.fleet_examine:
  register: doctor_server
"""

RETURN = r"""
env:
  description: What M(mai.fleet.instance_keys) says of each client.
  returned: always
  type: dict
instances:
  description: What M(mai.fleet.instance_discover) says of each container.
  returned: always
  type: dict
problems:
  description: Why one of the two is empty, with C(part), C(what), C(where) and C(todo).
  returned: always
  type: list
  elements: dict
"""
