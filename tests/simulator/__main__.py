# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""python -m simulator --host H --port P --state FILE ...  (with tests/ on PYTHONPATH)."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from pathlib import Path

from .simulator import Simulator, read_or_make_key


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="simulator", description="An OpenRouter for rehearsals.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0: any free one, see --port-file")
    parser.add_argument("--state", type=Path, required=True, help="file that survives a restart")
    parser.add_argument(
        "--management-key-file",
        type=Path,
        help="read from it, or written to it (0600) when missing; default: STATE.management-key",
    )
    parser.add_argument("--catalog", type=Path, help="models, as GET /models answers them")
    parser.add_argument("--port-file", type=Path, help="the port is written here once it listens")
    return parser.parse_args()


def main() -> int:
    options = arguments()
    key_file = options.management_key_file or options.state.with_name(
        f"{options.state.name}.management-key"
    )
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    simulator = Simulator(
        host=options.host,
        port=options.port,
        state_file=options.state,
        catalog_file=options.catalog,
        management_key=read_or_make_key(key_file),
    )
    with simulator:
        if options.port_file:
            partial = options.port_file.with_name(f".{options.port_file.name}.partial")
            partial.write_text(f"{simulator.port}\n", encoding="ascii")
            partial.replace(options.port_file)
        print(f"simulator: {simulator.url}, management key in {key_file}", flush=True)
        stopped.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
