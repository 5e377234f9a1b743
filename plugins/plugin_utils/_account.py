# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the mai.fleet collection
"""What the actions have in common that deal with OpenRouter alone, without a fleet."""

from __future__ import annotations

import re
from typing import Any, ClassVar

from ansible.module_utils.common.parameters import env_fallback
from ansible.plugins.action import ActionBase
from ansible_collections.mai.fleet.plugins.module_utils._api.openrouter import OpenRouter
from ansible_collections.mai.fleet.plugins.module_utils._errors import ApiError, FleetError
from ansible_collections.mai.fleet.plugins.module_utils._fleet.names import nearest
from ansible_collections.mai.fleet.plugins.module_utils._transport.controller import Controller

Options = dict[str, Any]

_KEY = "OPENROUTER_MANAGEMENT_KEY"
_LONGEST_NAME = 200
_URL = re.compile(r"https?://\S+")

#: The options that all of them have, as the documentation fragment ``openrouter`` describes them.
CONNECTION: dict[str, dict[str, Any]] = {
    "management_key": {
        "type": "str",
        "no_log": True,
        "fallback": (env_fallback, [_KEY, "OPENROUTER_PROVISIONING_KEY"]),
    },
    "api_url": {
        "type": "str",
        "default": "https://openrouter.ai/api/v1",
        "fallback": (env_fallback, ["OPENROUTER_API_URL"]),
    },
    "timeout": {"type": "float", "default": 30.0},
}

#: The option of those that deal with one workspace, as the fragment ``openrouter.workspace`` does.
WORKSPACE: dict[str, dict[str, Any]] = {"workspace": {"type": "str"}}

#: What to do about answers that concern the whole account.
_TODO = {
    401: "check the management key; was it deleted or mistyped?",
    402: "add credit at https://openrouter.ai/settings/credits",
    403: "it has to be a management key with write access, used from an address that the "
    "organization allows: https://openrouter.ai/settings/management-keys",
    429: "OpenRouter goes on refusing for the number of requests; run again in some minutes",
}


class AccountAction(ActionBase):
    """Subclasses say what to do in :meth:`work`, and which options there are in ``SPEC``."""

    SPEC: ClassVar[dict[str, dict[str, Any]]] = {}

    _supports_check_mode = True
    _supports_async = False
    _requires_connection = False

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        result = dict(super().run(tmp, task_vars))
        _validated, options = self.validate_argument_spec({**CONNECTION, **self.SPEC})
        try:
            result.update(self.work(options))
        except FleetError as error:
            explain(error)
            result.update(failed=True, msg=str(error), failure=error.failure())
        finally:
            self._remove_tmp_path(self._connection._shell.tmpdir)
        return result

    def work(self, options: Options) -> dict[str, Any]:
        """The task's result.

        :raises FleetError: something that concerns all of it
        """
        raise NotImplementedError

    @property
    def check(self) -> bool:
        return bool(self._task.check_mode)

    def openrouter(self, options: Options) -> OpenRouter:
        """OpenRouter with the management key, in the workspace that the task is about.

        :raises FleetError: there is no key, or no such workspace
        """
        if not options["management_key"]:
            raise FleetError(
                "no management key for OpenRouter",
                f"the option management_key, or the environment variable {_KEY}",
                "make one at https://openrouter.ai/settings/management-keys",
            )
        api = self.asked_with(options, options["management_key"])
        wanted = options.get("workspace")
        return api if wanted is None else api.inside(_workspace(api, str(wanted)))

    def asked_with(self, options: Options, key: str | None) -> OpenRouter:
        """OpenRouter with any key, or without one.

        :raises FleetError: an option that is not as it has to be
        """
        url = str(options["api_url"]).rstrip("/")
        if not _URL.fullmatch(url):
            raise FleetError(
                f"expected an address such as {CONNECTION['api_url']['default']}, not {url}",
                "the option api_url, or the environment variable OPENROUTER_API_URL",
            )
        timeout = number(options["timeout"], "the option timeout", least=0.1, most=3600)
        bearer = None if key is None else str(key)
        return OpenRouter(Controller(url, bearer, timeout=timeout))


def _workspace(api: OpenRouter, wanted: str) -> str:
    """The id of a workspace that is named by its slug, id or name.

    :raises FleetError: there is none, or which of them is meant cannot be told
    """
    rows = api.workspaces()
    names = ("slug", "id", "name")
    found = [row for row in rows if wanted in [row[field] for field in names]]
    if len(found) == 1:
        return str(found[0]["id"])
    where = "the option workspace"
    if found:
        ids = ", ".join(f"{row['id']} ({row['slug']})" for row in found)
        raise FleetError(
            f"several workspaces are called {wanted}: {ids}", where, "name one by its id"
        )
    near = nearest(wanted, {row[field] for row in rows for field in ("slug", "name")})
    slugs = ", ".join(sorted(row["slug"] for row in rows))
    raise FleetError(
        f"the account has no workspace {wanted or 'without a name'}",
        where,
        f"did you mean {near[0]}?" if near else f"there are: {slugs}",
    )


def explain(error: FleetError) -> None:
    """Say what to do about it, where the error itself does not."""
    if isinstance(error, ApiError):
        error.todo = error.todo or _TODO.get(error.status, "")


def given(options: Options, names: tuple[str, ...]) -> Options:
    """Those options that a task gave."""
    return {name: options[name] for name in names if options.get(name) is not None}


def amount(value: Any, field: str) -> float | None:
    """USD, None for no limit.

    :raises FleetError: neither an amount nor the word unlimited
    """
    if str(value) == "unlimited":
        return None
    try:
        usd = float(value)
    except (TypeError, ValueError):
        usd = -1.0
    if not 0 <= usd < float("inf") or isinstance(value, bool):
        raise FleetError(f"expected an amount in USD or the word unlimited, not {value}", field, "")
    return usd


def number(value: float, field: str, *, least: float, most: float) -> float:
    """:raises FleetError: it is not between these"""
    # Of what is no number, no comparison is true.
    if not least <= value <= most:
        raise FleetError(f"expected a number from {least:g} to {most:g}, not {value:g}", field)
    return float(value)


def refuse_name(name: str, kind: str) -> None:
    """A name that OpenRouter might not keep as it is would be made anew in every run.

    :raises FleetError: it is such a one
    """
    if not name or name != name.strip() or not name.isprintable() or len(name) > _LONGEST_NAME:
        raise FleetError(
            f"this cannot be the name of a {kind}: {name[:60]!r}",
            f"the option {kind}s",
            f"give it 1 to {_LONGEST_NAME} characters, with no space around them and no line break",
        )


def unique(names: list[str], option: str) -> None:
    """:raises FleetError: one is there twice"""
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise FleetError(
            f"{', '.join(twice)} is named more than once", f"the option {option}", "name each once"
        )


def view_lines(view: dict[str, Any]) -> str:
    """A view as the lines of a diff."""
    lines = []
    for field, value in view.items():
        if isinstance(value, list):
            lines += [f"{field}:", *(f"  - {item}" for item in value)]
        else:
            lines.append(f"{field}: {'' if value is None else value}")
    return "\n".join(lines) + "\n"


def outcome(found: dict[str, Any], rows: str, kind: str, *, diff: bool) -> dict[str, Any]:
    """A task's result of all rows: it fails when one did, after all others are done.

    :param found: rows of the engine by name
    :param rows: the field of the result that has them
    :param kind: what a row is about
    """
    shown, failed = [], []
    for name, row in found.items():
        result = {"name": name, **row.result()}
        if row.error is not None:
            explain(row.error)
            result["failure"] = row.error.failure()
            failed.append(f"\n  {name}: {row.error}")
        shown.append(result)
    result = {"changed": any(row["changed"] for row in shown), rows: shown}
    warnings = [f"{row['name']}: {text}" for row in shown for text in row["warnings"]]
    if warnings:
        result["warnings"] = warnings
    if diff:
        result["diff"] = [
            {
                "before_header": f"{kind} {name}",
                "after_header": f"{kind} {name}",
                "before": view_lines(row.before),
                "after": view_lines(row.after),
            }
            for name, row in found.items()
            if row.changed and row.error is None
        ]
    if failed:
        of = f"{len(failed)} of {len(shown)} {kind}s"
        result.update(failed=True, msg=f"{of} need a person:{''.join(failed)}")
    return result
