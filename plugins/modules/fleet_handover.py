#!/usr/bin/python
# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_handover
short_description: Show the address and first password of a new instance, once
version_added: 0.1.0
author: mai.fleet contributors (@mai-fleet)
description:
  - >-
    Prints the address and the first administrator's password of each selected client on the screen, and nowhere
    else, and writes down that it was done. The second time it refuses, unless O(again) is set.
options:
  select:
    description: The selection as it was given. Without one, and without C(--limit), it refuses.
    type: raw
  again:
    description: Show what was shown before.
    type: bool
    default: false
extends_documentation_fragment:
  - mai.fleet.attributes
  - mai.fleet.attributes.full
  - mai.fleet.attributes.controller
"""

EXAMPLES = r"""
- name: Hand over
  mai.fleet.fleet_handover:
    select: acme
  run_once: true
"""

RETURN = r"""
shown:
  description: The names of the clients whose password was shown.
  returned: always
  type: list
  elements: str
"""
