#!/usr/bin/python
# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_unlock
short_description: Show a lock, and break it if it is named
version_added: 0.1.0
author: mai.fleet contributors (@mai-fleet)
description:
  - Says who has the lock of a server, or that of the fleet at OpenRouter, since when, and for what.
  - >-
    Breaks it only when O(break) names it, and never by itself when its run is at work on this controller.
    Only the lock that was shown is broken, and not one that came into its place.
options:
  break:
    description: >-
      Whose locks to break, servers or V(openrouter), separated by commas or as a list. All hosts of the
      play can be named.
    type: raw
    default: ""
  force:
    description: Whether to break also the lock of a run that is at work on this controller.
    type: bool
    default: false
  place:
    description: Which lock. V(openrouter) is at the place that C(fleet.yml) names.
    type: str
    choices: [server, openrouter]
    default: server
extends_documentation_fragment:
  - mai.fleet.attributes
  - mai.fleet.attributes.controller
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
- name: Show who is at work on each server
  mai.fleet.fleet_unlock:

- name: Break the lock of one server
  mai.fleet.fleet_unlock:
    break: web1
"""

RETURN = r"""
lock:
  description: >-
    Who has the lock, or had it before it was broken, with C(who), C(doing), C(since), C(age) in seconds,
    and C(run). Null when nobody had it.
  returned: success
  type: dict
"""
