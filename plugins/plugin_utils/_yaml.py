# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the mai.fleet collection
"""Reading what operators write, with the place of every mistake."""

from __future__ import annotations

import os
from typing import Any

import yaml
from ansible_collections.mai.fleet.plugins.module_utils._fleet.schema import Problem


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """YAML without surprises: a key given twice is a mistake, ``!vault`` stays encrypted."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _value in node.value if isinstance(key, yaml.ScalarNode)]
        twice = {key for key in keys if keys.count(key) > 1}
        if twice:
            raise yaml.constructor.ConstructorError(
                None, None, f"{', '.join(sorted(twice))} is given more than once", node.start_mark
            )
        return dict(super().construct_mapping(node, deep))


def _vault(loader: _Loader, node: yaml.ScalarNode) -> dict[str, str]:
    return {"vault": str(loader.construct_scalar(node))}


_Loader.add_constructor("!vault", _vault)


def shown(path: str) -> str:
    """Paths in messages as a person would type them."""
    relative = os.path.relpath(path)
    return printable(path if relative.startswith("..") else relative)


def printable(path: str) -> str:
    """File names may hold bytes that no terminal and no JSON can."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def parse(text: Any) -> Any:
    """The content of a YAML text, or of a file that is open.

    :raises yaml.YAMLError: it is none
    """
    return yaml.load(text, Loader=_Loader)  # noqa: S506


def read(path: str, client: str = "") -> tuple[Any, list[Problem]]:
    """The content of a YAML file, or why there is none.

    :param client: whose file it is, empty for the fleet's
    """
    try:
        with open(path, encoding="utf-8") as file:
            return parse(file), []
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        what = f"not valid YAML: {error.problem or error.context}"
        return None, [Problem(what, f"{shown(path)}{line}", "mend the line", client)]
    except (OSError, ValueError, yaml.YAMLError) as error:
        return None, [Problem(f"cannot be read: {error}", shown(path), client=client)]
