# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the modules and actions of the collection promise, worded once.

A module extends the standard fragment, then ``full`` or ``read_only`` (or states the support
itself, with the reason), then ``server``, ``controller``, ``account`` or ``workspace``.
"""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    description: In check mode, finds out and reports what would change, and changes nothing.
  diff_mode:
    description: >-
      In diff mode, shows for each thing that it deals with what is there and what is wanted
      instead.
      A secret is shown as its fingerprint.
  idempotent:
    description: >-
      Run again with the same input, and with nothing changed by others, it changes nothing.
"""

    FULL = r"""
options: {}
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
"""

    READ_ONLY = r"""
options: {}
attributes:
  check_mode:
    support: full
    details:
      - It only reads, in check mode and outside of it.
  diff_mode:
    support: N/A
    details:
      - It only reads.
  idempotent:
    support: full
    details:
      - It only reads.
"""

    SERVER = r"""
options: {}
attributes:
  action_group:
    description: >-
      Use C(group/mai.fleet.server) in C(module_defaults) to set defaults for this module.
    support: full
    membership:
      - mai.fleet.server
  platform:
    description: The systems that it runs on.
    support: full
    platforms: debian
    details:
      - It needs Python 3.9 or later and nothing besides the standard library.
"""

    CONTROLLER = r"""
options: {}
attributes:
  action:
    description: The work is done on the controller, whichever host the task is for.
    support: full
  action_group:
    description: >-
      Use C(group/mai.fleet.controller) in C(module_defaults) to set defaults for this action.
    support: full
    membership:
      - mai.fleet.controller
  async:
    description: Can be used with C(async).
    support: none
  platform:
    description: The systems that it runs on.
    support: full
    platforms: posix
"""

    ACCOUNT = r"""
options: {}
attributes:
  action:
    description: The work is done on the controller, whichever host the task is for.
    support: full
  action_group:
    description: >-
      Use C(group/mai.fleet.openrouter) in C(module_defaults) to set defaults for this action.
    support: full
    membership:
      - mai.fleet.openrouter
  async:
    description: Can be used with C(async).
    support: none
  platform:
    description: The systems that it runs on.
    support: full
    platforms: posix
"""

    WORKSPACE = r"""
options: {}
attributes:
  action:
    description: The work is done on the controller, whichever host the task is for.
    support: full
  action_group:
    description: >-
      Use C(group/mai.fleet.openrouter) in C(module_defaults) to set defaults for this action, and
      C(group/mai.fleet.openrouter_workspace) for its workspace.
    support: full
    membership:
      - mai.fleet.openrouter
      - mai.fleet.openrouter_workspace
  async:
    description: Can be used with C(async).
    support: none
  platform:
    description: The systems that it runs on.
    support: full
    platforms: posix
"""
