#!/usr/bin/python
# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: instance_proof
author: mai.fleet contributors (@mai-fleet)
version_added: 0.1.0
short_description: Prove that Open WebUI instances are what they shall be
description:
  - Passes the Open WebUI instances of all given clients of a server through their gates, in one
    call.
  - The gates are V(ready), V(version), V(claimed), V(closed) (strangers cannot sign up),
    V(connection) (as stored), V(models_admin) and V(models_user) (the models that an admin and an
    ordinary user see), and V(chat), one small chat of an ordinary user, which only the client's own
    key can pay for.
  - A gate that is not passed says what was expected, what was seen and what to do. Such a client
    has failed; the task has not.
options:
  clients:
    description: The clients whose instances to look at.
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
      version:
        description: The version of Open WebUI that shall run.
        type: str
        required: true
      connection:
        description: The connection to OpenRouter as it shall be stored.
        type: dict
        required: true
        suboptions:
          url:
            description: Its base URL.
            type: str
            required: true
          model_ids:
            description: The models that it shall offer.
            type: list
            elements: str
            required: true
          key_fingerprint:
            description:
              - The fingerprint of its key, C(sha256:) and the first twelve digits of its SHA-256.
            type: str
            required: true
          tags:
            description: Tags that its models shall bear.
            type: list
            elements: str
            default: []
          foreign_keys:
            description: With V(keep), a key that O(owners) does not have may be in the connection.
            type: str
            choices: [report, keep, adopt, revert]
            default: revert
      model_ids:
        description:
          - The models of this connection that people shall see, no more and no fewer.
          - Models of other connections do not matter.
        type: list
        elements: str
        required: true
      chat:
        description: The chat to make. Without it there is no gate V(chat).
        type: dict
        suboptions:
          model:
            description: The id of the model to ask.
            type: str
            required: true
          max_tokens:
            description: How long the answer may be.
            type: int
            default: 16
          prompt:
            description: What to ask.
            type: str
            default: Say OK.
      chat_expect:
        description:
          - V(answered) for a client in service. A limit that is used up is no failure.
          - V(refused) for a suspended client, whose key must not work.
        type: str
        choices: [answered, refused]
        default: answered
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
    description: How many clients to look at at the same time.
    type: int
    default: 8
  timeout:
    description: How long to wait for each answer but that of the chat, in seconds.
    type: float
    default: 30
  secrets:
    description:
      - A JSON object that has for each client an object with C(webui_secret_key), and, where they
        exist, C(service_token) and C(probe_token).
    type: str
    required: true
extends_documentation_fragment:
  - mai.fleet.attributes
  - mai.fleet.attributes.read_only
  - mai.fleet.attributes.server
attributes:
  check_mode:
    support: full
    details:
      - It only reads. In check mode the chat, which may cost something, is left out.
"""

EXAMPLES = r"""
- name: Prove one instance
  mai.fleet.instance_proof:
    clients:
      - name: acme
        port: 8301
        version: 0.12.4
        connection:
          url: https://openrouter.ai/api/v1
          key_fingerprint: sha256:5f70bf18a086
          model_ids:
            - openai/gpt-4o-mini
        model_ids:
          - openai/gpt-4o-mini
        chat:
          model: openai/gpt-4o-mini
    secrets: "{{ secrets | ansible.builtin.to_json }}"
"""

RETURN = r"""
clients:
  description: What was found, by client.
  returned: always
  type: dict
  contains:
    changed:
      description: Always false.
      type: bool
    before:
      description: Always empty.
      type: dict
    after:
      description: Always empty.
      type: dict
    warnings:
      description: What a person should know.
      type: list
      elements: str
    gates:
      description: The gates, in order.
      type: list
      elements: dict
      contains:
        gate:
          description: Its name.
          type: str
        expected:
          description: What was to be seen.
          type: str
        state:
          description:
            - V(passed); V(exhausted) if the client's limit is used up, which passes too;
              V(failed); or V(unchecked) if a gate before it kept it from being looked at.
          type: str
        passed:
          description: Whether the state is V(passed) or V(exhausted).
          type: bool
        seen:
          description: What was seen.
          type: str
        todo:
          description: What to do, if it was not passed or is exhausted.
          type: str
        seconds:
          description: How long it took.
          type: float
    accounts:
      description:
        - Id and session stamp of those of the fleet's two accounts, C(service) and C(probe), whose
          token was missing or refused. With the instance's secret key they make a new token.
      returned: when a token had to be made anew
      type: dict
    failed:
      description: Whether a gate was not passed.
      type: bool
    failure:
      description: What went wrong, where, and what to do next.
      returned: when a gate was not passed
      type: dict
"""

import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.accounts import Instance
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.bulk import for_each
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.ownership import (
    POLICIES,
    REVERT,
    Custody,
)
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.proof import (
    Chat,
    Expected,
    Prover,
)
from ansible_collections.mai.fleet.plugins.module_utils._rows import Row, outcome, parse_secrets
from ansible_collections.mai.fleet.plugins.module_utils._transport.loopback import Loopback

STRINGS: dict[str, Any] = {"type": "list", "elements": "str", "required": True}
CONNECTION: dict[str, Any] = {
    "url": {"type": "str", "required": True},
    "model_ids": STRINGS,
    "key_fingerprint": {"type": "str", "required": True, "no_log": False},
    "tags": {"type": "list", "elements": "str", "default": []},
    "foreign_keys": {
        "type": "str",
        "choices": list(POLICIES),
        "default": REVERT,
        "no_log": False,
    },
}
CHAT: dict[str, Any] = {
    "model": {"type": "str", "required": True},
    "max_tokens": {"type": "int", "default": 16, "no_log": False},
    "prompt": {"type": "str", "default": "Say OK."},
}
CLIENT: dict[str, Any] = {
    "name": {"type": "str", "required": True},
    "volume": {"type": "str", "default": ""},
    "port": {"type": "int", "required": True},
    "version": {"type": "str", "required": True},
    "connection": {"type": "dict", "required": True, "options": CONNECTION},
    "model_ids": STRINGS,
    "chat": {"type": "dict", "options": CHAT},
    "chat_expect": {"type": "str", "choices": ["answered", "refused"], "default": "answered"},
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
        client = clients[name]
        instance = Instance(
            client=name,
            transport=Loopback(f"http://127.0.0.1:{client['port']}", params["timeout"]),
            docker=params["docker_host"],
            secrets=secrets.get(name, {}),
            now=int(time.time()),
            volume=client["volume"],
        )
        chat = None
        if client["chat"] and not module.check_mode:
            chat = Chat(**client["chat"], refused=client["chat_expect"] == "refused")
        expected = Expected(
            version=client["version"],
            url=client["connection"]["url"],
            key_fingerprint=client["connection"]["key_fingerprint"],
            connection_ids=client["connection"]["model_ids"],
            tags=client["connection"]["tags"],
            model_ids=client["model_ids"],
            chat=chat,
            custody=Custody(params["owners"], client["connection"]["foreign_keys"]),
        )
        return Prover(instance, expected).run()

    try:
        secrets = parse_secrets(params["secrets"])
    except FleetError as error:
        module.fail_json(msg=str(error), failure=error.failure())
    module.exit_json(**outcome(for_each(list(clients), params["pool"], work), module._diff))


if __name__ == "__main__":
    main()
