#!/usr/bin/python
# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_onboard
short_description: Write the file of a new client
version_added: 0.1.0
author: mai.fleet contributors (@mai-fleet)
description:
  - >-
    Makes C(clients/NAME.yml) from a few answers. Everything else comes from the plan and can be edited later.
  - >-
    An existing file is never overwritten.
options:
  organization:
    description: The company's name. Required, unless O(withdraw).
    type: str
  admin_email:
    description: The address of the client's first administrator. Required, unless O(withdraw).
    type: str
  plan:
    description: The client's plan. Empty for none.
    type: str
  ring:
    description: The clients that it changes together with. Empty for the plan's.
    type: str
  spending_limit:
    description: USD per month, or V(unlimited). Empty for the plan's.
    type: str
  name:
    description: The client's name. Made from the organization when it is empty.
    type: str
  server:
    description: The client's server. When empty, the one with the fewest clients.
    type: str
  withdraw:
    description: Remove the file of O(name) again, because the answer to the plan of changes was no.
    type: bool
    default: false
extends_documentation_fragment:
  - mai.fleet.attributes
  - mai.fleet.attributes.full
  - mai.fleet.attributes.controller
"""

EXAMPLES = r"""
- name: Write a client file
  mai.fleet.fleet_onboard:
    organization: Acme GmbH
    admin_email: it@acme.example
    plan: gold
  register: onboarded
"""

RETURN = r"""
name:
  description: The client's name.
  returned: success
  type: str
file:
  description: The client's file.
  returned: success
  type: str
"""
