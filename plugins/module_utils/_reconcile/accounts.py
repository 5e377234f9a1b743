# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the mai.fleet collection
"""The two accounts that the fleet keeps in every instance, and the way in.

The service account (an admin) does the work, the probe (an ordinary user) shows what users see.
Nobody signs in with a password: a sign-in is dear and limited, and a lost password would need a
person. Tokens are kept with the client's secrets. One that is missing or refused is made anew
from the instance's ``WEBUI_SECRET_KEY`` and what its database, on this server, says of the account.
"""

from __future__ import annotations

import secrets as randomness
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from ansible_collections.mai.fleet.plugins.module_utils._api.openwebui import (
    PASSWORD_MAX_BYTES,
    OpenWebUI,
    User,
    mint_token,
    token_user,
)
from ansible_collections.mai.fleet.plugins.module_utils._errors import (
    FleetError,
    Unauthorized,
    Unreachable,
)
from ansible_collections.mai.fleet.plugins.module_utils._redaction import Redactor
from ansible_collections.mai.fleet.plugins.module_utils._transport.loopback import (
    Loopback,
    Response,
)

_DOMAIN = "mai-fleet.invalid"
# Long enough for one call of a module; what is kept for later runs, the controller makes itself.
_TOKEN_LIFETIME = 3600
MISSING = "missing"


@dataclass(frozen=True)
class Account:
    """One of ours. ``key`` is its name in results and, with ``_token``, in the secrets."""

    key: str
    email: str
    name: str
    role: str


SERVICE = Account("service", f"service@{_DOMAIN}", "mai.fleet service", "admin")
PROBE = Account("probe", f"probe@{_DOMAIN}", "mai.fleet probe", "user")


@dataclass(frozen=True)
class Instance:
    """How a step reaches one client's instance.

    :param docker: URL of Docker's socket
    :param secrets: ``webui_secret_key``, ``service_token`` and so on; what is not there is empty
    :param now: seconds since 1970
    :param volume: empty for NAME_data
    """

    client: str
    transport: Loopback
    docker: str
    secrets: Mapping[str, str] = field(repr=False)
    now: int
    volume: str = ""

    @property
    def data(self) -> str:
        """The name of the volume that holds its data."""
        return self.volume or f"{self.client}_data"

    def secret(self, name: str) -> str:
        return self.secrets.get(name) or ""

    def api(self, token: str = "") -> OpenWebUI:
        return OpenWebUI(self.transport, token)

    def hide(self, text: str) -> str:
        """``text`` without secrets: Open WebUI and providers say what they like in an error."""
        return Redactor(self.secrets.values()).text(text)

    def explain(self, error: FleetError) -> FleetError:
        """``error`` fit to be shown, with what to do next if it does not say so itself."""
        todo = f"see `docker compose -p {self.client} logs webui` on the server"
        return FleetError(self.hide(error.what), error.where, error.todo or todo)


@dataclass(frozen=True)
class Owner:
    """The client's own first admin, who claims an instance that nobody has claimed."""

    email: str
    name: str
    password: str = field(repr=False)


@dataclass
class Access:
    """What the accounts were found to be, and what they are good for now.

    ``roles`` are those found, by account key; ``made`` has id and stamp of the accounts whose
    token had to be made anew; ``admin`` is None when nothing can be read without a change.
    """

    claimed: bool = True
    roles: dict[str, str] = field(default_factory=dict)
    made: dict[str, dict[str, str | None]] = field(default_factory=dict)
    changed: bool = False
    admin: OpenWebUI | None = None
    probe: OpenWebUI | None = None

    @property
    def lacking(self) -> bool:
        """Whether something was found that is to be healed."""
        wrong = [self.roles.get(account.key) != account.role for account in (SERVICE, PROBE)]
        return not self.claimed or any(wrong)


@dataclass(frozen=True)
class StoredAccount:
    """An account as the database has it."""

    id: str
    email: str
    role: str
    stamp: str | None


class Doorman:
    """Makes sure of our accounts in one instance.

    :param owner: None where nothing may be changed: then accounts are only found, not healed
    """

    def __init__(self, instance: Instance, owner: Owner | None) -> None:
        self._instance = instance
        self._owner = owner
        self._refused: set[str] = set()
        # Filled while it goes on, so that it tells what was done before an error.
        self.access = Access()

    def open(self) -> Access:
        """
        :raises FleetError: there is no way in
        """
        entered = self._with_our_token() or self._through_the_database()
        if entered is None:
            return self.access
        admin, users = entered
        found = {user.email: user for user in users}
        tokens = {}
        lacking = []
        for account in (SERVICE, PROBE):
            user = found.get(account.email)
            self.access.roles[account.key] = user.role if user else MISSING
            if not self._heal(admin, account, user):
                continue
            if self._token_serves(account, user):
                tokens[account.key] = self._instance.secret(f"{account.key}_token")
            else:
                lacking.append(account)
        tokens.update(self._mint(lacking))
        # Where nothing may be changed, and ours is not there, a foreign admin's eyes have to do.
        apis = {key: self._instance.api(token) for key, token in tokens.items()}
        self.access.admin = apis.get(SERVICE.key, admin)
        self.access.probe = apis.get(PROBE.key)
        return self.access

    def renew(self, account: Account) -> OpenWebUI:
        """After Open WebUI refused a token that looked right (its stamp is no longer the user's).

        :raises FleetError: the account is not in the database
        """
        return self._instance.api(self._mint([account])[account.key])

    def _with_our_token(self) -> tuple[OpenWebUI, list[User]] | None:
        token = self._instance.secret("service_token")
        if not token_user(token, self._instance.secret("webui_secret_key"), self._instance.now):
            return None
        admin = self._instance.api(token)
        try:
            return admin, admin.users(_DOMAIN)
        except Unauthorized:
            # The account is gone or no admin, or its sessions were revoked.
            self._refused.add(SERVICE.key)
            return None

    def _through_the_database(self) -> tuple[OpenWebUI, list[User]] | None:
        if self._instance.api().public_config().get("onboarding"):
            self.access.claimed = False
            self.access.roles = {SERVICE.key: MISSING, PROBE.key: MISSING}
            if self._owner is None:
                return None
            self._claim(self._owner)
        stored = stored_accounts(database(self._instance))
        admins = [account for account in stored if account.role == "admin"]
        if not admins:
            raise FleetError(
                "no account in the database is an admin",
                f"{self._instance.client}: Open WebUI",
                "make an account an admin in the database; Open WebUI offers no other way",
            )
        ours = [account for account in admins if account.email == SERVICE.email]
        admin = self._instance.api(self._token(*(ours or admins)[:1]))
        try:
            return admin, admin.users(_DOMAIN)
        except Unauthorized as error:
            raise FleetError(
                "Open WebUI refuses a token made with the stored WEBUI_SECRET_KEY",
                error.where,
                "recreate the container, so that it runs with the key in its .env file",
            ) from None

    def _claim(self, owner: Owner) -> None:
        usable = 0 < len(owner.password.encode("utf-8")) <= PASSWORD_MAX_BYTES
        # First of all nobody else may become the admin of this instance.
        password = owner.password if usable else randomness.token_urlsafe(32)
        role = self._instance.api().claim(owner.email, owner.name, password)
        self.access.changed = True
        where = f"{self._instance.client}: admin password"
        again = f"remove the volume {self._instance.data}, which is new, and run again"
        if role != "admin":
            raise FleetError("somebody else has claimed the new instance just now", where, again)
        if not usable:
            raise FleetError(
                f"expected a password of 1 to {PASSWORD_MAX_BYTES} bytes; the instance was claimed"
                " with one that nobody knows, so that no stranger can claim it",
                where,
                f"store another password, {again}",
            )

    def _heal(self, admin: OpenWebUI, account: Account, user: User | None) -> bool:
        """Whether the account is there and has its role, now."""
        if user is not None and user.role == account.role:
            return True
        if self._owner is None:
            return False
        if user is None:
            password = self._instance.secret(f"{account.key}_password")
            admin.add_user(
                account.name,
                account.email,
                password or randomness.token_urlsafe(32),
                account.role,
            )
        else:
            admin.set_role(user.id, account.role)
        self.access.changed = True
        return True

    def _token_serves(self, account: Account, user: User | None) -> bool:
        if user is None or account.key in self._refused:
            return False
        token = self._instance.secret(f"{account.key}_token")
        key = self._instance.secret("webui_secret_key")
        return token_user(token, key, self._instance.now) == user.id

    def _mint(self, accounts: list[Account]) -> dict[str, str]:
        if not accounts:
            return {}
        stored = {found.email: found for found in stored_accounts(database(self._instance))}
        tokens = {}
        for account in accounts:
            found = stored.get(account.email)
            if found is None:
                raise FleetError(
                    f"the account {account.email} is not in the database",
                    f"{self._instance.client}: Open WebUI",
                    "see whether the volume is the one that the container uses",
                )
            self.access.made[account.key] = {"id": found.id, "stamp": found.stamp}
            tokens[account.key] = self._token(found)
        return tokens

    def _token(self, account: StoredAccount) -> str:
        key = self._instance.secret("webui_secret_key")
        if not key:
            raise FleetError(
                "there is no WEBUI_SECRET_KEY to make a token with",
                f"{self._instance.client}: option secrets",
                "restore the client's secrets",
            )
        return mint_token(key, account.id, account.stamp, self._instance.now, _TOKEN_LIFETIME)


def database(instance: Instance) -> Path:
    """Where the instance's SQLite database lies on this server.

    :raises FleetError: Docker does not answer, or has no such volume
    """
    try:
        response = _volume(instance)
        return Path(response.json()["Mountpoint"]) / "webui.db"
    except Unreachable as error:
        raise Unreachable(error.what, error.where, "see whether Docker runs") from None
    except ValueError as error:
        raise FleetError(f"expected Docker's API: {error}", instance.docker) from None
    except KeyError:
        raise FleetError(
            f"Docker knows no volume {instance.data} (status {response.status})",
            instance.docker,
            "create the client's container first",
        ) from None


def exists(instance: Instance) -> bool:
    """Whether the client has ever had an instance on this server. Without Docker it has not."""
    try:
        return _volume(instance).status == 200
    except Unreachable:
        return False


def _volume(instance: Instance) -> Response:
    return Loopback(instance.docker).request("GET", f"/volumes/{instance.data}")


def stored_accounts(path: Path) -> list[StoredAccount]:
    """Our accounts and all admins, oldest first.

    Open WebUI's database is in WAL mode, so this sees what is committed while the container runs,
    and neither waits for it nor holds it up. ``mode=ro`` never writes to the database.

    :raises FleetError: the file is not there or not readable
    """
    query = """
        SELECT u.id, u.email, u.role, a.session_stamp FROM "user" u JOIN auth a ON a.id = u.id
        WHERE u.role = 'admin' OR u.email IN (?, ?) ORDER BY u.created_at, u.id
    """
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as connection:
            rows = connection.execute(query, (SERVICE.email, PROBE.email)).fetchall()
    except sqlite3.Error as error:
        raise FleetError(
            f"cannot read Open WebUI's database: {error}",
            str(path),
            "run as root, and leave DATABASE_URL unset: the database lies in the client's volume",
        ) from None
    return [StoredAccount(*row) for row in rows]
