# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args

RunModule = Callable[..., dict[str, Any]]


@pytest.fixture
def run_module(capsys: pytest.CaptureFixture[str]) -> RunModule:
    """Calls a module's ``main`` and returns what it printed, masked by Ansible as always.

    ``run_module("instance_files", {…options…}, check=True, diff=True)``
    """

    def run(name: str, options: dict[str, Any], *, check: bool = False, diff: bool = True) -> Any:
        main = importlib.import_module(f"ansible_collections.mai.fleet.plugins.modules.{name}").main
        arguments = {**options, "_ansible_check_mode": check, "_ansible_diff": diff}
        with patch_module_args(arguments), pytest.raises(SystemExit):
            main()
        return json.loads(capsys.readouterr().out)

    return run
