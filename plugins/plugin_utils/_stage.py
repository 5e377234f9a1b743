# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the mai.fleet collection
"""What all stages have in common.

A stage takes the state of the run and gives it back with what became of each client. It deals with
all clients of its server in one task, or, with ``run_once``, with all clients of the batch. A
client that failed drops out of later stages; the task itself ends ok, and the report fails the run.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.plugins.action import ActionBase
from ansible.template import trust_as_template
from ansible_collections.mai.fleet.plugins.module_utils._api.openrouter import OpenRouter
from ansible_collections.mai.fleet.plugins.module_utils._errors import (
    ApiError,
    FleetError,
    describe,
)
from ansible_collections.mai.fleet.plugins.module_utils._reconcile.changes import failed
from ansible_collections.mai.fleet.plugins.module_utils._transport.controller import Controller
from ansible_collections.mai.fleet.plugins.plugin_utils._store import Store

Row = dict[str, Any]
State = dict[str, Any]
Render = Callable[[dict[str, Any]], str]

#: What a state consists of: rows by client, names of models by id, clients without a file.
PARTS = ("clients", "catalog", "unlisted")

#: What client files may say, too.
_MOST_DAYS = 3650

MANAGEMENT_KEY = ("OPENROUTER_MANAGEMENT_KEY", "OPENROUTER_PROVISIONING_KEY")
#: What to do about answers that concern the whole account.
ACCOUNT_TODO = {
    401: f"check the key in {MANAGEMENT_KEY[0]}; was it deleted or mistyped?",
    402: "add credit at https://openrouter.ai/settings/credits",
    403: f"{MANAGEMENT_KEY[0]} has to be a management key with write access, used from an "
    "address that the organization allows",
    429: "OpenRouter goes on refusing for the number of requests; run again in some minutes",
}


class Stage(ActionBase):
    """An action of the pipeline: subclasses say what to do in :meth:`stage`."""

    #: Its name in results and in the report.
    STAGE = ""
    #: What the journal calls a change by this stage. Empty: it has no line, or is noted elsewhere.
    NOTED = ""
    #: Names of the options that the task may give.
    OPTIONS: tuple[str, ...] = ("state",)

    _supports_check_mode = True
    _supports_async = False

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        result = dict(super().run(tmp, task_vars))
        self._vars = task_vars or {}
        # Ansible puts a host's variables together anew each time that it is asked.
        self._raw_vars: dict[str, dict[str, Any]] = {}
        self._facts: dict[str, Any] = {}
        self._warnings: list[Any] = []
        self._notes: Store | None = None
        unknown = sorted(set(self._task.args) - set(self.OPTIONS))
        if unknown:
            return {**result, "failed": True, "msg": f"unknown options: {', '.join(unknown)}"}
        try:
            result.update(self.stage())
        except FleetError as error:
            result.update(failed=True, msg=str(error), failure=error.failure())
        finally:
            self._remove_tmp_path(self._connection._shell.tmpdir)
        if self._facts:
            result["ansible_facts"] = self._facts
        if self._warnings:
            result["warnings"] = [*result.get("warnings", []), *self._warnings]
        return result

    def stage(self) -> dict[str, Any]:
        """The task's result.

        :raises FleetError: something that stops the run, not only one client
        """
        raise NotImplementedError

    # The run

    @property
    def check(self) -> bool:
        return bool(self._task.check_mode)

    @property
    def host(self) -> str:
        return str(self._vars["inventory_hostname"])

    @property
    def config(self) -> dict[str, Any]:
        """The fleet as ``fleet.yml`` describes it."""
        try:
            return dict(self._vars["fleet_config"])
        except KeyError:
            raise FleetError(
                "the inventory holds no fleet",
                "the inventory",
                "name the servers and fleet.yml: -i servers.yml -i fleet.yml",
            ) from None

    def option(self, name: str, default: Any = None) -> Any:
        return self._task.args.get(name, default)

    def fleet(self) -> dict[str, dict[str, Any]]:
        """Every client of the fleet, selected or not."""
        clients: dict[str, dict[str, Any]] = {}
        for host in self._vars["groups"].get("fleet", []):
            clients.update(self._clients(host))
        return clients

    def batch_state(self) -> State:
        """The states of all servers of the batch as one: a client's row is its server's."""
        hosts = self._vars["ansible_play_batch"]
        return merge({host: self._raw(host).get("fleet_state") for host in hosts})

    def client(self, name: str, row: Row) -> dict[str, Any]:
        return self._clients(row["server"])[name]

    def _clients(self, host: str) -> dict[str, dict[str, Any]]:
        """The clients of a server as their files have them, or would have them after this run.

        In check mode, mai.fleet.offboard says whom it would send away and leaves their files alone.
        """
        clients = self._raw(host).get("fleet_clients", {})
        leaving: set[str] = set()
        if "localhost" in self._vars.get("hostvars", ()) and self.check:
            leaving.update(self._raw("localhost").get("offboard_clients", {}).get("clients", ()))
        return {
            name: {**client, "state": "absent"} if name in leaving else dict(client)
            for name, client in clients.items()
        }

    def _raw(self, host: str) -> dict[str, Any]:
        """Variables as they are: client data is never a template."""
        if host not in self._raw_vars:
            self._raw_vars[host] = dict(self._vars["hostvars"].raw_get(host))
        return self._raw_vars[host]

    def store(self) -> Store:
        return Store(self.config, self._loader._vault)

    def openrouter(self, key: str) -> OpenRouter:
        return OpenRouter(Controller(self.config["openrouter_url"], key))

    def management(self) -> OpenRouter:
        for name in MANAGEMENT_KEY:
            secret = os.environ.get(name) or _content(os.environ.get(f"{name}_FILE"))
            if secret:
                return self.openrouter(secret)
        raise FleetError(
            "no management key for OpenRouter",
            f"the environment variable {MANAGEMENT_KEY[0]}",
            "make one at https://openrouter.ai/settings/management-keys and export it, or name a "
            f"file that holds it in {MANAGEMENT_KEY[0]}_FILE",
        )

    def managed(self) -> OpenRouter:
        """OpenRouter as it is asked with the management key.

        :raises FleetError: it does not answer, or the key is none that can manage keys
        """
        api = self.management()
        with explained():
            if not api.current_key().get("is_management_key"):
                raise FleetError(
                    "the key is an ordinary API key, which cannot manage keys",
                    MANAGEMENT_KEY[0],
                    "make a management key at https://openrouter.ai/settings/management-keys",
                )
        return api

    # Clients

    def mine(
        self, state: State, states: Iterable[str] = ("present", "suspended")
    ) -> Iterator[tuple[str, dict[str, Any], Row]]:
        """This server's clients that are still in the run: name, client, row."""
        for name, row in state["clients"].items():
            if row["server"] == self.host and not row["failure"] and row["state"] in states:
                yield name, self.client(name, row), row

    def take(self, state: State, found: Mapping[str, Row]) -> None:
        """Enter what a stage found out of each client, here and in the client's journal."""
        for name, news in found.items():
            row = state["clients"][name]
            news = self._journaled(name, row, news)
            row["warnings"] = [*row["warnings"], *news.get("warnings", [])]
            if news.get("failed"):
                row["failure"] = {"stage": self.STAGE, **news["failure"]}
            if news.get("changed"):
                row["changed"] = [*row["changed"], self.STAGE]

    def fail(self, state: State, names: Iterable[str], error: FleetError) -> None:
        for name in names:
            row = state["clients"][name]
            news = self._journaled(name, row, {"failed": True, "failure": error.failure()})
            row["failure"] = {"stage": self.STAGE, **news["failure"]}

    def line(self, client: str, row: Row, news: Row) -> Row | None:
        """What the journal says of what a stage did, None when it says nothing.

        :returns: ``what`` and ``result``, and further fields; no secret
        """
        if not (news.get("changed") or news.get("failed")):
            return None
        before, after = news.get("before") or {}, news.get("after") or {}
        names = [name for name in after if before.get(name) != after[name]]
        details: Row = {}
        if names:
            details["before"] = {name: before.get(name) for name in names}
            details["now"] = {name: after[name] for name in names}
        return {"what": self.NOTED, "result": outcome(news), **details}

    def notes(self) -> Store:
        """The store through which this stage writes into journals."""
        if self._notes is None:
            self._notes = self.store()
        return self._notes

    def _journaled(self, client: str, row: Row, news: Row) -> Row:
        """The news of a client, when its journal has its line of them; else that it has not."""
        if self.check or not self.NOTED:
            return news
        try:
            line = self.line(client, row, news)
            if line is not None:
                self.notes().note(client, **line)
                self.notes().keep_end(client)
        except FleetError as error:
            if not news.get("failed"):
                return {**news, "failed": True, "failure": error.failure()}
        return news

    def result(
        self, state: State, found: Mapping[str, Row], diff: list[dict[str, str]] | None = None
    ) -> dict[str, Any]:
        changed = any(row.get("changed") for row in found.values())
        self.warn(state, found)
        result = {**{part: state[part] for part in PARTS}, "changed": changed}
        if diff and self._task.diff:
            result["diff"] = diff
        return result

    def warn(self, state: State, found: Mapping[str, Row]) -> None:
        """Say at once what went wrong; the report says it again at the end."""
        for name in found:
            failure = state["clients"][name]["failure"]
            if failure and failure["stage"] == self.STAGE:
                self._display.display(f"  {name}: {describe(failure)}", color="red")

    def call(self, module: str, options: dict[str, Any]) -> dict[str, Any]:
        """Run one of our modules on this server.

        :raises FleetError: the server as a whole cannot do it
        """
        # Its options hold secrets: they go through a pipe, also where Ansible would use a file.
        self._connection.always_pipeline_modules = True
        try:
            answer: dict[str, Any] = dict(
                self._execute_module(
                    module_name=f"mai.fleet.{module}", module_args=options, task_vars=self._vars
                )
            )
        except AnsibleConnectionFailure as error:
            raise FleetError(
                f"the server cannot be reached: {error}",
                f"server {self.host}",
                "bring it back and run again; the other servers are done",
            ) from error
        # Such as the Python that was found there: else every task would look for it again.
        self._facts.update(answer.get("ansible_facts") or {})
        self._warnings += answer.get("warnings") or []
        if answer.get("failed"):
            failure: dict[str, str] = answer.get("failure") or {
                "what": str(answer.get("msg", "the module failed"))
            }
            where = f"server {self.host}"
            if failure.get("where"):
                where = f"{where}, {failure['where']}"
            raise FleetError(failure["what"], where, failure.get("todo", ""))
        return answer

    def template(self, name: str) -> Render:
        """A function that renders the template, which the play or the role may hold."""
        try:
            path = self._find_needle("templates", name)
            text = trust_as_template(self._loader.get_text_file_contents(path))
        except AnsibleError as error:
            raise FleetError(f"no such template: {name}", todo=str(error)) from error
        searchpath = [os.path.dirname(path), self._loader.get_basedir()]

        def render(variables: dict[str, Any]) -> str:
            templar = self._templar.copy_with_new_env(
                searchpath=searchpath, available_variables={**self._vars, **variables}
            )
            try:
                return str(templar.template(text, escape_backslashes=False))
            except AnsibleError as error:
                raise FleetError(f"cannot be rendered: {error}", path) from error

        return render

    def on_server(
        self, state: State, names: Iterable[str], work: Callable[[], dict[str, Any]]
    ) -> dict[str, Any]:
        """A module's answer; when the server fails as a whole, its clients fail and nobody else."""
        names = list(names)
        try:
            answer = work() if names else {"clients": {}}
        except FleetError as error:
            self.fail(state, names, error)
            return {"clients": {name: {} for name in names}}
        self.take(state, answer["clients"])
        return answer


def days_of(given: Any, option: str) -> float:
    """A number of days from the command line.

    :raises FleetError: it is none, or none that a date can be reckoned with
    """
    try:
        days = float(given)
    except (TypeError, ValueError):
        days = -1.0
    if not 0 <= days <= _MOST_DAYS:
        raise FleetError(
            f"{given!r} is no number of days", option, f"give a number from 0 to {_MOST_DAYS}"
        )
    return days


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Say what to do about answers that concern the whole account."""
    try:
        yield
    except ApiError as error:
        error.todo = error.todo or ACCOUNT_TODO.get(error.status, "")
        raise


def outcome(news: Row) -> str:
    """The result of a step in a journal's words."""
    return failed(news["failure"]["what"]) if news.get("failed") else "done"


def _content(path: str | None) -> str:
    """The secret that is in a file; empty without one."""
    if not path:
        return ""
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().strip()
    except (OSError, ValueError) as error:
        raise FleetError(
            f"the management key cannot be read: {getattr(error, 'strerror', 'it is not text')}",
            path,
            f"mend the file, or name another one in {MANAGEMENT_KEY[0]}_FILE",
        ) from None


def merge(states: Mapping[str, State | None]) -> State:
    """One state of many servers' states; each server answers for its own clients."""
    clients: dict[str, Row] = {}
    catalog: dict[str, str] = {}
    unlisted: set[str] = set()
    for host, state in states.items():
        if state and "clients" in state:
            catalog.update(state["catalog"])
            unlisted.update(state["unlisted"])
            clients.update(
                {name: row for name, row in state["clients"].items() if row["server"] == host}
            )
    return {"clients": clients, "catalog": catalog, "unlisted": sorted(unlisted)}


def difference(name: str, before: Any, after: Any) -> dict[str, str]:
    """A diff of two views, which hold fingerprints where there are secrets."""
    return {
        "before_header": f"client {name}",
        "after_header": f"client {name}",
        "before": _lines(before),
        "after": _lines(after),
    }


def _lines(view: Mapping[str, Any]) -> str:
    lines = []
    for field, value in view.items():
        if isinstance(value, (list, tuple)):
            lines += [f"{field}:", *(f"  - {item}" for item in value)]
        else:
            lines.append(f"{field}: {'' if value is None else value}")
    return "\n".join(lines) + "\n" if lines else ""
