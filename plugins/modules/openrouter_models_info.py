#!/usr/bin/python
# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: openrouter_models_info
short_description: List models at OpenRouter
version_added: 0.1.0
author: mai.fleet contributors (@mai-fleet)
description:
  - Lists OpenRouter's models, or what a key can use of them. Nothing is needed for the whole list, not even a key.
  - Options that are given together have to be met together.
options:
  ids:
    description: Only models with these ids. Those that do not exist are returned as RV(unknown).
    type: list
    elements: str
  api_key:
    description: >-
      An ordinary key of OpenRouter's. Only what it can use is listed then, which is the truth about its guardrail.
    type: str
  supported_parameters:
    description: Only models that take all of these, such as V(tools) or V(structured_outputs).
    type: list
    elements: str
  input_modalities:
    description: Only models that take all of these, such as V(image).
    type: list
    elements: str
  output_modalities:
    description: Only models that give all of these, such as V(text).
    type: list
    elements: str
  context_length:
    description: Only models with a context of at least so many tokens.
    type: int
  variants:
    description: Whether to list variants such as C(:free), too.
    type: bool
    default: true
extends_documentation_fragment:
  - mai.fleet.attributes
  - mai.fleet.attributes.read_only
  - mai.fleet.attributes.account
  - mai.fleet.openrouter
"""

EXAMPLES = r"""
- name: Look for models that call tools and see images
  mai.fleet.openrouter_models_info:
    supported_parameters: [tools]
    input_modalities: [image]
    context_length: 100000
    variants: false
  register: catalog

- name: Name them
  ansible.builtin.debug:
    msg: "{{ catalog.models | map(attribute='id') }}"

- name: Ask what a key can use
  mai.fleet.openrouter_models_info:
    api_key: "{{ lookup('ansible.builtin.file', playbook_dir ~ '/openrouter/website') }}"
  register: usable
"""

RETURN = r"""
models:
  description: The models as OpenRouter describes them. It may say more of them than is listed here.
  returned: always
  type: list
  elements: dict
  contains:
    id:
      description: What requests name.
      type: str
      sample: openai/gpt-4o-mini
    name:
      description: Its name for people.
      type: str
    guardrail_slug:
      description: The permanent name, as guardrails store it.
      type: str
    context_length:
      description: The size of its context in tokens.
      type: int
    pricing:
      description: USD for a token, as texts.
      type: dict
    supported_parameters:
      description: What requests can ask for.
      type: list
      elements: str
    expiration_date:
      description: When it leaves. Null for never, as far as is known.
      type: str
unknown:
  description: Those of O(ids) that are not in the list.
  returned: always
  type: list
  elements: str
"""
