# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""python -m hetzner --host H --port P --token T ...  (with tests/ on PYTHONPATH)."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from pathlib import Path

from .cloud import Settings
from .web import Hetzner


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="hetzner", description="A Hetzner for rehearsals.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--token", required=True, help="of a project that is empty at first")
    parser.add_argument("--action-seconds", type=float, default=0.2)
    parser.add_argument(
        "--address",
        action="append",
        default=[],
        metavar="NAME=IP",
        help="the public address that a server of this name gets; may be repeated",
    )
    parser.add_argument("--log", type=Path, help="where to tell what no client should ask")
    return parser.parse_args()


def main() -> int:
    options = arguments()
    if options.log:
        sys.stdout = sys.stderr = options.log.open("a", encoding="utf-8")
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    addresses = dict(pair.split("=", 1) for pair in options.address)
    settings = Settings(action_seconds=options.action_seconds, addresses=addresses)
    hetzner = Hetzner(host=options.host, port=options.port, token=options.token, settings=settings)
    with hetzner:
        print(f"hetzner: {hetzner.url}", flush=True)
        stopped.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
