#!/usr/bin/python
# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: openrouter_keys
short_description: Make, change, rotate and delete keys at OpenRouter
version_added: 0.1.0
author: mai.fleet contributors (@mai-fleet)
description:
  - Deals with any number of keys in one task. It needs no inventory of this collection, no server and no role.
  - >-
    OpenRouter shows the secret of a key once. So an attempt is written down before a key is made, and the secret is
    stored right after it. A run may be cut off between any two steps. The next one goes on with a key whose secret is
    stored; a key of its own attempt whose secret nobody has is disabled, replaced, and deleted later.
  - >-
    No secret is ever returned. Read it where it is needed, with P(ansible.builtin.file#lookup), which also decrypts.
  - >-
    A key is known by its stored secret, else by its name, which no other key may have then. While a key is being
    made, it is called C(NAME~ATTEMPT).
options:
  keys:
    description: The keys. Others are left alone.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: The key's name.
        type: str
        required: true
      state:
        description:
          - V(present) makes the key if there is none, and changes what is asked for.
          - >-
            V(rotated) does the same, and makes another key in the place of one that is there. The new one takes over the
            settings of the old one that are not given, and its guardrail. The old one goes on working for O(grace)
            seconds, and the next run after that deletes it. As long as it is there, no other key is made.
          - V(absent) deletes the key, what is left of earlier ones, and the stored secret.
        type: str
        choices: [present, absent, rotated]
        default: present
      limit:
        description:
          - What may be spent, in USD, or V(unlimited).
          - Not given, it stays as it is; a new key has none.
          - OpenRouter counts by key. See O(keys[].carry_usage) for one that replaces another.
        type: raw
      limit_reset:
        description: When the limit is full again. Weeks begin on Monday, and all of it is UTC.
        type: str
        choices: [daily, weekly, monthly, never]
      disabled:
        description: Whether the key is refused.
        type: bool
      include_byok_in_limit:
        description: Whether spending with provider keys of one's own counts against the limit.
        type: bool
      expires_at:
        description:
          - When the key ends, in UTC, such as V(2027-01-31T00:00:00Z).
          - OpenRouter takes it when a key is made, and cannot change it afterwards.
        type: str
      guardrail:
        description: The name of the guardrail that the key gets. Empty to take away the one that it has.
        type: str
      max_age_days:
        description: With O(keys[].state=rotated), replace the key only if it is older than that; V(0) for any age.
        type: float
        default: 0.0
      carry_usage:
        description:
          - >-
            Whether what earlier keys of this name spent is taken off the limit, as long as they would have counted
            against it. The first run after the limit is full again gives the key the whole of it; without
            such a run, the key goes on with less. Until then, the whole is what the task says, or else what
            the key before it had, or what somebody set at OpenRouter since.
          - >-
            It is found out in every run. What a replaced key spends between two runs, while it still works, can be
            spent by its successor, too.
          - It needs O(secrets_directory), where what deleted keys spent is remembered. With O(keys[].state=absent), that is forgotten.
        type: bool
        default: true
  secrets_directory:
    description:
      - >-
        The directory on the controller with a file a key, with the mode 0600. Characters of a name that no file should have
        are written as C(%) and two hex digits.
      - >-
        Its folder C(.openrouter) holds what is remembered of unfinished work and of what earlier keys spent, and secrets
        of replaced keys until those are deleted. Keep it with the rest.
      - Each workspace needs a directory of its own.
      - Without it, keys can be changed and deleted, and none can be made.
    type: path
  encrypt:
    description:
      - >-
        Whether secrets are encrypted, with the vault password that the run is given and the vault id of
        C(vault_encrypt_identity).
      - It says nothing about files that are there already. A secret in clear is warned about.
    type: bool
    default: true
  grace:
    description: >-
      Seconds from the replacement of a key, or the disabling of one whose secret is lost, to its deletion. It is
      deleted by the first run after that.
    type: float
    default: 86400.0
attributes:
  diff_mode:
    support: full
  check_mode:
    support: full
  idempotent:
    support: partial
    details:
      - >-
        With O(keys[].state=rotated), a key is replaced again when the replaced one is deleted, unless
        O(keys[].max_age_days) says otherwise.
      - >-
        Time is an input, too. What is due is done by the run that comes next: a replaced key is deleted, and a key whose
        limit was less because of O(keys[].carry_usage) gets the whole of it.
extends_documentation_fragment:
  - mai.fleet.attributes
  - mai.fleet.attributes.workspace
  - mai.fleet.openrouter
  - mai.fleet.openrouter.workspace
seealso:
  - module: mai.fleet.openrouter_guardrails
  - module: mai.fleet.openrouter_keys_info
"""

EXAMPLES = r"""
- name: Keys for two projects
  mai.fleet.openrouter_keys:
    secrets_directory: "{{ playbook_dir }}/openrouter"
    keys:
      - name: website
        limit: 20
        limit_reset: monthly
        guardrail: cheap models
      - name: ci
        limit: 5
        limit_reset: daily
        expires_at: "2027-12-31T00:00:00Z"

- name: Use a secret, which is decrypted on the way
  ansible.builtin.copy:
    content: "OPENROUTER_API_KEY={{ lookup('ansible.builtin.file', playbook_dir ~ '/openrouter/website') }}\n"
    dest: /etc/website.env
    mode: "0600"
  diff: false
  no_log: true

- name: Another key every ninety days; the old one works for another week
  mai.fleet.openrouter_keys:
    secrets_directory: "{{ playbook_dir }}/openrouter"
    grace: 604800
    keys:
      - name: website
        state: rotated
        max_age_days: 90

- name: A key in another workspace, whose secrets are apart
  mai.fleet.openrouter_keys:
    workspace: production
    secrets_directory: "{{ playbook_dir }}/openrouter-production"
    keys:
      - name: website
        limit: 200
        limit_reset: monthly

- name: A key that nobody needs any more
  mai.fleet.openrouter_keys:
    secrets_directory: "{{ playbook_dir }}/openrouter"
    keys:
      - name: ci
        state: absent
"""

RETURN = r"""
api_keys:
  description: >-
    What was found and done, in the order of the option O(keys). The task fails if it failed for one of them, after all
    the others are done.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: The key's name.
      type: str
    changed:
      description: Whether something was changed, or would be.
      type: bool
    before:
      description: >-
        What was found. A secret is shown as its fingerprint. C(earlier_keys) are those that this one replaced and those
        whose secret was lost, while there are any.
      type: dict
      sample:
        key: sha256:58f9f67e7c83
        limit: 20
        limit_reset: monthly
        disabled: false
        include_byok_in_limit: false
        expires_at: never
        guardrail: cheap models
    after:
      description: The same as it is now, or would be.
      type: dict
    hash:
      description: OpenRouter's name for the key, which is the SHA-256 of its secret. Null while there is none.
      type: str
    stored:
      description: Whether the secret of this key is stored.
      type: bool
    secret_file:
      description: Where it is stored.
      type: str
      sample: /home/op/openrouter/website
    spent_before:
      description: >-
        What earlier keys of this name spent since the limit was full, in USD. That much is taken off the limit, unless
        O(keys[].carry_usage=false). Not there with O(keys[].state=absent).
      type: float
    warnings:
      description: What a person should know.
      type: list
      elements: str
    failed:
      description: Whether it failed for this key.
      type: bool
    failure:
      description: What went wrong, where, and what to do next.
      returned: when it failed
      type: dict
      contains:
        what:
          description: What went wrong.
          type: str
        where:
          description: The request, file or object that it is about.
          type: str
        todo:
          description: What to do next.
          type: str
"""
