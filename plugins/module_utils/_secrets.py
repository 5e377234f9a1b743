# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the mai.fleet collection
"""What may be shown of a secret, and how one travels back from a server unseen."""

from __future__ import annotations

import base64
import hashlib


def sha256(secret: str) -> str:
    """Lowercase hex SHA-256. For an OpenRouter key this is its ``hash`` in the keys API."""
    return hashlib.sha256(secret.encode("utf-8")).hexdigest()


def fingerprint(secret: str) -> str:
    """What stands for a secret in diffs, tables and logs."""
    return f"sha256:{sha256(secret)[:12]}"


def fingerprint_of(key_hash: str) -> str:
    """The fingerprint of a secret of which only OpenRouter's hash is known."""
    return f"sha256:{key_hash[:12]}"


def seal(secret: str, pad: str) -> str:
    """Cover ``secret`` with a pad that is used once, so that a module's output does not show it.

    Ansible prints a module's whole output at high verbosity; the pad reaches the module in its
    ``no_log`` option only. ``pad`` is hex and at least as long as the secret (bytes).

    :raises ValueError: the pad is too short
    """
    return base64.b64encode(_xor(secret.encode("utf-8"), pad)).decode("ascii")


def unseal(sealed: str, pad: str) -> str:
    """The opposite of :func:`seal`."""
    return _xor(base64.b64decode(sealed), pad).decode("utf-8")


def _xor(data: bytes, pad: str) -> bytes:
    key = bytes.fromhex(pad)
    if len(key) < len(data):
        raise ValueError("the pad is shorter than the secret")
    return bytes(left ^ right for left, right in zip(data, key))
