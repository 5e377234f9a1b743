# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

SECRETS = {
    "api_key": "sk-or-v1-key",
    "webui_secret_key": "the-secret-key",
    "admin_password": "the-admin-password",
    "service_token": "the-service-token",
}


def _settings(port: int, docker: Path) -> dict[str, Any]:
    return {
        "clients": [
            {
                "name": "acme",
                "port": port,
                "webui_url": "https://chat.acme.example",
                "admin_email": "anna@acme.example",
                "connection": {"url": "https://openrouter.ai/api/v1", "model_ids": ["a/one"]},
            }
        ],
        "docker_host": f"unix://{docker}/docker.sock",
        "secrets": json.dumps({"acme": SECRETS}),
    }


def _proof(port: int, docker: Path) -> dict[str, Any]:
    connection = {
        "url": "https://openrouter.ai/api/v1",
        "model_ids": ["a/one"],
        "key_fingerprint": "sha256:5f70bf18a086",
    }
    return {
        "clients": [
            {
                "name": "acme",
                "port": port,
                "version": "0.12.4",
                "connection": connection,
                "model_ids": ["a/one"],
                "chat": {"model": "a/one"},
            }
        ],
        "docker_host": f"unix://{docker}/docker.sock",
        "secrets": json.dumps({"acme": SECRETS}),
    }


def test_check_mode_says_what_an_instance_would_get_that_does_not_exist_yet(
    run_module: Any, closed_port: int, tmp_path: Path
) -> None:
    result = run_module("instance_settings", _settings(closed_port, tmp_path), check=True)
    row = result["clients"]["acme"]
    assert (row["changed"], row["failed"]) == (True, False)
    assert set(row["before"].values()) == {None}
    assert row["after"]["connection"]["models"] == ["a/one"]
    assert row["after"]["connection"]["key"].startswith("sha256:")
    assert row["after"]["models"] == {"a/one": "a/one"}
    assert row["after"]["sign_up"] == "closed"
    assert '"a/one"' in result["diff"][0]["after"]


def test_an_instance_that_is_down_fails_for_its_client_only(
    run_module: Any, closed_port: int, tmp_path: Path
) -> None:
    result = run_module("instance_settings", _settings(closed_port, tmp_path))
    row = result["clients"]["acme"]
    assert "failed" not in result
    assert (row["changed"], row["failed"]) == (False, True)
    assert row["failure"]["what"] == "Connection refused"
    assert f":{closed_port}/" in row["failure"]["where"]
    assert "docker compose -p acme logs" in row["failure"]["todo"]


def test_gates_behind_one_that_is_shut_are_not_looked_at(
    run_module: Any, closed_port: int, tmp_path: Path
) -> None:
    row = run_module("instance_proof", _proof(closed_port, tmp_path))["clients"]["acme"]
    assert [(gate["gate"], gate["state"]) for gate in row["gates"]] == [
        ("ready", "failed"),
        ("version", "unchecked"),
        ("claimed", "unchecked"),
        ("closed", "unchecked"),
        ("connection", "unchecked"),
        ("models_admin", "unchecked"),
        ("models_user", "unchecked"),
        ("chat", "unchecked"),
    ]
    assert row["failure"]["what"].startswith("gate ready: expected an instance that answers, saw")
    assert "docker compose -p acme logs" in row["failure"]["todo"]


def test_every_gate_that_fails_says_what_to_do(
    run_module: Any, recorded: Any, tmp_path: Path
) -> None:
    recorded.answer("GET /ready", 200, {"status": True})
    recorded.answer("GET /api/version", 200, {"version": "0.12.3"})
    recorded.answer("GET /api/config", 200, {"features": {"enable_signup": True}})
    row = run_module("instance_proof", _proof(recorded.port, tmp_path))["clients"]["acme"]
    failed = [gate for gate in row["gates"] if gate["state"] == "failed"]
    assert [(gate["gate"], gate["seen"]) for gate in failed[::2]] == [
        ("version", "0.12.3"),
        ("closed", "strangers can sign up"),
    ]
    assert failed[1]["gate"] == "claimed"
    assert "No such file" in failed[1]["seen"]
    assert all(gate["todo"] for gate in failed)


def test_check_mode_leaves_out_the_chat(run_module: Any, closed_port: int, tmp_path: Path) -> None:
    row = run_module("instance_proof", _proof(closed_port, tmp_path), check=True)["clients"]["acme"]
    assert "chat" not in [gate["gate"] for gate in row["gates"]]


@pytest.mark.parametrize("module", ["instance_settings", "instance_proof"])
def test_no_secret_is_in_any_result(
    run_module: Any, recorded: Any, tmp_path: Path, module: str
) -> None:
    for secret in SECRETS.values():
        for path in ("/api/config", "/ready"):
            recorded.answer(f"GET {path}", 503, {"detail": f"why {secret} because {secret}"})
        options = {"instance_settings": _settings, "instance_proof": _proof}[module]
        text = json.dumps(run_module(module, options(recorded.port, tmp_path)))
        assert "because sha256:" in text
        assert not [known for known in SECRETS.values() if known in text]


@pytest.mark.parametrize("module", ["instance_settings", "instance_proof"])
def test_secrets_that_are_not_json_fail_without_being_quoted(
    run_module: Any, closed_port: int, tmp_path: Path, module: str
) -> None:
    options = {"instance_settings": _settings, "instance_proof": _proof}[module]
    result = run_module(module, {**options(closed_port, tmp_path), "secrets": "sk-or-v1-oops"})
    assert result["failed"]
    assert result["failure"]["where"] == "option secrets"
    assert "oops" not in json.dumps(result)


def test_an_empty_list_of_models_is_refused_before_anything_is_asked(
    run_module: Any, recorded: Any, tmp_path: Path
) -> None:
    options = _settings(recorded.port, tmp_path)
    options["clients"][0]["connection"]["model_ids"] = []
    row = run_module("instance_settings", options)["clients"]["acme"]
    assert row["failure"]["what"] == "expected at least one model"
    assert recorded.requests == []
