#!/usr/bin/python
# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: instance_lock
author: mai.fleet contributors (@mai-fleet)
version_added: 0.1.0
short_description: Take, release, look at or break a lock on a server
description:
  - A lock is a file that says who has it, since when and for what. It stays until it is released or
    broken, also when whoever took it has died.
  - It comes into being as a whole, so that only one of many gets it and none is ever half made. What
    a process that was killed left beside it is removed after an hour.
  - That somebody else has the lock does not fail the task; C(held) tells.
options:
  path:
    description:
      - The file. Its directory is made if it is missing. That must belong to the user that the
        module runs as, and nobody else may be able to write to it.
    type: path
    default: /srv/mai/.lock
  state:
    description:
      - V(seen) only looks.
      - V(taken) takes the lock if nobody has it, or if the run that O(run) names has it.
      - V(released) removes it if it is the owner's.
      - V(broken) removes it if it is that of the run that O(run) names, and writes down who did that.
    type: str
    choices: [seen, taken, released, broken]
    default: seen
  owner:
    description:
      - Who takes, releases or breaks it. Needed for everything but V(seen).
    type: dict
    suboptions:
      run:
        description: What makes the owner different from all others.
        type: str
        required: true
      who:
        description: The owner for a reader, such as C(op@control).
        type: str
        default: ""
      doing:
        description: What the lock is for.
        type: str
        default: ""
      machine:
        description: A name of the owner's machine that is the same after a restart. Empty when there is none.
        type: str
        default: ""
      boot:
        description: A name of this boot of the machine.
        type: str
        default: ""
      space:
        description: Within which O(owner.pid) is a process.
        type: str
        default: ""
      pid:
        description: The process that lives as long as the owner.
        type: int
        default: 0
      started:
        description: When that process was started, to tell it from a later one of the same number.
        type: str
        default: ""
  run:
    description:
      - The run whose lock is taken over or broken.
    type: str
extends_documentation_fragment:
  - mai.fleet.attributes
  - mai.fleet.attributes.server
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
    details:
      - C(lock) says who had it.
  idempotent:
    support: full
"""

EXAMPLES = r"""
- name: Look who is at work on this server
  mai.fleet.instance_lock:
  register: seen

- name: Take the lock
  mai.fleet.instance_lock:
    state: taken
    owner:
      run: "{{ lookup('ansible.builtin.pipe', 'uuidgen') }}"
      who: op@control
      doing: maintenance
  register: taken
  failed_when: not taken.held
"""

RETURN = r"""
held:
  description: Whether the owner has the lock now, or would have it.
  returned: success
  type: bool
lock:
  description: >-
    Who else has the lock, or who had it before, with C(since) and C(age) in seconds by the clock of the
    server. Null when nobody had it. Of a file that is not understood, only C(run), C(since) and C(age)
    are known.
  returned: success
  type: dict
  sample: {"run": "5f70bf18a086", "who": "op@control", "doing": "mai.fleet.site", "age": 241}
lost:
  description: >-
    When it was to be released: who has the owner's lock instead, or the owner's lock as it was broken,
    with C(broken_by) and C(broken_at). Else null.
  returned: success
  type: dict
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mai.fleet.plugins.module_utils._api.disk import prepare_base
from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.locks import STATES, perform

TEXTS = ("who", "doing", "machine", "boot", "space", "started")
OWNER = {
    "run": {"type": "str", "required": True},
    "pid": {"type": "int", "default": 0},
    **{name: {"type": "str", "default": ""} for name in TEXTS},
}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "default": "/srv/mai/.lock"},
            "state": {"type": "str", "choices": list(STATES), "default": "seen"},
            "owner": {"type": "dict", "options": OWNER},
            "run": {"type": "str"},
        },
        required_if=[("state", state, ["owner"]) for state in STATES if state != "seen"],
        supports_check_mode=True,
    )
    path, state = Path(module.params["path"]), module.params["state"]
    try:
        prepare_base(path.parent, create=state == "taken" and not module.check_mode)
        answer = perform(
            path, state, module.params["owner"] or {}, module.params["run"], module.check_mode
        )
    except FleetError as error:
        module.fail_json(msg=str(error), failure=error.failure())
    module.exit_json(**answer)


if __name__ == "__main__":
    main()
