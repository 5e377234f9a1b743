# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An OpenRouter that behaves: management, models and inference API with state, limits and faults.

It is as strict as the contract table (tests/contract/openrouter.yml): a route, query parameter or
body field that is not in there is refused and recorded. It is stricter than OpenRouter there.
"""

from __future__ import annotations

from .simulator import RemoteSimulator, Simulator

__all__ = ["RemoteSimulator", "Simulator"]
