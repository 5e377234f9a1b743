#!/usr/bin/python
# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_edge
short_description: Serve the domains of all clients of a server
version_added: 0.1.0
author: mai.fleet contributors (@mai-fleet)
description:
  - Renders the sites of all clients that have a domain and an instance, and has the server serve
    them, with certificates. Clients that are gone or have no domain lose their site.
options:
  state:
    description: The state of the run, as the stage before gave it.
    type: dict
    required: true
  site_template:
    description: The template of a site.
    type: str
    required: true
  addresses:
    description: Addresses that a domain may resolve to, besides those of the server.
    type: list
    elements: str
    default: []
  address:
    description: Where the server reaches its own edge.
    type: str
    default: 127.0.0.1
extends_documentation_fragment:
  - mai.fleet.attributes
  - mai.fleet.attributes.full
  - mai.fleet.attributes.controller
"""

EXAMPLES = r"""
- name: Serve the clients' domains
  mai.fleet.fleet_edge:
    state: "{{ fleet_state }}"
    site_template: site.cfg.j2
  register: fleet_state
"""

RETURN = r"""
clients:
  description: What became of each client so far, by name. It never holds a secret.
  returned: always
  type: dict
  contains:
    server:
      description: The client's server.
      type: str
    state:
      description: V(present), V(suspended) or V(absent).
      type: str
    changed:
      description: The stages that changed something.
      type: list
      elements: str
    warnings:
      description: What a person should know.
      type: list
      elements: str
    failure:
      description: >-
        Why the client dropped out, with C(stage), C(what), C(where) and C(todo), or nothing.
      type: dict
catalog:
  description: The names of the models in use, by id.
  returned: always
  type: dict
unlisted:
  description: Clients that have a key or an instance, and no client file.
  returned: always
  type: list
  elements: str
"""
