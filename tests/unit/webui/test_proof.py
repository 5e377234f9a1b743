# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.mai.fleet.plugins.module_utils._api.openwebui import ChatReply
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.proof import chat_verdict

MONTHLY = "Key limit exceeded (monthly limit). Manage it using https://openrouter.ai/settings/keys"


@pytest.mark.parametrize(
    ("reply", "state"),
    [
        (ChatReply(200, {"total_tokens": 17}), "passed"),
        (ChatReply(200, {}), "failed"),
        (ChatReply(401, {}, "User not found."), "failed"),
        (ChatReply(403, {}, MONTHLY), "exhausted"),
        (ChatReply(403, {}, "Over budget", "openrouter_guardrail_budget"), "exhausted"),
        (ChatReply(402, {}, "This key has no money", "openrouter_key_limit"), "exhausted"),
        # The fleet's account, not the client's limit.
        (ChatReply(402, {}, "Insufficient credits"), "failed"),
        (ChatReply(402, {}, "Over a limit", "openrouter_credits"), "failed"),
        (ChatReply(404, {}, "No endpoints available matching your guardrail"), "failed"),
        (ChatReply(429, {}, "Rate limit exceeded"), "failed"),
    ],
)
def test_the_outcome_of_a_chat_that_shall_be_answered(reply: ChatReply, state: str) -> None:
    verdict = chat_verdict(reply, refused=False)
    assert verdict.state == state
    assert reply.error in verdict.seen
    assert bool(verdict.todo) == (state != "passed")


@pytest.mark.parametrize(
    ("reply", "state"),
    [
        (ChatReply(401, {}, "User not found."), "passed"),
        (ChatReply(403, {}, "Key is disabled"), "passed"),
        (ChatReply(200, {"total_tokens": 17}), "failed"),
        # That the provider stumbled does not show that the key is disabled.
        (ChatReply(503, {}, "No provider"), "failed"),
    ],
)
def test_the_outcome_of_a_chat_that_shall_be_refused(reply: ChatReply, state: str) -> None:
    verdict = chat_verdict(reply, refused=True)
    assert verdict.state == state
    assert reply.error in verdict.seen
