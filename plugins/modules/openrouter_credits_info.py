#!/usr/bin/python
# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: openrouter_credits_info
short_description: Show what an account at OpenRouter has left
version_added: 0.1.0
author: mai.fleet contributors (@mai-fleet)
description:
  - Shows what was bought and what was used, in USD, by all workspaces together.
extends_documentation_fragment:
  - mai.fleet.attributes
  - mai.fleet.attributes.read_only
  - mai.fleet.attributes.account
  - mai.fleet.openrouter
"""

EXAMPLES = r"""
- name: Look at the account
  mai.fleet.openrouter_credits_info:
  register: account

- name: Stop while there is not enough
  ansible.builtin.assert:
    that: account.remaining > 10
    fail_msg: Only {{ account.remaining }} USD are left
"""

RETURN = r"""
total_credits:
  description: What was ever bought, in USD.
  returned: always
  type: float
total_usage:
  description: What was ever used, in USD.
  returned: always
  type: float
remaining:
  description: The difference, in USD.
  returned: always
  type: float
"""
