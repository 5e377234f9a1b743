#!/usr/bin/python
# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_guard
short_description: Fail on an inventory that is broken or empty
version_added: 0.1.0
author: mai.fleet contributors (@mai-fleet)
description:
  - >-
    The first task of every playbook. Ansible goes on with an empty inventory, and exit status 0, when an
    inventory plugin fails; this action does not.
extends_documentation_fragment:
  - mai.fleet.attributes
  - mai.fleet.attributes.read_only
  - mai.fleet.attributes.controller
"""

EXAMPLES = r"""
- name: Refuse a broken inventory
  hosts: localhost
  gather_facts: false
  tasks:
    - name: Look at the inventory
      mai.fleet.fleet_guard:
"""

RETURN = r"""
clients:
  description: The number of clients that are fit to be worked on.
  returned: success
  type: int
"""
