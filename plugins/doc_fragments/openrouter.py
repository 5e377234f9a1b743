# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options that all modules have that deal with OpenRouter alone."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  management_key:
    description:
      - A management key of OpenRouter's, made at U(https://openrouter.ai/settings/management-keys).
      - >-
        Without it, the environment variable E(OPENROUTER_MANAGEMENT_KEY) of the controller is read,
        and then E(OPENROUTER_PROVISIONING_KEY).
    type: str
  api_url:
    description:
      - The address of OpenRouter's API.
      - Without it, the environment variable E(OPENROUTER_API_URL) of the controller is read.
    type: str
    default: https://openrouter.ai/api/v1
  timeout:
    description: Seconds to wait for a connection, and between two parts of an answer.
    type: float
    default: 30.0
requirements:
  - requests, beside ansible-core on the controller
notes:
  - >-
    Requests that fail in passing are repeated, with the pause that OpenRouter asks for. One that
    creates something is repeated only when it was certainly not acted upon.
  - In a play with several hosts, the same is done for each of them. Use C(run_once).
"""

    WORKSPACE = r"""
options:
  workspace:
    description:
      - The workspace that it deals with, by its slug, its id or its name. Others are left alone.
      - Without it, that is the account's default workspace.
      - >-
        To set it for all modules that have it, use C(group/mai.fleet.openrouter_workspace) in
        C(module_defaults), and not C(group/mai.fleet.openrouter): the others would refuse it.
    type: str
"""
