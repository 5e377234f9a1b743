#!/usr/bin/python
# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_hooks
short_description: Run the operator's own commands at the beginning and the end of a run
version_added: 0.1.0
author: mai.fleet contributors (@mai-fleet)
description:
  - >-
    Runs commands on the controller, in the directory of C(fleet.yml), one after the other. Each gets a JSON
    document on its standard input. There is no shell, and neither the OpenRouter management key nor C(HCLOUD_TOKEN) is in the environment.
  - >-
    The document has C(schema) (1), C(event), C(fleet), C(verdict) (why the run failed, empty when it did not), and
    C(clients), by name, with C(server), C(state), C(changed) (the stages that changed something), C(warnings)
    and C(failure) (null, or C(stage), C(what), C(where) and C(todo)). It holds no secret.
  - >-
    A command of the event V(before) that fails stops the run, and nothing was changed. At other events the result
    names it, and the role C(report) fails the run in the end.
extends_documentation_fragment:
  - mai.fleet.attributes
  - mai.fleet.attributes.controller
attributes:
  check_mode:
    support: full
    details:
      - In check mode no command is run.
  diff_mode:
    support: none
    details:
      - What the commands do is not known.
  idempotent:
    support: none
    details:
      - The commands run each time. Whether that matters is for them to know.
options:
  events:
    description: What happens now, in this order, of V(before), V(failure) and V(after).
    type: list
    elements: str
    choices: [before, failure, after]
    required: true
  commands:
    description: Lists of command lines, by event, written as for a shell.
    type: dict
    default: {}
  timeout:
    description: Seconds after which a command is ended and counts as failed.
    type: int
    default: 60
  verdict:
    description: Why the run failed, for the document.
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: Tell the chat what failed
  mai.fleet.fleet_hooks:
    events: [failure]
    commands:
      failure:
        - hooks/notify --channel operators
  run_once: true
"""

RETURN = r"""
hooks:
  description: >-
    The commands that were run, each with C(event), C(command), C(status) and the end of its C(output).
  returned: always
  type: list
  elements: dict
problems:
  description: What went wrong with them, in sentences.
  returned: always
  type: list
  elements: str
"""
