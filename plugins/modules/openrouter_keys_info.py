#!/usr/bin/python
# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: openrouter_keys_info
short_description: List keys at OpenRouter
version_added: 0.1.0
author: mai.fleet contributors (@mai-fleet)
description:
  - Lists all keys of a workspace, also disabled and expired ones. No secret is among it.
options:
  names:
    description: Only keys with these names.
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
- name: Look at all keys
  mai.fleet.openrouter_keys_info:
  register: account

- name: Look at those of another workspace
  mai.fleet.openrouter_keys_info:
    workspace: production
  register: production

- name: Name those without a fence
  ansible.builtin.debug:
    msg: "{{ account.api_keys | rejectattr('guardrail') | map(attribute='name') }}"
"""

RETURN = r"""
api_keys:
  description: The keys as OpenRouter describes them, newest first. It may say more of them than is listed here.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: The key's name.
      type: str
    hash:
      description: OpenRouter's name for the key, which is the SHA-256 of its secret.
      type: str
    fingerprint:
      description: What stands for the secret in the results of this collection.
      type: str
      sample: sha256:58f9f67e7c83
    disabled:
      description: Whether the key is refused.
      type: bool
    limit:
      description: What may be spent, in USD. Null for no limit.
      type: float
    limit_reset:
      description: When the limit is full again. Null for never.
      type: str
    limit_remaining:
      description: What is left of the limit, in USD. Null for no limit.
      type: float
    usage:
      description: What the key spent in all its life, in USD.
      type: float
    usage_daily:
      description: What it spent today, in USD. Days and all else are UTC.
      type: float
    usage_weekly:
      description: What it spent since Monday, in USD.
      type: float
    usage_monthly:
      description: What it spent this month, in USD.
      type: float
    workspace_id:
      description: The id of the key's workspace.
      type: str
    created_at:
      description: When the key was made.
      type: str
    expires_at:
      description: When it ends. Null for never.
      type: str
    last_used_at:
      description: When it was used last. Null for never.
      type: str
    guardrail:
      description: The name of the key's guardrail, or its id if the workspace has no such one. Null for none.
      type: str
"""
