#!/usr/bin/python
# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_absent
short_description: Write that clients go into their files
version_added: 0.1.0
author: mai.fleet contributors (@mai-fleet)
description:
  - Sets C(state) to V(absent) in the files of the named clients, and leaves the rest of the files as it is.
    The file of a client whose file is gone is written anew, from what is remembered of the client.
options:
  select:
    description: The names of the clients, separated by commas or as a list. Plans and servers are refused.
    type: raw
    required: true
extends_documentation_fragment:
  - mai.fleet.attributes
  - mai.fleet.attributes.full
  - mai.fleet.attributes.controller
"""

EXAMPLES = r"""
- name: Say that a client goes
  mai.fleet.fleet_absent:
    select: acme
"""

RETURN = r"""
clients:
  description: The names of those clients that are in the inventory, or will be after this.
  returned: always
  type: list
  elements: str
"""
