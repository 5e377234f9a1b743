# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules of the collection as a whole, those that no linter knows (see CONTRIBUTING.md)."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, TypeGuard

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
PLUGINS = REPOSITORY / "plugins"
ROLES = sorted(path for path in (REPOSITORY / "roles").glob("*") if path.is_dir())
PLAYBOOKS = sorted((REPOSITORY / "playbooks").glob("*.yml"))
MODULES = sorted((PLUGINS / "modules").glob("*.py"))
# A module with an action of its own name only documents the action; the others run on servers.
ACTIONS = {path.stem for path in (PLUGINS / "action").glob("*.py")}
ACCOUNT_MODULES = [path.stem for path in MODULES if path.stem.startswith("openrouter_")]
CONTROLLER_MODULES = [
    path.stem for path in MODULES if path.stem in ACTIONS and path.stem not in ACCOUNT_MODULES
]
SERVER_MODULES = [path.stem for path in MODULES if path.stem not in ACTIONS]
GROUPS = {
    "controller": CONTROLLER_MODULES,
    "openrouter": ACCOUNT_MODULES,
    "openrouter_workspace": [
        path.stem for path in MODULES if "mai.fleet.openrouter.workspace" in path.read_text("utf-8")
    ],
    "server": SERVER_MODULES,
}

# What stages return of a run, see plugin_utils/_stage.py.
PARTS = ("clients", "catalog", "unlisted")

OWN = "ansible_collections.mai.fleet.plugins."
# REUSE-IgnoreStart
HEADER = [
    "# Copyright (c) 2026, mai.fleet contributors",
    "# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)",
    "# SPDX-License-Identifier: GPL-3.0-or-later",
]
# REUSE-IgnoreEnd
PRIVATE = "# PRIVATE to the mai.fleet collection"
# Lower layers know nothing of higher ones.
LAYERS: list[set[str]] = [
    set(),  # the files that lie in module_utils itself, for all to use
    {"module_utils._transport"},
    {"module_utils._api"},
    {"module_utils._fleet"},
    {"module_utils._reconcile"},
    {"plugin_utils"},
    {"action", "callback", "filter", "inventory", "lookup", "modules"},
]
LOOPING = {
    f"roles/hetzner/tasks/{part}.yml"
    for part in ("refuse", "look", "foreign", "shared", "server", "dns")
}
# In the standard library of the controller's Python, but not yet of Python 3.9 on a server.
TOO_NEW_FOR_SERVERS = {"annotationlib", "compression", "concurrent.interpreters", "tomllib"}
NOT_FOR_OPERATORS = r"(inventories|molecule|tests)"


@cache
def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def name(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


def files(*folders: str, suffixes: tuple[str, ...]) -> Iterator[Path]:
    for folder in folders:
        for path in sorted((REPOSITORY / folder).rglob("*")):
            if path.is_file() and path.suffix in suffixes and "__pycache__" not in path.parts:
                yield path


def imports(path: Path) -> set[str]:
    """Dotted names of all that a file imports, wherever in the file; ``from a import b`` is a.b."""
    found: set[str] = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{'.' * node.level}{node.module or ''}.{a.name}" for a in node.names}
    return found


def own_file(imported: str) -> Path | None:
    """The file of ours that an imported dotted name lies in."""
    if not imported.startswith(OWN):
        return None
    parts = imported.removeprefix(OWN).split(".")
    for end in (len(parts), len(parts) - 1):
        path = PLUGINS.joinpath(*parts[:end])
        if path.with_suffix(".py").is_file():
            return path.with_suffix(".py")
        if (path / "__init__.py").is_file():
            return path / "__init__.py"
    raise AssertionError(f"{imported} is no file of the collection")


def with_all_imports(path: Path) -> set[Path]:
    """A file and all files of ours that it needs, directly or not."""
    seen: set[Path] = set()
    todo = [path]
    while todo:
        current = todo.pop()
        if current not in seen:
            seen.add(current)
            todo += [file for file in map(own_file, imports(current)) if file]
    return seen


def layer(path: Path) -> int:
    if path.parent == PLUGINS / "module_utils":
        return 0
    dotted = ".".join(path.relative_to(PLUGINS).with_suffix("").parts)
    for height, prefixes in enumerate(LAYERS):
        if any(dotted == prefix or dotted.startswith(f"{prefix}.") for prefix in prefixes):
            return height
    raise AssertionError(f"{name(path)} belongs to no layer of the architecture")


def mappings(data: Any) -> Iterator[dict[str, Any]]:
    """Every mapping in a YAML document: plays, blocks, tasks and their arguments."""
    if isinstance(data, dict):
        yield data
        data = list(data.values())
    if isinstance(data, list):
        for item in data:
            yield from mappings(item)


def role_names(mapping: dict[str, Any]) -> Iterator[str]:
    for key, value in mapping.items():
        if key.endswith(("include_role", "import_role")):
            yield value["name"]
        elif key.endswith("import_playbook"):
            yield value
        elif key == "roles":
            yield from (item if isinstance(item, str) else item["role"] for item in value)


def code_strings(path: Path) -> Iterator[tuple[int, str]]:
    """Line and text of what a file says outside of its comments and documentation."""
    if path.suffix != ".py":
        for line, text in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            yield line, re.sub(r"(^|\s)#.*", "", text)
        return
    documentation = {node.value for node in ast.walk(tree(path)) if is_documentation(node)}
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Constant) and node not in documentation:
            yield node.lineno, str(node.value)


def is_documentation(node: ast.AST) -> TypeGuard[ast.Expr | ast.Assign]:
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant)
    if not isinstance(node, ast.Assign):
        return False
    names = {target.id for target in node.targets if isinstance(target, ast.Name)}
    return bool(names & {"DOCUMENTATION", "EXAMPLES", "RETURN"})


@pytest.fixture(scope="session")
def documentation() -> dict[str, dict[str, Any]]:
    """What ``ansible-doc`` makes of our plugins, fragments merged: kind, then name."""
    command = ["doc", "--metadata-dump", "--no-fail-on-errors", "mai.fleet"]
    done = subprocess.run(
        [sys.executable, "-m", "ansible", *command], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)["all"]


def test_there_is_something_to_check() -> None:
    assert ROLES
    assert PLAYBOOKS
    assert SERVER_MODULES
    assert CONTROLLER_MODULES


def test_role_defaults_equal_their_argument_specs() -> None:
    for role in ROLES:
        entry_points = load(role / "meta" / "argument_specs.yml")["argument_specs"]
        options: dict[str, Any] = {}
        for entry_point in entry_points.values():
            options |= entry_point.get("options", {})
        documented = {key: spec["default"] for key, spec in options.items() if "default" in spec}
        defaults = role / "defaults" / "main.yml"
        assert documented == (load(defaults) if defaults.exists() else {}), name(role)


def test_playbooks_are_short() -> None:
    """What is more than the order of the work belongs into a role."""
    lengths = {name(path): len(code_lines(path)) for path in PLAYBOOKS}
    assert {path: length for path, length in lengths.items() if length >= 30} == {}


def code_lines(path: Path) -> list[str]:
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if line not in ("", "---") and not line.startswith("#")]


def test_roles_and_playbooks_are_named_in_full() -> None:
    wrong = [
        f"{name(path)}: {role}"
        for path in files("playbooks", "roles", suffixes=(".yml",))
        for mapping in mappings(load(path))
        for role in role_names(mapping)
        if not role.startswith("mai.fleet.")
    ]
    assert wrong == []


def test_no_task_loops() -> None:
    """Clients, models and files are data of one bulk call, so no task needs a loop.

    Hetzner's modules deal with one thing in a call. Their role loops over what a project has few
    of, and over those DNS records of clients that are to change (see docs/hetzner.md).
    """
    wrong = [
        f"{name(path)}: {mapping.get('name')}: {key}"
        for path in files("playbooks", "roles", suffixes=(".yml",))
        if "meta" not in path.parts and name(path) not in LOOPING
        for mapping in mappings(load(path))
        for key in mapping
        if key == "loop" or key.startswith("with_")
    ]
    assert wrong == []


def test_every_plugin_file_says_whose_it_is() -> None:
    """For all other files, `reuse lint` looks."""
    wrong = []
    for path in files("plugins", suffixes=(".py",)):
        if path.name == "__init__.py":
            continue
        # Ansible puts the interpreter of the server in the place of this line.
        lines = path.read_text(encoding="utf-8").removeprefix("#!/usr/bin/python\n").splitlines()
        private = name(path).startswith(("plugins/module_utils/", "plugins/plugin_utils/"))
        expected = [*HEADER, PRIVATE] if private else HEADER
        if lines[: len(expected)] != expected:
            wrong.append(name(path))
    assert wrong == []


def test_package_files_are_empty() -> None:
    """Ansible does not run them on import everywhere, so they must not matter."""
    assert [name(path) for path in PLUGINS.rglob("__init__.py") if path.stat().st_size] == []


def test_utilities_have_private_names() -> None:
    wrong = [
        name(path)
        for path in files("plugins/module_utils", "plugins/plugin_utils", suffixes=(".py",))
        if not any(part.startswith("_") for part in path.relative_to(PLUGINS).parts)
    ]
    assert wrong == []


def test_the_collection_needs_nothing_that_operators_do_not_have() -> None:
    pattern = re.compile(rf"^{NOT_FOR_OPERATORS}$|(^|[\s\"'/]){NOT_FOR_OPERATORS}/")
    suffixes = (".py", ".yml", ".j2", ".sh")
    wrong = [
        f"{name(path)}:{line}: {text.strip()}"
        for path in files("plugins", "roles", "playbooks", suffixes=suffixes)
        for line, text in code_strings(path)
        if pattern.search(text)
    ]
    assert wrong == []


def test_every_module_belongs_to_its_action_group() -> None:
    assert load(REPOSITORY / "meta" / "runtime.yml")["action_groups"] == GROUPS


def test_every_module_is_documented(documentation: dict[str, dict[str, Any]]) -> None:
    modules = documentation["module"]
    assert sorted(modules) == [f"mai.fleet.{path.stem}" for path in MODULES]
    expected = {"action_group", "check_mode", "diff_mode", "idempotent", "platform"}
    for fqcn, module in modules.items():
        attributes = module["doc"]["attributes"]
        stem = fqcn.rpartition(".")[2]
        groups = [f"mai.fleet.{kind}" for kind, names in GROUPS.items() if stem in names]
        assert attributes.keys() >= expected, fqcn
        assert all("support" in attribute for attribute in attributes.values()), fqcn
        assert attributes["action_group"]["membership"] == groups, fqcn
        assert yaml.safe_load(module["examples"]), fqcn
        assert module["return"], fqcn
        assert module["doc"]["version_added"], fqcn


def test_the_state_of_the_run_is_documented_in_one_way(
    documentation: dict[str, dict[str, Any]],
) -> None:
    """Fragments could hold what stages return only from ansible-core 2.20 on."""
    told: dict[str, list[str]] = {}
    for fqcn, module in documentation["module"].items():
        returned = module["return"]
        if returned.keys() >= {*PARTS}:
            parts = {part: {**returned[part], "returned": ""} for part in PARTS}
            if fqcn == "mai.fleet.fleet_lock":
                del parts["clients"]["contains"]["locked"]
            told.setdefault(json.dumps(parts, sort_keys=True), []).append(fqcn)
    assert len(told) == 1, list(told.values())


def test_every_action_has_a_module_that_documents_it() -> None:
    assert {*CONTROLLER_MODULES, *ACCOUNT_MODULES} == ACTIONS


def test_imports_point_downwards() -> None:
    wrong = [
        f"{name(path)} imports {name(imported)}"
        for path in files("plugins", suffixes=(".py",))
        if path.name != "__init__.py" and "doc_fragments" not in path.parts
        for imported in {file for file in map(own_file, imports(path)) if file}
        if layer(imported) > layer(path) or layer(imported) == len(LAYERS) - 1
    ]
    assert wrong == []


def test_imports_between_our_files_use_the_full_path() -> None:
    wrong = [
        f"{name(path)}: {imported}"
        for path in files("plugins", suffixes=(".py",))
        for imported in imports(path)
        if imported.startswith(".")
    ]
    assert wrong == []


def test_the_engine_knows_nothing_of_ansible() -> None:
    """Errors are raised, so that the engine serves modules, actions and tests alike."""
    wrong = [
        f"{name(path)}: {imported}"
        for path in files("plugins/module_utils", suffixes=(".py",))
        for imported in imports(path)
        if imported.partition(".")[0] == "ansible"
    ]
    assert wrong == []


def test_servers_need_nothing_but_the_standard_library() -> None:
    wrong = []
    for module in SERVER_MODULES:
        for path in with_all_imports(PLUGINS / "modules" / f"{module}.py"):
            wrong += [
                f"{module}: {name(path)}: {imported}"
                for imported in imports(path)
                if not on_every_server(imported)
            ]
    assert wrong == []


def on_every_server(imported: str) -> bool:
    if imported.startswith((f"{OWN}module_utils.", "ansible.module_utils.")):
        return True
    if any(f"{imported}.".startswith(f"{new}.") for new in TOO_NEW_FOR_SERVERS):
        return False
    return imported.partition(".")[0] in sys.stdlib_module_names


def test_the_execution_environment_has_what_the_controller_imports() -> None:
    text = (REPOSITORY / "meta" / "ee-requirements.txt").read_text(encoding="utf-8")
    declared = set(re.findall(r"^([a-z][\w-]*)", text, re.MULTILINE))
    roots = {
        imported.partition(".")[0]
        for path in files("plugins", suffixes=(".py",))
        for imported in imports(path)
    }
    # What ansible-core itself depends on comes with it.
    provided = {"ansible", "ansible_collections", "jinja2", "yaml", *sys.stdlib_module_names}
    assert roots - provided == declared


def test_the_artefact_holds_what_operators_need(tmp_path: Path) -> None:
    command = ["galaxy", "collection", "build", "--output-path", str(tmp_path), str(REPOSITORY)]
    subprocess.run([sys.executable, "-m", "ansible", *command], capture_output=True, check=True)
    (artefact,) = tmp_path.glob("mai-fleet-*.tar.gz")
    with tarfile.open(artefact) as archive:
        names = [member.removeprefix("./") for member in archive.getnames()]
    top = {path.partition("/")[0] for path in names}
    assert top <= {
        "CHANGELOG.md",
        "CODE_OF_CONDUCT.md",
        "CONTRIBUTING.md",
        "FILES.json",
        "LICENSE",
        "LICENSES",
        "MANIFEST.json",
        "README.md",
        "REUSE.toml",
        "changelogs",
        "docs",
        "inventories",
        "meta",
        "playbooks",
        "plugins",
        "roles",
    }
    assert {path.split("/")[1] for path in names if path.startswith("inventories/")} <= {"example"}
    assert [path for path in names if "/." in path or "__pycache__" in path] == []


def test_the_version_has_a_changelog() -> None:
    version = load(REPOSITORY / "galaxy.yml")["version"]
    assert version in load(REPOSITORY / "changelogs" / "changelog.yaml")["releases"]
