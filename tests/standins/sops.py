# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SOPS 3.9 as far as a secret store needs it: ``python -m standins.sops``, with age keys only.

It reads and writes SOPS's own file format: AES-256-GCM for each value, bound to its name; a MAC
over all values; a data key that age has encrypted. What it does not know is refused. A file of SOPS
3.8.1 was read with it, and one that it made was read with the npm package sops-age.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pyrage
import yaml
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

VERSION = "3.9.4"
VALUE = re.compile(r"ENC\[AES256_GCM,data:(.*),iv:(.+),tag:(.+),type:(str)\]")
WITH_VALUE = {
    "encrypt": {"--age", "--input-type", "--output-type", "--filename-override"},
    "decrypt": {"--input-type", "--output-type"},
}
GLOBAL = {"--config"}


class Refused(Exception):
    """:param status: one of SOPS's exit codes"""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def main(arguments: list[str]) -> int:
    if arguments == ["--version", "--disable-version-check"]:
        print(f"sops {VERSION}")
        return 0
    try:
        command, options, file = parsed(arguments)
        data = Path(file).read_bytes()
        work = encrypt if command == "encrypt" else decrypt
        sys.stdout.write(work(data, options))
    except Refused as error:
        print(error, file=sys.stderr)
        return error.status
    except OSError as error:
        print(f"failed to read {file!r}: {error.strerror}", file=sys.stderr)
        return 2
    return 0


def parsed(arguments: list[str]) -> tuple[str, dict[str, str], str]:
    options: dict[str, str] = {}
    command, rest, known = "", list(arguments), GLOBAL
    files: list[str] = []
    while rest:
        word = rest.pop(0)
        if word in known:
            options[word] = rest.pop(0)
        elif word.startswith("-"):
            raise Refused(1, f"flag provided but not defined: {word}")
        elif not command and word in WITH_VALUE:
            command, known = word, WITH_VALUE[word]
        else:
            files.append(word)
    if not command or len(files) != 1:
        raise Refused(100, "error: no file specified")
    return command, options, files[0]


def encrypt(data: bytes, options: dict[str, str]) -> str:
    if options.get("--input-type") != "json" or options.get("--output-type") != "yaml":
        raise Refused(1, "this one reads JSON and writes YAML")
    content = json.loads(data)
    if "sops" in content:
        raise Refused(203, "The file you have provided contains a top-level entry called 'sops'")
    if not content or not all(isinstance(value, str) for value in content.values()):
        raise Refused(1, "this one encrypts texts, at least one")
    key = os.urandom(32)
    at = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    tree: dict[str, Any] = {name: seal(key, value, f"{name}:") for name, value in content.items()}
    tree["sops"] = {
        "age": [{"recipient": one, "enc": to_age(key, one)} for one in recipients(options)],
        "lastmodified": at,
        "mac": seal(key, mac(content), at),
        "unencrypted_suffix": "_unencrypted",
        "version": VERSION,
    }
    return yaml.safe_dump(tree, sort_keys=False)


def decrypt(data: bytes, options: dict[str, str]) -> str:
    if (
        options.get("--input-type") not in ("yaml", "json")
        or options.get("--output-type") != "json"
    ):
        raise Refused(1, "this one reads YAML and writes JSON")
    try:
        tree = yaml.safe_load(data)
    except yaml.YAMLError as error:
        raise Refused(1, "Error unmarshalling input yaml") from error
    if not isinstance(tree, dict) or "sops" not in tree:
        raise Refused(1, "sops metadata not found")
    said = tree.pop("sops")
    key = data_key(said)
    try:
        content = {name: opened(key, value, f"{name}:") for name, value in tree.items()}
        wanted = opened(key, said["mac"], said["lastmodified"])
    except InvalidTag:
        raise Refused(25, "Error decrypting tree: cipher: message authentication failed") from None
    if wanted != mac(content):
        raise Refused(51, "MAC mismatch")
    return json.dumps(content, indent=2)


def recipients(options: dict[str, str]) -> list[str]:
    given = options.get("--age") or by_rule(options)
    return [one.strip() for one in given.split(",")]


def by_rule(options: dict[str, str]) -> str:
    here = Path.cwd()
    places = [Path(options["--config"])] if "--config" in options else []
    places += [folder / ".sops.yaml" for folder in (here, *here.parents)]
    config = next((place for place in places if place.is_file()), None)
    if config is None:
        raise Refused(1, "config file not found, or has no creation rules, and no keys provided")
    path = os.path.relpath(options.get("--filename-override", ""), config.parent)
    for rule in yaml.safe_load(config.read_text()).get("creation_rules", []):
        if re.search(rule.get("path_regex", ""), path):
            return str(rule["age"])
    raise Refused(1, "error loading config: no matching creation rules found")


def data_key(said: dict[str, Any]) -> bytes:
    for one in said.get("age") or []:
        for identity in identities():
            try:
                return bytes(pyrage.decrypt(one["enc"].encode(), [identity]))
            except pyrage.DecryptError:
                continue
    raise Refused(128, "Failed to get the data key required to decrypt the SOPS file.")


def identities() -> list[Any]:
    texts = [os.environ.get("SOPS_AGE_KEY", "")]
    home = Path(os.environ.get("HOME", "/")) / ".config" / "sops" / "age" / "keys.txt"
    file = Path(os.environ.get("SOPS_AGE_KEY_FILE") or home)
    if file.is_file():
        texts.append(file.read_text())
    lines = [line for text in texts for line in text.splitlines()]
    keys = [line for line in lines if line.startswith("AGE-SECRET-KEY-1")]
    return [pyrage.x25519.Identity.from_str(line.strip()) for line in keys]


def to_age(key: bytes, recipient: str) -> str:
    try:
        to = pyrage.x25519.Recipient.from_str(recipient)
    except pyrage.RecipientError:
        raise Refused(
            1, f"failed to parse input as Bech32-encoded age public key: {recipient}"
        ) from None
    return bytes(pyrage.encrypt(key, [to], armored=True)).decode()


def mac(content: dict[str, str]) -> str:
    return hashlib.sha512("".join(content.values()).encode()).hexdigest().upper()


def seal(key: bytes, text: str, bound_to: str) -> str:
    nonce = os.urandom(32)
    sealed = AESGCM(key).encrypt(nonce, text.encode(), bound_to.encode())
    data, iv, tag = (
        base64.b64encode(part).decode() for part in (sealed[:-16], nonce, sealed[-16:])
    )
    return f"ENC[AES256_GCM,data:{data},iv:{iv},tag:{tag},type:str]"


def opened(key: bytes, text: Any, bound_to: str) -> str:
    match = VALUE.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise Refused(25, f"Error decrypting tree: {bound_to} is not encrypted")
    data, iv, tag = (base64.b64decode(part) for part in match.groups()[:3])
    return AESGCM(key).decrypt(iv, data + tag, bound_to.encode()).decode()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
