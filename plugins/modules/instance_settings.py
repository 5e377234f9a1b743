#!/usr/bin/python
# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: instance_settings
author: mai.fleet contributors (@mai-fleet)
version_added: 0.1.0
short_description: Reconcile the settings of Open WebUI instances
description:
  - Makes the settings that Open WebUI keeps in its own database match, for all given clients of a
    server in one call, through Open WebUI's admin API and without a restart.
  - It looks after the connection to OpenRouter, the sharing of its models with all users, the
    removal of models that are no longer listed, the public URL, a notice while a client is
    suspended, and that strangers cannot sign up. An instance that nobody has claimed is claimed.
  - It keeps two accounts in each instance, C(service@mai-fleet.invalid), an admin, and
    C(probe@mai-fleet.invalid), an ordinary user, and repairs them. A token that is missing or
    refused is made anew from the instance's secret key and its database; nobody signs in.
  - Other connections, models, banners, accounts and settings stay as they are.
  - What fails for one client does not keep the others from being reconciled.
options:
  clients:
    description: The clients whose instances to look after.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: The name of the client.
        type: str
        required: true
      volume:
        description: The volume that holds its data. The client's name with C(_data) when it is empty.
        type: str
        default: ""
      port:
        description: The port of the instance on this server's loopback address.
        type: int
        required: true
      webui_url:
        description: The URL at which users reach the instance.
        type: str
        required: true
      admin_email:
        description: The address of the client's first admin, for an instance that is unclaimed.
        type: str
        required: true
      admin_name:
        description: The name of the client's first admin.
        type: str
        default: Admin
      connection:
        description: The connection to OpenRouter.
        type: dict
        required: true
        suboptions:
          url:
            description:
              - Its base URL, without a slash at the end.
              - The connection is found by it, or else by its key.
            type: str
            required: true
          model_ids:
            description: The models that it offers, at least one.
            type: list
            elements: str
            required: true
          tags:
            description: Tags that its models bear.
            type: list
            elements: str
            default: []
          foreign_keys:
            description:
              - What becomes of a key that somebody else typed in, and that O(owners) does not have.
              - V(revert) puts the client's key back and warns, V(keep) and V(adopt) leave it and warn,
                V(report) leaves it and fails for the client.
              - A key of another client is always replaced, and fails for the client.
            type: str
            choices: [report, keep, adopt, revert]
            default: revert
      models:
        description: What users read instead of a model's id.
        type: list
        elements: dict
        default: []
        suboptions:
          id:
            description: The id of a model.
            type: str
            required: true
          name:
            description:
              - The name to show.
              - A name that somebody has given the model in the instance stays.
            type: str
            required: true
      retired:
        description:
          - Ids of models that the client once had from here.
          - Their rows are removed also if they have lost the mark that the module gave them, unless
            a connection of the client's own may serve the model by now.
        type: list
        elements: str
        default: []
      suspended:
        description: Whether to show O(clients[].notice) to all users.
        type: bool
        default: false
      starts:
        description:
          - For check mode, whether the instance is about to be started or made.
          - Then it need not answer; what its settings are is not known, and a warning says so.
        type: bool
        default: false
      notice:
        description: What users read while the client is suspended.
        type: str
        default: This service is suspended. Please contact your administrator.
  owners:
    description:
      - The names of clients by the fingerprints of their keys, of all keys of the fleet, also former
        ones. A key that stands in a connection is recognised by it.
    type: dict
    default: {}
  docker_host:
    description: The URL of Docker's socket, which is asked where a volume lies.
    type: str
    default: unix:///var/run/docker.sock
  pool:
    description: How many clients to deal with at the same time.
    type: int
    default: 8
  timeout:
    description: How long to wait for each answer, in seconds.
    type: float
    default: 30
  secrets:
    description:
      - A JSON object that has for each client an object with C(api_key) and C(webui_secret_key),
        and, where they exist, C(admin_password), C(service_token), C(probe_token),
        C(service_password) and C(probe_password).
      - The passwords are only given to accounts that are made. Without one, a random password is
        given that nobody knows.
    type: str
    required: true
extends_documentation_fragment:
  - mai.fleet.attributes
  - mai.fleet.attributes.full
  - mai.fleet.attributes.server
"""

EXAMPLES = r"""
- name: Reconcile the settings of one instance
  mai.fleet.instance_settings:
    clients:
      - name: acme
        port: 8301
        webui_url: https://chat.acme.example
        admin_email: anna@acme.example
        connection:
          url: https://openrouter.ai/api/v1
          model_ids:
            - openai/gpt-4o-mini
        models:
          - id: openai/gpt-4o-mini
            name: GPT-4o mini
    secrets: "{{ secrets | ansible.builtin.to_json }}"
"""

RETURN = r"""
clients:
  description: What was found and done, by client.
  returned: always
  type: dict
  contains:
    changed:
      description: Whether a setting was changed, or would be.
      type: bool
    before:
      description:
        - What was found. A key is shown as its fingerprint.
        - All is null for an instance that does not exist yet, and empty if nothing could be found
          out.
      type: dict
      sample:
        claimed: true
        service_account: admin
        probe_account: missing
        sign_up: closed
        url: https://chat.acme.example
        provider_enabled: true
        connection:
          url: https://openrouter.ai/api/v1
          key: sha256:5f70bf18a086
          models: [openai/gpt-4o-mini]
          tags: []
          enabled: true
          unsuitable: []
        models: {openai/gpt-4o-mini: "GPT-4o mini, not shared"}
        notice: ""
    after:
      description: The same as it is now, or would be.
      type: dict
    warnings:
      description: What a person should know.
      type: list
      elements: str
    accounts:
      description:
        - Id and session stamp of those of the two accounts, C(service) and C(probe), whose token
          was missing or refused. With the instance's secret key they make a new token.
      returned: when a token had to be made anew
      type: dict
      sample: {"probe": {"id": "8c4f2a60-5a4e-4b0c-a8b0-1f3f2e6f7d5c", "stamp": "3f0e9d2b"}}
    replaced_key:
      description: The fingerprint (C(found)) of the key that gave way, and C(whose) it is.
      returned: when a key that somebody typed in was replaced, or would be
      type: dict
    failed:
      description: Whether it failed for this client.
      type: bool
    failure:
      description: What went wrong, where, and what to do next.
      returned: when it failed
      type: dict
"""

import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.accounts import Instance, Owner
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.bulk import for_each
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.ownership import (
    POLICIES,
    REVERT,
    Custody,
)
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.settings import (
    Settings,
    reconcile,
)
from ansible_collections.mai.fleet.plugins.module_utils._rows import Row, outcome, parse_secrets
from ansible_collections.mai.fleet.plugins.module_utils._transport.loopback import Loopback

STRINGS: dict[str, Any] = {"type": "list", "elements": "str", "default": []}
CONNECTION: dict[str, Any] = {
    "url": {"type": "str", "required": True},
    "model_ids": {"type": "list", "elements": "str", "required": True},
    "tags": STRINGS,
    "foreign_keys": {
        "type": "str",
        "choices": list(POLICIES),
        "default": REVERT,
        "no_log": False,
    },
}
MODEL: dict[str, Any] = {
    "id": {"type": "str", "required": True},
    "name": {"type": "str", "required": True},
}
CLIENT: dict[str, Any] = {
    "name": {"type": "str", "required": True},
    "volume": {"type": "str", "default": ""},
    "port": {"type": "int", "required": True},
    "webui_url": {"type": "str", "required": True},
    "admin_email": {"type": "str", "required": True},
    "admin_name": {"type": "str", "default": "Admin"},
    "connection": {"type": "dict", "required": True, "options": CONNECTION},
    "models": {"type": "list", "elements": "dict", "default": [], "options": MODEL},
    "retired": STRINGS,
    "suspended": {"type": "bool", "default": False},
    "starts": {"type": "bool", "default": False},
    "notice": {
        "type": "str",
        "default": "This service is suspended. Please contact your administrator.",
    },
}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "clients": {"type": "list", "elements": "dict", "required": True, "options": CLIENT},
            "owners": {"type": "dict", "default": {}, "no_log": False},
            "docker_host": {"type": "str", "default": "unix:///var/run/docker.sock"},
            "pool": {"type": "int", "default": 8},
            "timeout": {"type": "float", "default": 30},
            "secrets": {"type": "str", "required": True, "no_log": True},
        },
        supports_check_mode=True,
    )
    params = module.params
    clients = {client["name"]: client for client in params["clients"]}

    def work(name: str) -> Row:
        client, known = clients[name], secrets.get(name, {})
        instance = Instance(
            client=name,
            transport=Loopback(f"http://127.0.0.1:{client['port']}", params["timeout"]),
            docker=params["docker_host"],
            secrets=known,
            now=int(time.time()),
            volume=client["volume"],
        )
        settings = Settings(
            url=client["connection"]["url"],
            key=instance.secret("api_key"),
            model_ids=client["connection"]["model_ids"],
            tags=client["connection"]["tags"],
            names={model["id"]: model["name"] for model in client["models"]},
            retired=client["retired"],
            webui_url=client["webui_url"],
            suspended=client["suspended"],
            notice=client["notice"],
            starts=client["starts"],
            custody=Custody(params["owners"], client["connection"]["foreign_keys"]),
        )
        password = instance.secret("admin_password")
        owner = Owner(client["admin_email"], client["admin_name"], password)
        return reconcile(instance, settings, owner, module.check_mode)

    try:
        secrets = parse_secrets(params["secrets"])
    except FleetError as error:
        module.fail_json(msg=str(error), failure=error.failure())
    module.exit_json(**outcome(for_each(list(clients), params["pool"], work), module._diff))


if __name__ == "__main__":
    main()
