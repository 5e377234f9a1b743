# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Values for .env files that Docker Compose reads."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.mai.fleet.plugins.module_utils._dotenv import quote

DOCUMENTATION = r"""
name: dotenv
author: mai.fleet contributors (@mai-fleet)
version_added: 0.1.0
short_description: Quote a value for an .env file of Docker Compose
description:
  - Quotes a value so that it reaches a container unharmed from an C(.env) file that Compose reads,
    be it as C(env_file) or for the interpolation of the Compose file.
  - Spaces, quotes, C($), C(#), backslashes and letters of any language survive.
  - A value with a line break or a NUL is refused, because no line of such a file can carry it.
options:
  _input:
    description:
      - The value.
      - A number stands as it is written in decimal, a boolean as V(true) or V(false).
    type: raw
    required: true
"""

EXAMPLES = r"""
- name: Show a quoted name
  ansible.builtin.debug:
    msg: "WEBUI_NAME={{ 'Müller & Söhne: 5 $' | mai.fleet.dotenv }}"
  # WEBUI_NAME='Müller & Söhne: 5 $'
"""

RETURN = r"""
_value:
  description: The value with its quotes, to stand right behind C(NAME=).
  type: str
"""


def dotenv(value: Any) -> str:
    """See DOCUMENTATION. The message of an error never contains the value."""
    if isinstance(value, bool):
        return quote("true" if value else "false")
    if not isinstance(value, (str, int, float)):
        raise AnsibleFilterError(
            f"mai.fleet.dotenv: expected a text, a number or a boolean, got {type(value).__name__}"
        )
    try:
        return quote(str(value))
    except ValueError as error:
        raise AnsibleFilterError(f"mai.fleet.dotenv: {error}") from None


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Any]:
        return {"dotenv": dotenv}
