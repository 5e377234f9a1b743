#!/usr/bin/python
# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_move_secrets
short_description: Move the secrets of all clients to the store that fleet.yml names
version_added: 0.1.0
author: mai.fleet contributors (@mai-fleet)
description:
  - >-
    Copies what the old store has, reads every copy back, and removes it from the old store at last. No key is
    changed. It can be repeated from wherever it was cut off, and nothing is lost meanwhile.
  - >-
    Nothing is written when a client's secrets cannot be read, or when the new store has other secrets of a
    client already.
options:
  source:
    description: >-
      The store that the secrets are in, as C(secret_store) in C(fleet.yml) would say it. It is needed only
      where C(state/secret-store), which runs write, was lost.
    type: dict
extends_documentation_fragment:
  - mai.fleet.attributes
  - mai.fleet.attributes.controller
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
    details:
      - The secrets stay as they are. The names of the clients are in the result.
  idempotent:
    support: full
"""

EXAMPLES = r"""
- name: Move secrets
  hosts: localhost
  gather_facts: false
  tasks:
    - name: Move them to the store that fleet.yml names
      mai.fleet.fleet_move_secrets:
"""

RETURN = r"""
clients:
  description: The names of the clients whose secrets were moved, or would be.
  returned: success
  type: list
  elements: str
"""
