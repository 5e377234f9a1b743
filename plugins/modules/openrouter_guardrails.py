#!/usr/bin/python
# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: openrouter_guardrails
short_description: Make, change and delete guardrails at OpenRouter
version_added: 0.1.0
author: mai.fleet contributors (@mai-fleet)
description:
  - >-
    Deals with any number of guardrails in one task. A guardrail is what keys may use: models, providers, a budget, and
    what happens to the data. It does nothing until a key has it; see M(mai.fleet.openrouter_keys).
  - A guardrail is known by its name. What is not given stays as it is, and C([]) takes a list away.
options:
  guardrails:
    description: The guardrails. Others are left alone.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: The guardrail's name.
        type: str
        required: true
      state:
        description: Whether the guardrail exists.
        type: str
        choices: [present, absent]
        default: present
      description:
        description: What it is for. Empty to take it away.
        type: str
      allowed_models:
        description:
          - The ids of the models that can be used, and no others. Without such a list, all can be.
          - OpenRouter stores and shows them by their permanent names, which is no difference.
        type: list
        elements: str
      ignored_models:
        description: The ids of models that cannot be used.
        type: list
        elements: str
      allowed_providers:
        description: The providers that can be used, and no others, as slugs.
        type: list
        elements: str
      ignored_providers:
        description: Providers that cannot be used, as slugs.
        type: list
        elements: str
      limit_usd:
        description: What each key with this guardrail may spend, in USD, or V(unlimited). It needs O(guardrails[].reset_interval).
        type: raw
      reset_interval:
        description: When that budget is full again.
        type: str
        choices: [daily, weekly, monthly]
      include_byok_in_budgets:
        description: Whether spending with provider keys of one's own counts, too.
        type: bool
      enforce_zdr_anthropic:
        description: Whether models of Anthropic are used only where nothing is retained.
        type: bool
      enforce_zdr_google:
        description: The same for models of Google.
        type: bool
      enforce_zdr_openai:
        description: The same for models of OpenAI.
        type: bool
      enforce_zdr_xai:
        description: The same for models of xAI.
        type: bool
      enforce_zdr_other:
        description: The same for all other models.
        type: bool
      enable_free_model_publication:
        description: Whether free models may be used that publish prompts.
        type: bool
      enable_free_model_training:
        description: Whether free models may be used that are trained with prompts.
        type: bool
      enable_paid_model_training:
        description: Whether paid models may be used that are trained with prompts.
        type: bool
  force:
    description: >-
      Delete guardrails that keys have, too. Such a key can use every model then, unless something else keeps it from that.
    type: bool
    default: false
extends_documentation_fragment:
  - mai.fleet.attributes
  - mai.fleet.attributes.full
  - mai.fleet.attributes.workspace
  - mai.fleet.openrouter
  - mai.fleet.openrouter.workspace
seealso:
  - module: mai.fleet.openrouter_keys
  - module: mai.fleet.openrouter_guardrails_info
  - module: mai.fleet.openrouter_models_info
"""

EXAMPLES = r"""
- name: A fence for keys that may use little, and one for all others
  mai.fleet.openrouter_guardrails:
    guardrails:
      - name: cheap models
        description: What the website may use
        allowed_models: [openai/gpt-4o-mini, google/gemini-2.5-flash]
        limit_usd: 10
        reset_interval: daily
      - name: no training
        enable_free_model_training: false
        enable_paid_model_training: false

- name: A guardrail of another workspace
  mai.fleet.openrouter_guardrails:
    workspace: production
    guardrails:
      - name: europe
        allowed_providers: [mistral]

- name: Delete it, also if keys have it
  mai.fleet.openrouter_guardrails:
    workspace: production
    force: true
    guardrails:
      - name: europe
        state: absent

- name: Take the budget away
  mai.fleet.openrouter_guardrails:
    guardrails:
      - name: cheap models
        limit_usd: unlimited
"""

RETURN = r"""
guardrails:
  description: >-
    What was found and done, in the order of the option O(guardrails). The task fails if it failed for one of them, after
    all the others are done.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: The guardrail's name.
      type: str
    changed:
      description: Whether something was changed, or would be.
      type: bool
    before:
      description: What was found. What is not set is left out.
      type: dict
      sample:
        guardrail: cheap models
        allowed_models: [google/gemini-2.5-flash, openai/gpt-4o-mini]
        limit_usd: 10
        reset_interval: daily
        include_byok_in_budgets: false
    after:
      description: The same as it is now, or would be.
      type: dict
    id:
      description: OpenRouter's id. Null while there is none.
      type: str
    warnings:
      description: What a person should know.
      type: list
      elements: str
    failed:
      description: Whether it failed for this guardrail.
      type: bool
    failure:
      description: What went wrong, with C(what), C(where) and C(todo).
      returned: when it failed
      type: dict
"""
