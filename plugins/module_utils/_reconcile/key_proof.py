# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the mai.fleet collection
"""The gates at OpenRouter, asked with the client's own key.

What the management API says of a key is a list; what the key itself can and cannot do is a proof.
"""

from __future__ import annotations

import datetime
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from ansible_collections.mai.fleet.plugins.module_utils._api.openrouter import Key, OpenRouter
from ansible_collections.mai.fleet.plugins.module_utils._errors import (
    ApiError,
    FleetError,
    Unauthorized,
)
from ansible_collections.mai.fleet.plugins.module_utils._fleet.catalog import slug
from ansible_collections.mai.fleet.plugins.module_utils._fleet.environment import usd
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.expiry import read_time

if TYPE_CHECKING:
    from collections.abc import Callable

#: The least that every provider takes.
MAX_TOKENS = 16
PROMPT = "Answer with the word yes."

_PAUSE = 1.0
_SECOND_CALL = 5.0

#: What to do about a refusal that says nothing of the guardrail.
_UNPAID = (
    "the old key goes on working; see whether another connection of the instance answers for this "
    "model, then run mai.fleet.site: it chats and looks again"
)
_OTHERWISE = "something else refused it, which proves nothing of the guardrail; see the reason"
_NO_PROOF = {
    402: "add credit at https://openrouter.ai/settings/credits",
    403: _OTHERWISE,
    404: _OTHERWISE,
}


#: Reasons of a refusal as :func:`refusal` quotes them, and the one that is the allowlist's.
_REASONS = re.compile(r"\[[^\]]+\]")
_BY_ALLOWLIST = re.compile(r"(?<![\w-])model-[a-z-]+-by-guardrail")


class Clock(Protocol):
    """What of the module ``time`` is used here. Seconds."""

    def monotonic(self) -> float: ...

    def sleep(self, secs: float, /) -> None: ...


@dataclass(frozen=True)
class Sold:
    """What the client's key must be.

    :ivar limit: USD, None for no cap
    :ivar slugs: canonical, with variants; empty when all of the client's models left the catalog
    :ivar fence_model: a model that exists and was not sold, None if there is none
    :ivar renew_days: how long before its end a key is replaced
    :ivar at: the time that counts as now
    """

    client: str
    suspended: bool
    limit: float | None
    limit_reset: str
    slugs: list[str]
    fence_model: str | None
    renew_days: float
    at: datetime.datetime


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
    clock: Clock = time,
) -> Proof:
    """All gates of one client's key.

    :param patience: seconds to wait for a change of a key or a guardrail to be in force, which
        OpenRouter does not promise to be at once
    :param fence: whether to make the call that has to be refused
    """
    look = _suspended if sold.suspended else _free
    deadline = clock.monotonic() + patience
    while True:
        proof = look(api, sold)
        good = all(gate["passed"] for gate in proof.gates)
        if good or clock.monotonic() >= deadline:
            break
        clock.sleep(_PAUSE)
    # Without an allowlist that holds, a call that should be refused could cost money.
    if good and fence and sold.fence_model and not sold.suspended and not proof.exhausted:
        gate = _fence(api, sold.fence_model, lambda: clock.sleep(min(patience, _SECOND_CALL)))
        return Proof([*proof.gates, gate])
    return proof


class Purse:
    """Whether a chat is paid for with the key that is the client's now, and not with a former one.

    OpenRouter counts for each key. That is what is looked at, before the chat and after it.

    :param api: with the management key
    :param former: hashes of the keys that were replaced and work still
    """

    def __init__(
        self,
        api: OpenRouter,
        key_hash: str,
        former: list[str],
        *,
        patience: float,
        clock: Clock = time,
    ) -> None:
        """:raises FleetError: OpenRouter does not say what was spent until now"""
        self._api = api
        self._hash = key_hash
        self._patience = patience
        self._clock = clock
        self._before = {known: self._spent(known) for known in (key_hash, *former)}

    def gate(self) -> dict[str, Any]:
        """The gate, once the chat was answered. What is spent may be counted a little later."""
        expected = "the chat is paid for with the new key"
        deadline = self._clock.monotonic() + self._patience
        try:
            while not self._grew(self._hash):
                if self._clock.monotonic() >= deadline:
                    return _gate("spend", expected, self._elsewhere(), _UNPAID)
                self._clock.sleep(_PAUSE)
        except FleetError as error:
            return _gate("spend", expected, str(error), error.todo or "run again")
        return _gate("spend", expected, expected)

    def _spent(self, key_hash: str) -> tuple[float, str]:
        key: Key | None = self._api.key(key_hash)
        return (key.usage, key.last_used_at) if key else (0.0, "")

    def _grew(self, key_hash: str) -> bool:
        return self._spent(key_hash) != self._before[key_hash]

    def _elsewhere(self) -> str:
        used = [known[:12] for known in self._before if known != self._hash and self._grew(known)]
        if used:
            return (
                f"it was paid for with the key that was replaced, sha256:{', sha256:'.join(used)}"
            )
        return f"nothing was spent with the new key within {self._patience:.0f} s"


def _suspended(api: OpenRouter, sold: Sold) -> Proof:
    expected = "refused, because the client is suspended"
    try:
        api.current_key()
    except Unauthorized:
        return Proof([_gate("key", expected, expected)])
    except FleetError as error:
        return Proof([_gate("key", expected, str(error), error.todo or "run again")])
    todo = f"{_repair(sold)}; until then the key works"
    return Proof([_gate("key", expected, "the key authenticates", todo)])


def _free(api: OpenRouter, sold: Sold) -> Proof:
    """One look at what costs nothing."""
    expected = "the key authenticates"
    try:
        current = api.current_key()
    except Unauthorized as error:
        todo = f"{_repair(sold)}; was the key deleted or disabled, or has it expired?"
        return Proof([_gate("key", expected, str(error), todo)])
    except FleetError as error:
        return Proof([_gate("key", expected, str(error), error.todo or "run again")])
    kind = "a management key" if current.get("is_management_key") else expected
    cap = _cap(current.get("limit"), current.get("limit_reset") or "never")
    left = current.get("limit_remaining")
    gates = [
        _gate("key", expected, kind, "an ordinary key belongs here"),
        _gate("cap", _cap(sold.limit, sold.limit_reset), cap, _repair(sold)),
        _allowlist(api, sold),
    ]
    if current.get("expires_at"):
        gates.append(_end(current["expires_at"], sold))
    return Proof(gates, exhausted=left is not None and left <= 0)


def _end(expires_at: str, sold: Sold) -> dict[str, Any]:
    """A key that ends is there to be replaced. Half of the time for that may go by unnoticed."""
    seen = f"ends {expires_at}"
    todo = f"{_repair(sold)}, which replaces it; does the timer of mai.fleet.schedule run?"
    try:
        left = read_time(expires_at, "when the key ends") - sold.at
    except FleetError as error:
        return _gate("end", "a time", str(error), todo)
    late = left < datetime.timedelta(days=sold.renew_days / 2)
    expected = f"another key {sold.renew_days:g} days before the end" if late else seen
    return _gate("end", expected, seen, todo)


def _allowlist(api: OpenRouter, sold: Sold) -> dict[str, Any]:
    want = set(sold.slugs)
    expected = f"{len(want)} models"
    try:
        # As sets: a model and its alias are two rows for one slug.
        seen = {slug(row["id"], row["canonical_slug"]) for row in api.user_models()}
    except FleetError as error:
        return _gate("allowlist", expected, str(error), error.todo or "run again")
    missing, extra = sorted(want - seen), sorted(seen - want)
    difference = [f"missing {', '.join(missing[:5])}"] if missing else []
    difference += [f"{len(extra)} too many, such as {', '.join(extra[:3])}"] if extra else []
    todo = (
        "compare the key's guardrail, the workspace's default guardrail and the account's privacy "
        "settings in OpenRouter's dashboard"
    )
    return _gate("allowlist", expected, "; ".join(difference) or expected, todo)


def _fence(api: OpenRouter, model: str, pause: Callable[[], None]) -> dict[str, Any]:
    """One call of a model that exists and was not sold: only a guardrail's refusal is a pass."""
    expected = f"{model} is refused by the guardrail"
    todo = "check that the guardrail is assigned to the key; until then any model can be used"
    try:
        api.chat(model, PROMPT, MAX_TOKENS)
        # The fence may not have reached every door yet. One call more and no others: each costs.
        pause()
        api.chat(model, PROMPT, MAX_TOKENS)
    except ApiError as error:
        seen = expected if _by_allowlist(error) else str(error)
        return _gate("fence", expected, seen, _NO_PROOF.get(error.status, "run again"))
    except FleetError as error:
        return _gate("fence", expected, str(error), error.todo or "run again")
    return _gate("fence", expected, f"{model} answered", todo)


def _by_allowlist(error: ApiError) -> bool:
    """Whether it was the allowlist that refused, and not a budget or the account's privacy.

    One text serves guardrails and privacy settings alike, so the reasons decide where there are
    any. The documented 403 has none.
    """
    if error.status not in (403, 404):
        return False
    if _REASONS.search(error.what):
        return _BY_ALLOWLIST.search(error.what) is not None
    text = error.what.lower()
    return "guardrail" in text and "budget" not in text


def _repair(sold: Sold) -> str:
    return f"run mai.fleet.site -e fleet_select={sold.client}"


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
    return "unlimited" if limit is None else f"{usd(limit)} USD, reset {reset}"
