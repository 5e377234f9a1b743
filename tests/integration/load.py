# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A person who chats all the time: one long answer that is on its way, and short ones meanwhile."""

from __future__ import annotations

import json
import threading
import time
from types import TracebackType
from typing import Self

import requests
from simulator.faults import Fault
from simulator.simulator import Simulator

from integration.fleet import TIMEOUT, Person

MODEL = "openai/gpt-4o-mini"
_WORDS = 90
_PAUSE = 0.1


class Load:
    """Used as a context, at whose end the long answer may end too.

    :ivar failed: what is wrong with chats that were not answered, or not to their end
    :ivar chats: how many short chats were answered
    :ivar streamed: the long answer as far as it has come
    """

    def __init__(self, person: Person, simulator: Simulator) -> None:
        self.failed: list[str] = []
        self.chats = 0
        self.streamed = ""
        self._person = person
        # A word a second, and the rest at once when the pace is changed.
        self._slowly = Fault(path="/chat/completions", pace=1.0)
        simulator.engine.faults.add(self._slowly)
        self._prompt = " ".join(f"{number:02}" for number in range(_WORDS))[-200:]
        self._begun = threading.Event()
        self._ends = threading.Event()
        self._stream = threading.Thread(target=self._watch)
        self._loop = threading.Thread(target=self._chat)

    @property
    def is_streaming(self) -> bool:
        return self._stream.is_alive() and self.streamed != self._expected

    def went_well(self) -> None:
        """To be asked at the end: that everything was answered."""
        assert not self.failed, self.failed
        assert self.chats > 20, self.chats
        assert self.streamed == self._expected, self.streamed

    def wait(self, chats: int) -> None:
        """Until so many more short chats were answered."""
        enough, deadline = self.chats + chats, time.monotonic() + TIMEOUT
        while self.chats < enough:
            assert time.monotonic() < deadline, self.failed
            time.sleep(_PAUSE)

    def __enter__(self) -> Self:
        self._stream.start()
        assert self._begun.wait(TIMEOUT), self.failed
        self._loop.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._slowly.pace = 0
        self._ends.set()
        self._stream.join(TIMEOUT)
        self._loop.join(TIMEOUT)

    @property
    def _expected(self) -> str:
        return f"This is OpenAI: GPT-4o-mini, simulated. You said: {self._prompt}"

    def _watch(self) -> None:
        body = {
            "model": MODEL,
            "stream": True,
            "messages": [{"role": "user", "content": self._prompt}],
        }
        answer = requests.post(
            f"{self._person.url}/api/chat/completions",
            json=body,
            headers={"Authorization": f"Bearer {self._person.token}"},
            stream=True,
            timeout=TIMEOUT,
        )
        if answer.status_code != requests.codes.ok:
            self.failed.append(f"the stream: {answer.status_code} {answer.text}")
            return
        ended = False
        for line in answer.iter_lines(decode_unicode=True):
            ended = ended or line == "data: [DONE]"
            if not line.startswith("data: {"):
                continue
            event = json.loads(line.removeprefix("data: "))
            for choice in event.get("choices", []):
                self.streamed += choice["delta"].get("content", "")
            self._begun.set()
        if not ended:
            self.failed.append("the stream ended in the middle")

    def _chat(self) -> None:
        while not self._ends.is_set():
            try:
                answer = self._person.chat(MODEL)
                complete = answer.status_code == requests.codes.ok and answer.json()["choices"]
            except requests.RequestException as error:
                self.failed.append(str(error))
                continue
            if complete:
                self.chats += 1
            else:
                self.failed.append(f"{answer.status_code} {answer.text}")
            time.sleep(_PAUSE)
