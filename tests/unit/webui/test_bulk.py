# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import threading

from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.bulk import for_each
from ansible_collections.mai.fleet.plugins.module_utils._rows import Row


def test_rows_come_in_the_order_of_the_clients() -> None:
    rows = for_each(["c", "a", "b"], 2, lambda client: Row(warnings=[client]))
    assert [(client, row.warnings) for client, row in rows.items()] == [
        ("c", ["c"]),
        ("a", ["a"]),
        ("b", ["b"]),
    ]


def test_no_client_spoils_it_for_another() -> None:
    def work(client: str) -> Row:
        if client == "known":
            raise FleetError("no luck", "somewhere", "try again")
        if client == "unforeseen":
            raise KeyError("sk-or-v1-verysecret")
        return Row(changed=True)

    rows = for_each(["known", "unforeseen", "fine"], 8, work)
    assert rows["known"].result()["failure"]["what"] == "no luck"
    failure = rows["unforeseen"].result()["failure"]
    assert failure["what"].startswith("unforeseen KeyError in work, line ")
    assert "verysecret" not in str(failure)
    assert rows["fine"].changed


def test_clients_wait_at_the_same_time_but_not_all() -> None:
    pair = threading.Barrier(2, timeout=5)

    def work(client: str) -> Row:
        return Row(warnings=[client, str(pair.wait())])

    rows = for_each(["a", "b", "c", "d"], 2, work)
    assert all(row.error is None for row in rows.values())
