# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import fcntl
import hashlib
import json
import os
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.mai.fleet.plugins.module_utils._secrets import (
    fingerprint,
    sha256,
    unseal,
)

KEY = "sk-or-v1-" + "a1" * 32
OLD_KEY = "sk-or-v1-" + "b2" * 32
PASSWORD = "geheim's $und lang"
ENV = f"# note\nOPENROUTER_API_KEY='{KEY}'\nADMIN_PASSWORD=\"geheim's \\$und lang\"\nNAME='Łódź'\n"
COMPOSE = 'services: {webui: {image: "x"}}\n'
TEXTS = {"compose.yml": COMPOSE, ".env": ENV}

Run = Callable[..., dict[str, Any]]


def short(text: str) -> str:
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def tree(path: Path) -> dict[str, str]:
    return {
        str(file.relative_to(path)): file.read_text()
        for file in sorted(path.rglob("*"))
        if file.is_file()
    }


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tmp_path / "srv" / "mai"


@pytest.fixture
def write(base: Path, run_module: Any) -> Run:
    """``write({"acme": {…texts…}, "gone": None})``, None for an absent client."""

    def write(texts: dict[str, Any], *, directory: Path = base, **how: Any) -> dict[str, Any]:
        clients = [
            {"name": name, "state": "absent" if text is None else "present"}
            for name, text in texts.items()
        ]
        options = {
            "directory": str(directory),
            "clients": clients,
            "secret_names": ["OPENROUTER_API_KEY", "ADMIN_PASSWORD"],
            "secrets": json.dumps({name: text for name, text in texts.items() if text}),
        }
        return dict(run_module("instance_files", options, **how))

    return write


def test_a_new_client_in_check_mode(base: Path, write: Run) -> None:
    result = write({"acme": TEXTS}, check=True)
    assert result["changed"] is True
    assert result["clients"]["acme"] == {
        "changed": True,
        "before": {"compose.yml": None, ".env": None},
        "after": {"compose.yml": short(COMPOSE), ".env": short(ENV)},
        "warnings": [],
        "failed": False,
    }
    assert not base.parent.exists()


def test_a_new_client(base: Path, write: Run) -> None:
    checked = write({"acme": TEXTS}, check=True)
    result = write({"acme": TEXTS})
    assert result == checked
    assert tree(base) == {"acme/compose.yml": COMPOSE, "acme/.env": ENV}
    assert mode(base) == mode(base / "acme") == 0o700
    assert mode(base / "acme" / ".env") == mode(base / "acme" / "compose.yml") == 0o600


def test_a_second_run_changes_nothing(base: Path, write: Run) -> None:
    write({"acme": TEXTS})
    before = (base / "acme" / ".env").stat()
    result = write({"acme": TEXTS})
    assert result["changed"] is False
    assert result["diff"] == []
    assert result["clients"]["acme"]["before"] == result["clients"]["acme"]["after"]
    assert (base / "acme" / ".env").stat() == before


def test_a_diff_shows_fingerprints_on_both_sides(write: Run) -> None:
    old = {
        "compose.yml": f"# {OLD_KEY} {PASSWORD}\n",
        ".env": f"OPENROUTER_API_KEY={OLD_KEY}\nADMIN_PASSWORD=old-admin\nNAME='old-admin'\n",
    }
    write({"acme": old})
    result = write({"acme": TEXTS})
    text = json.dumps(result, ensure_ascii=False)
    for secret in (KEY, OLD_KEY, PASSWORD, "old-admin"):
        assert secret not in text
        assert json.dumps(secret)[1:-1] not in text
    env = result["diff"][1]
    assert env["before_header"].endswith("/acme/.env")
    assert env["before"] == (
        f"OPENROUTER_API_KEY={fingerprint(OLD_KEY)}\n"
        f"ADMIN_PASSWORD={fingerprint('old-admin')}\nNAME='{fingerprint('old-admin')}'\n"
    )
    assert env["after"] == (
        f"# note\nOPENROUTER_API_KEY={fingerprint(KEY)}\n"
        f"ADMIN_PASSWORD={fingerprint(PASSWORD)}\nNAME='Łódź'\n"
    )
    assert result["diff"][0]["before"] == f"# {fingerprint(OLD_KEY)} {fingerprint(PASSWORD)}\n"


@pytest.mark.parametrize("texts", [TEXTS, None])
def test_a_variable_that_is_given_up_is_not_shown(write: Run, texts: Any) -> None:
    """Nobody says any more that it was secret."""
    write({"acme": {**TEXTS, ".env": ENV + "SMTP_PASSWORD='given up'\n"}})
    result = write({"acme": texts})
    assert "given up" not in json.dumps(result)
    assert f"SMTP_PASSWORD={fingerprint('given up')}" in result["diff"][-1]["before"]


def test_a_secret_that_is_still_to_come_is_shown_as_such(write: Run) -> None:
    """As in check mode, where the store was lost and the server has files."""
    write({"acme": TEXTS})
    coming = {**TEXTS, ".env": "ADMIN_PASSWORD='(new admin_password)'\n"}
    env = write({"acme": coming}, check=True)["diff"][0]
    assert env["after"] == "ADMIN_PASSWORD='(new admin_password)'\n"
    assert f"ADMIN_PASSWORD={fingerprint(PASSWORD)}\n" in env["before"]


def test_old_files_that_nobody_understands_are_not_shown(base: Path, write: Run) -> None:
    write({"acme": TEXTS})
    (base / "acme" / ".env").write_text("OPENROUTER_API_KEY='a secret\nof two lines'\n")
    (base / "acme" / "compose.yml").write_text("a secret\n")
    result = write({"acme": TEXTS})
    assert [part["before"] for part in result["diff"]] == ["(content not shown)\n"] * 2
    assert "a secret" not in json.dumps(result)


@pytest.mark.parametrize("name", [".", ".env", "compose.yml"])
def test_a_wrong_mode_is_repaired(base: Path, write: Run, name: str) -> None:
    write({"acme": TEXTS})
    (base / "acme" / name).chmod(0o755)
    checked = write({"acme": TEXTS}, check=True)
    assert mode(base / "acme" / name) == 0o755
    result = write({"acme": TEXTS})
    assert result == checked
    row = result["clients"]["acme"]
    assert row["changed"] is True
    assert row["before"]["drift"] == [f"{name}: mode 0755, owner {os.getuid()}:{os.getgid()}"]
    assert row["after"]["drift"] == []
    assert mode(base / "acme" / name) == (0o700 if name == "." else 0o600)
    assert write({"acme": TEXTS})["changed"] is False


@pytest.mark.skipif(os.getuid() != 0, reason="needs root")
@pytest.mark.parametrize("name", [".", ".env"])
def test_a_wrong_owner_is_repaired(base: Path, write: Run, name: str) -> None:
    write({"acme": TEXTS})
    os.chown(base / "acme" / name, 65534, 65534)
    assert write({"acme": TEXTS})["changed"] is True
    assert (base / "acme" / name).stat().st_uid == 0
    assert (base / "acme" / name).stat().st_gid == 0


def test_a_client_without_instance_has_no_compose_file(base: Path, write: Run) -> None:
    write({"acme": TEXTS})
    result = write({"acme": {".env": ENV}})
    assert result["clients"]["acme"]["after"] == {"compose.yml": None, ".env": short(ENV)}
    assert tree(base) == {"acme/.env": ENV}
    assert write({"acme": {".env": ENV}})["changed"] is False


def test_an_absent_client(base: Path, write: Run) -> None:
    write({"acme": TEXTS, "other": TEXTS})
    checked = write({"acme": None}, check=True)
    assert tree(base / "acme")
    result = write({"acme": None})
    assert result == checked
    assert result["clients"]["acme"]["changed"] is True
    assert result["clients"]["acme"]["after"] == {"compose.yml": None, ".env": None}
    assert KEY not in json.dumps(result)
    assert not (base / "acme").exists()
    assert (base / "other" / ".env").exists()
    assert write({"acme": None})["changed"] is False


def test_an_absent_client_keeps_what_is_not_ours(base: Path, write: Run) -> None:
    write({"acme": TEXTS})
    (base / "acme" / "notes.txt").write_text("mine")
    row = write({"acme": None})["clients"]["acme"]
    assert row["changed"] is True
    assert row["warnings"] == [
        f"{base}/acme stays, it contains files that are not of this collection: notes.txt"
    ]
    assert tree(base) == {"acme/notes.txt": "mine"}
    again = write({"acme": None})["clients"]["acme"]
    assert again["changed"] is False
    assert again["warnings"] == row["warnings"]


def test_an_absent_client_on_a_bare_server(base: Path, write: Run) -> None:
    assert write({"acme": None})["changed"] is False
    assert not base.exists()


def test_what_an_interrupted_run_left_is_removed(base: Path, write: Run) -> None:
    write({"acme": TEXTS})
    left = base / "acme" / ".env.mai-new"
    left.write_text(KEY)
    row = write({"acme": TEXTS})["clients"]["acme"]
    assert row["before"]["drift"] == [".env.mai-new: left behind by an interrupted run"]
    assert not left.exists()
    left.write_text(KEY)
    assert write({"acme": None})["clients"]["acme"]["changed"] is True
    assert not (base / "acme").exists()


@pytest.mark.parametrize("state", ["present", "absent"])
@pytest.mark.parametrize("name", [".env", "compose.yml"])
@pytest.mark.parametrize("kind", ["symlink", "directory", "fifo"])
def test_what_is_no_regular_file_is_refused(
    base: Path, write: Run, tmp_path: Path, name: str, kind: str, state: str
) -> None:
    target = tmp_path / "target"
    target.write_text("untouched")
    (base / "acme").mkdir(parents=True, mode=0o700)
    path = base / "acme" / name
    if kind == "symlink":
        path.symlink_to(target)
    elif kind == "directory":
        path.mkdir()
    else:
        os.mkfifo(path)
    result = write({"acme": TEXTS if state == "present" else None, "other": TEXTS})
    row = result["clients"]["acme"]
    assert row["failed"] is True
    assert row["changed"] is False
    assert row["failure"]["where"] == str(path)
    assert row["failure"]["what"].startswith("expected a regular file")
    assert target.read_text() == "untouched"
    assert os.listdir(base / "acme") == [name]
    assert result["clients"]["other"]["changed"] is True


@pytest.mark.parametrize("state", ["present", "absent"])
def test_a_directory_that_is_a_symlink_is_refused(
    base: Path, write: Run, tmp_path: Path, state: str
) -> None:
    (tmp_path / "elsewhere").mkdir()
    base.mkdir(parents=True)
    (base / "acme").symlink_to(tmp_path / "elsewhere")
    row = write({"acme": TEXTS if state == "present" else None})["clients"]["acme"]
    assert row["failure"]["what"].startswith("expected a directory")
    assert os.listdir(tmp_path / "elsewhere") == []


def test_a_name_cannot_lead_elsewhere(base: Path, write: Run, tmp_path: Path) -> None:
    base.mkdir(parents=True)
    row = write({"../../outside": TEXTS})["clients"]["../../outside"]
    assert row["failure"]["what"].startswith("expected a client's name")
    assert os.listdir(tmp_path) == ["srv"]


def test_a_base_that_others_can_write_to_is_refused(base: Path, write: Run) -> None:
    base.mkdir(parents=True)
    base.chmod(0o777)
    result = write({"acme": TEXTS})
    assert result["failed"] is True
    assert "found mode 0777" in result["failure"]["what"]
    assert result["failure"]["where"] == str(base)
    assert os.listdir(base) == []


def test_a_base_may_be_a_symlink(base: Path, write: Run, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir(mode=0o755)
    base.parent.mkdir()
    base.symlink_to(tmp_path / "disk")
    assert write({"acme": TEXTS})["clients"]["acme"]["failed"] is False
    assert (tmp_path / "disk" / "acme" / ".env").exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "disk"
    path.mkdir(mode=0o700)
    # Four pages: the root directory takes none, so that four small files fit.
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16k,mode=0700", "tmpfs", str(path)],
        capture_output=True,
        check=False,
    )
    if done.returncode != 0:
        pytest.skip("needs permission to mount")
    yield path
    subprocess.run(["umount", str(path)], check=True)


def test_a_full_disk_leaves_every_file_whole(write: Run, small_disk: Path) -> None:
    assert write({"acme": TEXTS}, directory=small_disk)["clients"]["acme"]["failed"] is False
    big = {**TEXTS, ".env": ENV + f"BIG='{'x' * 20000}'\n"}
    small = {**TEXTS, ".env": ENV + "SMALL='1'\n"}
    result = write({"acme": big, "fresh": big, "other": small}, directory=small_disk)
    for name in ("acme", "fresh"):
        row = result["clients"][name]
        assert row["changed"] is False
        assert row["failure"] == {
            "what": "No space left on device",
            "where": str(small_disk / name),
            "todo": "make room on this filesystem and run again",
        }
    assert result["clients"]["other"]["failed"] is False
    assert result["changed"] is True
    assert tree(small_disk) == {
        "acme/.env": ENV,
        "acme/compose.yml": COMPOSE,
        "other/.env": ENV + "SMALL='1'\n",
        "other/compose.yml": COMPOSE,
    }
    assert not (small_disk / "fresh").exists()
    assert [part["before_header"] for part in result["diff"]] == [
        f"{small_disk}/other/compose.yml",
        f"{small_disk}/other/.env",
    ]


def test_two_runs_at_once_do_not_mix(base: Path, write: Run) -> None:
    write({"acme": TEXTS})
    folder = os.open(base / "acme", os.O_RDONLY)
    try:
        # Enough to keep out whoever wants the directory alone.
        fcntl.flock(folder, fcntl.LOCK_SH)
        row = write({"acme": {**TEXTS, "compose.yml": "new\n"}})["clients"]["acme"]
    finally:
        os.close(folder)
    assert row["failure"]["what"] == "another run is at work on this client's files"
    assert tree(base)["acme/compose.yml"] == COMPOSE


@pytest.mark.parametrize(
    "texts", [{}, {"compose.yml": COMPOSE}, {**TEXTS, "x": ""}, {".env": 1}, "text"]
)
def test_texts_of_the_wrong_kind_fail_the_client(base: Path, write: Run, texts: Any) -> None:
    base.mkdir(parents=True)
    row = write({"acme": texts or {".env": None}})["clients"]["acme"]
    assert row["failure"]["where"] == "option secrets, acme"
    assert os.listdir(base) == []


def test_an_env_file_that_compose_cannot_read_fails_the_client(base: Path, write: Run) -> None:
    row = write({"acme": {".env": f"OPENROUTER_API_KEY='{KEY}\n"}})["clients"]["acme"]
    assert row["failure"]["what"] == (
        "line 1: not a NAME=value line; expected NAME='value' on one line"
    )
    assert KEY not in json.dumps(row)
    assert os.listdir(base) == []


@pytest.mark.parametrize("secrets", ["no json", "[]"])
def test_secrets_of_the_wrong_kind_fail_the_task(run_module: Any, secrets: str) -> None:
    result = run_module("instance_files", {"clients": [], "secrets": secrets})
    assert result["failed"] is True
    assert result["failure"]["where"] == "option secrets"


def test_keys_are_found_and_sealed(base: Path, write: Run, run_module: Any) -> None:
    write({"acme": TEXTS, "globex": TEXTS, "keyless": {".env": "A='1'\n"}})
    pad = os.urandom(512).hex()
    result = run_module(
        "instance_keys",
        {
            "directory": str(base),
            "clients": ["acme", "globex", "keyless", "nobody"],
            "secrets": json.dumps({"acme": pad}),
        },
    )
    rows = result["clients"]
    assert result["changed"] is False
    assert rows["acme"]["fingerprint"] == fingerprint(KEY)
    assert rows["acme"]["hash"] == sha256(KEY)
    assert json.loads(unseal(rows["acme"]["sealed"], pad)) == {"OPENROUTER_API_KEY": KEY}
    assert rows["globex"]["hash"] == sha256(KEY)
    assert "sealed" not in rows["globex"]
    assert rows["keyless"]["hash"] is rows["nobody"]["hash"] is None
    assert not any(row["failed"] for row in rows.values())
    assert KEY not in json.dumps(result)


def test_keys_on_a_bare_server(base: Path, run_module: Any) -> None:
    result = run_module("instance_keys", {"directory": str(base), "clients": ["acme"]})
    assert result["clients"]["acme"]["hash"] is None


@pytest.mark.parametrize("pad", ["aa", "not hexadecimal", 5])
def test_a_pad_that_does_not_cover_is_refused(
    base: Path, write: Run, run_module: Any, pad: Any
) -> None:
    write({"acme": TEXTS})
    options = {"directory": str(base), "clients": ["acme"], "secrets": json.dumps({"acme": pad})}
    result = run_module("instance_keys", options)
    assert result["clients"]["acme"]["failure"]["where"] == "option secrets, acme"
    assert KEY not in json.dumps(result)


def test_a_key_file_that_nobody_understands_fails_the_client(
    base: Path, write: Run, run_module: Any
) -> None:
    write({"acme": TEXTS})
    (base / "acme" / ".env").write_text(f"OPENROUTER_API_KEY='{KEY}\n")
    result = run_module("instance_keys", {"directory": str(base), "clients": ["acme"]})
    row = result["clients"]["acme"]
    assert row["failure"]["where"] == str(base / "acme" / ".env")
    assert KEY not in json.dumps(result)
