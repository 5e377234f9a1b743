# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the simulator remembers, and how it survives a restart.

Money is kept in whole picodollars (1e-12 USD), because prices a token are as small as 1e-8 USD and
sums of floats drift. Times are seconds since the epoch on the simulator's own clock.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

PICO = 10**12
ACCOUNT_USER = "user_2simulatedaccount0000000000"
INTERVALS = ("daily", "weekly", "monthly")


def to_pico(usd: float | str | Decimal) -> int:
    return int(Decimal(str(usd)) * PICO)


def to_usd(pico: int) -> float:
    return pico / PICO


def window_start(interval: str, now: float) -> str:
    """First UTC day of the running day, week (Monday) or month."""
    today = datetime.fromtimestamp(now, UTC).date()
    if interval == "weekly":
        today -= timedelta(days=today.weekday())
    elif interval == "monthly":
        today = today.replace(day=1)
    return today.isoformat()


def window_end(interval: str, now: float) -> str:
    start = datetime.fromisoformat(window_start(interval, now)).replace(tzinfo=UTC)
    days = {"daily": 1, "weekly": 7, "monthly": 31}[interval]
    end = start + timedelta(days=days)
    if interval == "monthly":
        end = (start + timedelta(days=32)).replace(day=1)
    return iso(end.timestamp())


def iso(moment: float) -> str:
    text = datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


@dataclass
class Spend:
    """Money spent for ever and in the running windows; a window that is over counts nothing."""

    total: int = 0
    windows: dict[str, list[Any]] = field(default_factory=dict)

    def add(self, amount: int, now: float) -> None:
        self.total += amount
        for interval in INTERVALS:
            self.windows[interval] = [
                window_start(interval, now),
                self.within(interval, now) + amount,
            ]

    def set(self, amount: int, now: float) -> None:
        self.total = amount
        self.windows = {name: [window_start(name, now), amount] for name in INTERVALS}

    def within(self, interval: str | None, now: float) -> int:
        if interval is None:
            return self.total
        start, amount = self.windows.get(interval, ["", 0])
        return int(amount) if start == window_start(interval, now) else 0


@dataclass
class Policy:
    """What is enforced for a key from a moment on; later than what the management API shows."""

    since: float
    disabled: bool
    limit: float | None
    limit_reset: str | None
    guardrail: dict[str, Any] | None


@dataclass
class Key:
    hash: str
    name: str
    label: str
    workspace_id: str
    created_at: float
    limit: float | None = None
    limit_reset: str | None = None
    include_byok_in_limit: bool = False
    disabled: bool = False
    expires_at: str | None = None
    creator_user_id: str | None = ACCOUNT_USER
    updated_at: float | None = None
    last_used_at: float | None = None
    spend: Spend = field(default_factory=Spend)
    byok: Spend = field(default_factory=Spend)
    policies: list[Policy] = field(default_factory=list)

    @classmethod
    def read(cls, raw: dict[str, Any]) -> Key:
        policies = [Policy(**policy) for policy in raw.pop("policies")]
        spends = {name: Spend(**raw[name]) for name in ("spend", "byok")}
        return cls(**raw | spends | {"policies": policies})

    def counted(self, interval: str | None, now: float) -> int:
        """What counts against a limit."""
        byok = self.byok.within(interval, now) if self.include_byok_in_limit else 0
        return self.spend.within(interval, now) + byok

    def expired(self, now: float) -> bool:
        return (
            self.expires_at is not None
            and datetime.fromisoformat(self.expires_at).timestamp() <= now
        )

    def enforced(self, now: float) -> Policy:
        return [policy for policy in self.policies if policy.since <= now][-1]


@dataclass
class Guardrail:
    id: str
    workspace_id: str
    created_at: float
    updated_at: float | None
    settings: dict[str, Any]


@dataclass
class Assignment:
    id: str
    key_hash: str
    guardrail_id: str
    created_at: float


@dataclass
class Settings:
    """How the simulator behaves where the real thing is configurable, slow or not sure."""

    enforcement_delay: float = 0.0
    """Seconds until a changed key or guardrail is enforced at inference and in /models/user."""
    refusal_status: int = 404
    """Answer to a model outside the allowlist: 404 as observed, 403 as documented."""
    key_limit_status: int = 403
    """Answer to a used-up key: 403 as observed, 402 as in the older documentation."""
    filtered_catalog: bool = False
    """GET /models with an ordinary key lists only what that key may use (organization setting)."""
    unknown_fields: bool = False
    """Answers carry a field that no client knows, as OpenRouter reserves the right to."""


@dataclass
class State:
    started_at: float
    workspaces: list[dict[str, Any]]
    management_hashes: list[str] = field(default_factory=list)
    clock_offset: float = 0.0
    keys: dict[str, Key] = field(default_factory=dict)
    guardrails: dict[str, Guardrail] = field(default_factory=dict)
    assignments: list[Assignment] = field(default_factory=list)
    settings: Settings = field(default_factory=Settings)
    total_credits: int = 1000 * PICO
    total_usage: int = 0
    models_removed: list[str] = field(default_factory=list)
    models_added: list[dict[str, Any]] = field(default_factory=list)
    expirations: dict[str, str | None] = field(default_factory=dict)
    generations: dict[str, dict[str, Any]] = field(default_factory=dict)
    activity: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def fresh(cls) -> State:
        now = time.time()
        return cls(started_at=now, workspaces=[new_workspace("Default Workspace", "default", now)])

    @classmethod
    def load(cls, path: Path) -> State:
        raw = json.loads(path.read_text(encoding="utf-8"))
        raw["keys"] = {key: Key.read(row) for key, row in raw["keys"].items()}
        raw["guardrails"] = {key: Guardrail(**row) for key, row in raw["guardrails"].items()}
        raw["assignments"] = [Assignment(**row) for row in raw["assignments"]]
        raw["settings"] = Settings(**raw["settings"])
        return cls(**raw)

    def save(self, path: Path) -> None:
        """Replace the file at once, readable by its owner only."""
        partial = path.with_name(f".{path.name}.partial")
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        # dumps and vars, not dump and asdict: ten times as fast, and it happens at every change.
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(json.dumps(self, default=vars))
        partial.replace(path)

    @property
    def now(self) -> float:
        return time.time() + self.clock_offset

    @property
    def default_workspace(self) -> str:
        return str(self.workspaces[0]["id"])


def new_workspace(name: str, slug: str, now: float) -> dict[str, Any]:
    workspace_id = str(uuid.uuid4())
    return {
        "id": workspace_id,
        "name": name,
        "slug": slug,
        "description": None,
        "default_guardrail_id": str(uuid.uuid5(uuid.UUID(workspace_id), "default-guardrail")),
        "default_text_model": None,
        "default_image_model": None,
        "default_provider_sort": None,
        "io_logging_api_key_ids": None,
        "io_logging_sampling_rate": 1.0,
        "is_data_discount_logging_enabled": False,
        "is_observability_broadcast_enabled": False,
        "is_observability_io_logging_enabled": False,
        "created_by": ACCOUNT_USER,
        "created_at": iso(now),
        "updated_at": None,
    }
