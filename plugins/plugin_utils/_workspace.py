# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the mai.fleet collection
"""Controllers whose files are thrown away after the run: CI jobs, AWX."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible_collections.mai.fleet.plugins.module_utils._errors import FleetError

#: By variable that tells it: what it is, and the variable with its workspace, if there is one.
SIGNS = {
    "GITHUB_ACTIONS": ("a job of GitHub Actions", "GITHUB_WORKSPACE"),
    "GITLAB_CI": ("a job of GitLab CI", "CI_PROJECT_DIR"),
    "JENKINS_URL": ("a Jenkins job", "WORKSPACE"),
    "TF_BUILD": ("a job of Azure Pipelines", "BUILD_SOURCESDIRECTORY"),
    "BUILDKITE": ("a Buildkite job", "BUILDKITE_BUILD_CHECKOUT_PATH"),
    "CI": ("a CI job", ""),
    "AWX_PRIVATE_DATA_DIR": ("an AWX job", "AWX_PRIVATE_DATA_DIR"),
    "AWX_ISOLATED_DATA_DIR": ("an AWX job", ""),
}
#: Where AWX and execution environments put a job's files.
_RUNNER = Path("/runner")


def refuse_fleeting(
    config: Mapping[str, Any], secrets_too: bool, environment: Mapping[str, str]
) -> None:
    """:param secrets_too: whether secrets are kept in files here, as records and journals are
    :raises FleetError: what has to last would be thrown away
    """
    if config.get("workspace_lasts"):
        return
    names = ("secrets", "state", "journal") if secrets_too else ("state", "journal")
    paths = {name: Path(config[name]).resolve() for name in names}
    base = Path(config.get("file") or config["state"]).resolve().parent
    what, workspaces = _workspaces(base, environment)
    lost = [
        name
        for name, path in paths.items()
        if any(path.is_relative_to(workspace) for workspace in workspaces)
    ]
    if not lost:
        return
    raise FleetError(
        f"this is {what}, whose files are thrown away after the run, and with them "
        f"{', '.join(lost)}",
        f"fleet.yml: {', '.join('secret_store' if name == 'secrets' else name for name in lost)}",
        "keep secrets in a store that lasts (secret_store: hashi_vault or command), and give state "
        "and journal absolute paths outside of the job's workspace; if you keep the workspace "
        "yourself, write workspace_lasts: true (docs/secrets.md)",
    )


def _workspaces(base: Path, environment: Mapping[str, str]) -> tuple[str, list[Path]]:
    """What kind of job this is, and the folders that end with it; none if it is no job."""
    for sign, (what, variable) in SIGNS.items():
        if environment.get(sign, "").lower() not in ("", "0", "false"):
            named = environment.get(variable, "")
            runner = [_RUNNER] if "AWX" in what else []
            return what, [base, *runner, *([Path(named).resolve()] if named else [])]
    if base.is_relative_to(_RUNNER / "project"):
        return "an execution environment's project", [_RUNNER]
    return "", []
