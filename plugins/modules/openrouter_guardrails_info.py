#!/usr/bin/python
# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: openrouter_guardrails_info
short_description: List guardrails at OpenRouter
version_added: 0.1.0
author: mai.fleet contributors (@mai-fleet)
description:
  - Lists the guardrails of a workspace, with the keys that have them.
options:
  names:
    description: Only guardrails with these names.
    type: list
    elements: str
extends_documentation_fragment:
  - mai.fleet.attributes
  - mai.fleet.attributes.read_only
  - mai.fleet.attributes.workspace
  - mai.fleet.openrouter
  - mai.fleet.openrouter.workspace
"""

EXAMPLES = r"""
- name: Look at one guardrail
  mai.fleet.openrouter_guardrails_info:
    names: [cheap models]
  register: account

- name: Say what it allows
  ansible.builtin.debug:
    msg: "{{ account.guardrails | map(attribute='allowed_models') }}"
"""

RETURN = r"""
guardrails:
  description: The guardrails as OpenRouter describes them. It may say more of them than is listed here.
  returned: always
  type: list
  elements: dict
  contains:
    id:
      description: OpenRouter's id.
      type: str
    name:
      description: The guardrail's name.
      type: str
    allowed_models:
      description: The models that can be used, by their permanent names. Null for all.
      type: list
      elements: str
    limit_usd:
      description: What each key may spend, in USD. Null for no budget.
      type: float
    reset_interval:
      description: When the budget is full again, which is V(daily), V(weekly) or V(monthly). Null for no budget.
      type: str
    workspace_id:
      description: The id of the guardrail's workspace. Null for one that is older than workspaces.
      type: str
    key_hashes:
      description: The keys that have it, by their hashes.
      type: list
      elements: str
"""
