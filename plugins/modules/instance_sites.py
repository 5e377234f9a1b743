#!/usr/bin/python
# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: instance_sites
author: mai.fleet contributors (@mai-fleet)
version_added: 0.1.0
short_description: Serve the domains of many clients on their server
description:
  - Writes one site of HAProxy for each client that has a domain, removes the sites of others, loads
    what changed once, and gets the certificates that are missing, all in one call.
  - Nothing is changed unless HAProxy accepts the new configuration as a whole. A site that it does
    not accept fails its client only.
  - A certificate that cannot be renewed stays in use, and its client gets a warning.
  - The role C(mai.fleet.edge) has to have prepared the server.
options:
  clients:
    description: The clients to look after. Sites of others are not touched.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: The name of the client.
        type: str
        required: true
      domain:
        description: Where people reach the instance. Without it, the client has no site.
        type: str
        default: ""
      site:
        description:
          - The part of HAProxy's configuration that is the client's, with a backend C(site:DOMAIN).
          - Needed with a domain.
        type: str
        default: ""
  known:
    description:
      - The names of all clients that the fleet has on this server. Others are reported as
        RV(unlisted).
      - Without it, nothing is reported.
    type: list
    elements: str
  addresses:
    description:
      - Addresses that a domain may resolve to without a warning, besides those of this server.
    type: list
    elements: str
    default: []
  address:
    description: Where HAProxy can be reached from this server.
    type: str
    default: 127.0.0.1
requirements:
  - HAProxy 2.6 or later
  - dehydrated 0.7 or later
  - openssl
  - systemd
extends_documentation_fragment:
  - mai.fleet.attributes
  - mai.fleet.attributes.full
  - mai.fleet.attributes.server
"""

EXAMPLES = r"""
- name: Serve one domain and give up another
  mai.fleet.instance_sites:
    clients:
      - name: acme
        domain: chat.acme.example
        site: |
          backend site:chat.acme.example
              server instance 127.0.0.1:8301
      - name: globex
"""

RETURN = r"""
clients:
  description: What was found and done, by client.
  returned: always
  type: dict
  contains:
    changed:
      description: Whether the site or its certificate changed.
      type: bool
    before:
      description:
        - C(site) has the first digits of the SHA-256 of the site, C(certificate) the day on which
          the certificate ends, or V(broken). They are null without a site or a certificate.
      type: dict
      sample: {"site": "sha256:5f70bf18a086", "certificate": "2027-01-31"}
    after:
      description: The same as it is now, or what would be done.
      type: dict
    warnings:
      description: What a person should know.
      type: list
      elements: str
    gates:
      description:
        - The gate C(site) of a client with a domain, in the form of RV(mai.fleet.instance_proof#module:clients.gates).
        - It is missing in check mode.
      returned: when the site was visited
      type: list
      elements: dict
      sample:
        - gate: site
          expected: https://chat.acme.example answers, with a certificate that is valid for it
          state: passed
          passed: true
          seen: 200, with a certificate until 2027-01-31
          todo: ""
          seconds: 0.02
    failed:
      description: Whether it failed for this client.
      type: bool
    failure:
      description: What went wrong, where, and what to do next.
      returned: when it failed
      type: dict
loaded:
  description: Whether HAProxy was started, or loaded a configuration that had changed.
  returned: always
  type: bool
unlisted:
  description: Names of clients that have a site here and are not known.
  returned: always
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.sites import (
    Reconciler,
    Settings,
    Wanted,
)
from ansible_collections.mai.fleet.plugins.module_utils._rows import outcome

CLIENT = {
    "name": {"type": "str", "required": True},
    "domain": {"type": "str", "default": ""},
    "site": {"type": "str", "default": ""},
}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "clients": {"type": "list", "elements": "dict", "required": True, "options": CLIENT},
            "known": {"type": "list", "elements": "str"},
            "addresses": {"type": "list", "elements": "str", "default": []},
            "address": {"type": "str", "default": "127.0.0.1"},
        },
        supports_check_mode=True,
    )
    options = module.params
    reconciler = Reconciler(
        Settings(
            addresses=options["addresses"], address=options["address"], check=module.check_mode
        )
    )
    try:
        known = options["known"]
        unlisted = [] if known is None else reconciler.unlisted(known)
        rows = reconciler.run(
            [Wanted(item["name"], item["domain"], item["site"]) for item in options["clients"]]
        )
    except FleetError as error:
        module.fail_json(msg=str(error), failure=error.failure())
    for warning in reconciler.warnings:
        module.warn(warning)
    result = outcome(rows, module._diff)
    result["changed"] = result["changed"] or reconciler.loaded
    module.exit_json(unlisted=unlisted, loaded=reconciler.loaded, **result)


if __name__ == "__main__":
    main()
