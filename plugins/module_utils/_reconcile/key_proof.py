# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the mai.fleet collection
"""The gates at OpenRouter, asked with the client's own key.

What the management API says of a key is a list; what the key itself can and cannot do is a proof.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ansible_collections.mai.fleet.plugins.module_utils._api.openrouter import OpenRouter
from ansible_collections.mai.fleet.plugins.module_utils._errors import (
    ApiError,
    FleetError,
    Unauthorized,
)
from ansible_collections.mai.fleet.plugins.module_utils._fleet.catalog import slug

#: The least that every provider takes.
MAX_TOKENS = 16
PROMPT = "Answer with the word yes."

_PAUSE = 1.0


@dataclass(frozen=True)
class Sold:
    """What the client's key must be. ``limit`` is USD or None for no cap."""

    client: str
    suspended: bool
    limit: float | None
    limit_reset: str
    slugs: list[str]
    fence_model: str | None


@dataclass(frozen=True)
class Proof:
    """:ivar exhausted: the cap is used up, which is a state and not a defect"""

    gates: list[dict[str, Any]]
    exhausted: bool = False


def prove(
    api: OpenRouter,
    sold: Sold,
    *,
    patience: float,
    fence: bool,
    sleep: Callable[[float], None] = time.sleep,
) -> Proof:
    """All gates of one client's key.

    :param patience: seconds to wait for a change of a guardrail to be in force, which OpenRouter
        does not promise to be at once
    :param fence: whether to make the call that has to be refused
    """
    if sold.suspended:
        return Proof([_gate("key", "refused, because the client is suspended", _refused(api))])
    try:
        current = api.current_key()
    except FleetError as error:
        todo = f"run mai.fleet.site -e fleet_select={sold.client}; was the key deleted or disabled?"
        return Proof([_gate("key", "the key authenticates", str(error), todo)])
    exhausted = current["limit_remaining"] is not None and current["limit_remaining"] <= 0
    kind = "a management key" if current.get("is_management_key") else "the key authenticates"
    cap = _cap(current["limit"], current.get("limit_reset") or "never")
    repair = f"run mai.fleet.site -e fleet_select={sold.client}"
    gates = [
        _gate("key", "the key authenticates", kind, "an ordinary key belongs here"),
        _gate("cap", _cap(sold.limit, sold.limit_reset), cap, repair),
        _allowlist(api, sold, patience, sleep),
    ]
    # Without an allowlist that holds, a call that should be refused could cost money.
    if fence and sold.fence_model and gates[-1]["passed"] and not exhausted:
        gates.append(_fence(api, sold, patience, sleep))
    return Proof(gates, exhausted)


def _refused(api: OpenRouter) -> str:
    try:
        api.current_key()
    except Unauthorized:
        return "refused, because the client is suspended"
    except FleetError as error:
        return str(error)
    return "the key authenticates"


def _allowlist(
    api: OpenRouter, sold: Sold, patience: float, sleep: Callable[[float], None]
) -> dict[str, Any]:
    want = sorted(sold.slugs)
    seen: list[str] = []
    deadline = time.monotonic() + patience
    while True:
        try:
            seen = sorted(slug(row["id"], row["canonical_slug"]) for row in api.user_models())
        except FleetError as error:
            return _gate("allowlist", f"{len(want)} models", str(error), "run again")
        if seen == want or time.monotonic() >= deadline:
            break
        sleep(_PAUSE)
    missing = [model for model in want if model not in seen]
    extra = [model for model in seen if model not in want]
    difference = f"{len(want)} models"
    if missing or extra:
        parts = [f"missing {', '.join(missing[:5])}"] if missing else []
        parts += [f"{len(extra)} too many, such as {', '.join(extra[:3])}"] if extra else []
        difference = "; ".join(parts)
    todo = (
        "compare the key's guardrail, the workspace's default guardrail and the account's privacy "
        "settings in OpenRouter's dashboard"
    )
    return _gate("allowlist", f"{len(want)} models", difference, todo)


def _fence(
    api: OpenRouter, sold: Sold, patience: float, sleep: Callable[[float], None]
) -> dict[str, Any]:
    """One call of a model that exists and was not sold: only a guardrail's refusal is a pass."""
    expected = f"{sold.fence_model} is refused by the guardrail"
    todo = "check that the guardrail is assigned to the key; until then any model can be used"
    for last in (False, True):
        try:
            api.chat(str(sold.fence_model), PROMPT, MAX_TOKENS)
            seen = f"{sold.fence_model} answered"
        except ApiError as error:
            by_guardrail = error.status in (403, 404) and "guardrail" in error.what.lower()
            return _gate("fence", expected, expected if by_guardrail else str(error), todo)
        except FleetError as error:
            return _gate("fence", expected, str(error), "run again")
        if not last:
            sleep(min(patience, 5.0))
    return _gate("fence", expected, seen, todo)


def _gate(name: str, expected: str, seen: str, todo: str = "") -> dict[str, Any]:
    passed = expected == seen
    return {
        "gate": name,
        "passed": passed,
        "expected": expected,
        "seen": seen,
        "todo": "" if passed else todo,
    }


def _cap(limit: float | None, reset: str) -> str:
    return f"unlimited, reset {reset}" if limit is None else f"{limit:g} USD, reset {reset}"
