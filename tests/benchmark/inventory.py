# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long Ansible takes to read a large fleet: python tests/benchmark/inventory.py [CLIENTS]

The whole ``ansible-inventory`` command is timed, and the same command with the servers alone, which
is Ansible's own start. The difference is what the fleet costs every run.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BIN = Path(sys.executable).parent
COLLECTION = Path(__file__).resolve().parents[2]
ROUNDS = 5
SERVERS = 10


def write(folder: Path, clients: int) -> None:
    """Client files that say all that usual ones say, on a few servers."""
    (folder / "clients").mkdir()
    hosts = "".join(f"    web{number}:\n" for number in range(SERVERS))
    (folder / "servers.yml").write_text(f"servers:\n  hosts:\n{hosts}")
    (folder / "fleet.yml").write_text("plugin: mai.fleet.clients\nschema: 1\nfleet: large\n")
    (folder / "plans.yml").write_text("schema: 1\nplans:\n  gold:\n    spending_limit: 100\n")
    for number in range(clients):
        (folder / "clients" / f"c{number:05}.yml").write_text(
            f"schema: 1\norganization: Zakłady Nr {number} & Söhne\nserver: web{number % SERVERS}\n"
            f"domain: c{number}.example.com\nplan: gold\nadmin_email: it@c{number}.example\n"
            "models: [openai/gpt-4o-mini, google/gemini-2.5-flash]\nenv: {GREETING: hello}\n",
            encoding="utf-8",
        )


def seconds(folder: Path, *sources: str) -> float:
    """The fastest of some rounds, which other work on the machine disturbed least."""
    named = [word for source in sources for word in ("-i", source)]
    farm = folder / "ansible_collections" / "mai"
    if not farm.exists():
        farm.mkdir(parents=True)
        (farm / "fleet").symlink_to(COLLECTION)
    times = []
    for _round in range(ROUNDS):
        started = time.perf_counter()
        subprocess.run(
            [str(BIN / "ansible-inventory"), *named, "--graph"],
            cwd=folder,
            env={**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(folder)},
            stdout=subprocess.DEVNULL,
            check=True,
        )
        times.append(time.perf_counter() - started)
    return min(times)


def main() -> None:
    clients = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder, clients)
        alone = seconds(folder, "servers.yml")
        whole = seconds(folder, "servers.yml", "fleet.yml")
    print(f"{clients} clients: {whole:.2f} s, of which {whole - alone:.2f} s are the fleet's")


if __name__ == "__main__":
    main()
