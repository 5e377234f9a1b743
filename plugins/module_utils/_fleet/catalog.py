# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the mai.fleet collection
"""OpenRouter's catalog: what a model id stands for, what it costs, and what to use instead."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from ansible_collections.mai.fleet.plugins.module_utils._fleet.names import nearest

#: How much less alike a name may be than the one that is most alike.
_ALIKE = 0.1


@dataclass(frozen=True)
class Model:
    """``prompt`` and ``completion`` are USD per token, None where the price is not fixed."""

    id: str
    canonical: str
    name: str
    created: int
    prompt: Decimal | None
    completion: Decimal | None
    text: bool
    alias: bool
    leaving: bool

    @classmethod
    def read(cls, row: Mapping[str, Any]) -> Model:
        price = row.get("pricing") or {}
        outputs = (row.get("architecture") or {}).get("output_modalities") or ["text"]
        return cls(
            id=row["id"],
            canonical=slug(row["id"], row["canonical_slug"]),
            name=row["name"],
            created=int(row.get("created") or 0),
            prompt=_price(price.get("prompt")),
            completion=_price(price.get("completion")),
            text=outputs == ["text"],
            alias=bool(row.get("alias_target")) or row["id"].startswith("~"),
            leaving=bool(row.get("expiration_date")),
        )

    def cost(self, prompt_tokens: int, completion_tokens: int) -> Decimal | None:
        """USD for one call, None for routers, which have no price of their own."""
        if self.prompt is None or self.completion is None:
            return None
        return self.prompt * prompt_tokens + self.completion * completion_tokens


def slug(model_id: str, canonical: str) -> str:
    """The identity that guardrails store: the canonical slug with the id's variant.

    A base model and its variants share one canonical slug and are separate entries all the same.
    """
    variant = model_id.partition(":")[2]
    return f"{canonical}:{variant}" if variant and ":" not in canonical else canonical


class Catalog:
    def __init__(self, rows: Iterable[Mapping[str, Any]]) -> None:
        self._models = {row["id"]: Model.read(row) for row in rows}

    def __contains__(self, model_id: str) -> bool:
        return model_id in self._models

    def __getitem__(self, model_id: str) -> Model:
        return self._models[model_id]

    def slugs(self) -> set[str]:
        """What a guardrail may be found to hold."""
        return {model.canonical for model in self._models.values()}

    def id_of(self, slug: str) -> str | None:
        """The model that a guardrail calls ``slug``; its own id rather than an alias of it."""
        found = [model for model in self._models.values() if model.canonical == slug]
        found.sort(key=lambda model: (model.alias, model.id))
        return found[0].id if found else None

    def nearest(self, model_id: str) -> list[str]:
        """Ids that somebody who typed ``model_id`` may have meant: same author first."""
        author = model_id.partition("/")[0]
        same = [known for known in self._models if known.startswith(f"{author}/")]
        return nearest(model_id, same) or nearest(model_id, self._models)

    def successor(self, model_id: str) -> str | None:
        """The newest of the same author's models whose names are most alike.

        One that is about to leave itself only where the author has no other.
        """
        author = model_id.partition("/")[0]
        base = [
            model
            for model in self._models.values()
            if model.id.startswith(f"{author}/") and ":" not in model.id and model.text
        ]
        staying = [model for model in base if not model.leaving] or base
        alike = {
            model.id: difflib.SequenceMatcher(None, model_id, model.id).ratio() for model in staying
        }
        # The most alike name alone would often be the version before.
        near = [model for model in staying if alike[model.id] >= max(alike.values()) - _ALIKE]
        return max(near, key=lambda model: (model.created, alike[model.id])).id if near else None

    def cheapest(
        self, among: Iterable[str] | None = None, without: Iterable[str] = ()
    ) -> Model | None:
        """The cheapest plain text model with a price; a variant only where nothing else is.

        :param among: ids to choose from; None for the whole catalog, where free models do not
            count because a refusal of one may have other reasons than a guardrail
        :param without: canonical slugs that may not be chosen
        """
        barred = {slug.partition(":")[0] for slug in without}
        if among is None:
            models = [
                model
                for model in self._models.values()
                if ":" not in model.id
                and not model.alias
                and not model.leaving
                and model.canonical not in barred
                and (model.cost(1, 1) or 0) > 0
            ]
        else:
            models = [self._models[model_id] for model_id in among if model_id in self._models]
        priced = [
            (":" in model.id, cost, model.id)
            for model in models
            if model.text and (cost := model.cost(20, 16)) is not None
        ]
        return self._models[min(priced)[2]] if priced else None


@dataclass(frozen=True)
class Allowlist:
    """What is in effect of what was sold.

    :ivar models: ids in the order in which they were sold; never empty, unless something is unknown
    :ivar slugs: what a guardrail can be told of them: canonical slugs with variants, in the same
        order. Empty when the last model has left the catalog
    :ivar warnings: models that left the catalog, with a successor
    :ivar unknown: ids that the client never had and that the catalog lacks, with near ones
    """

    models: list[str]
    slugs: list[str]
    warnings: list[str]
    unknown: dict[str, list[str]]


def in_effect(sold: list[str], had: Mapping[str, str], catalog: Catalog) -> Allowlist:
    """Drop what has left the catalog, never the last model; refuse what never was there.

    :param had: canonical slugs by id of all models that the client ever had
    """
    unknown = {
        model: catalog.nearest(model) for model in sold if model not in catalog and model not in had
    }
    gone = [model for model in sold if model not in catalog and model in had]
    models = [model for model in sold if model in catalog]
    warnings = []
    for model in gone:
        successor = catalog.successor(model)
        hint = f"; {successor} may take its place" if successor else ""
        if not models and model == gone[0]:
            warnings.append(f"{model}, the last model, has left OpenRouter{hint}")
        else:
            warnings.append(f"{model} has left OpenRouter and is dropped{hint}")
    if not models and gone and not unknown:
        models = gone[:1]
    slugs = [catalog[model].canonical for model in models if model in catalog]
    return Allowlist(models, slugs, warnings, unknown)


def _price(text: Any) -> Decimal | None:
    try:
        price = Decimal(str(text))
    except InvalidOperation:
        return None
    return price if price.is_finite() and price >= 0 else None
