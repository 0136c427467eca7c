"""Catalogue entries as `fit` takes them: the shape by the hyperparameters, the weights by the size of the file."""

from __future__ import annotations

from rung.models.catalog.entries import Entry, catalog
from rung.models.catalog.quantisation import Choice, choices
from rung.models.fit.catalogued import Hyperparameters, model_from
from rung.models.fit.model import Model


def catalogued(entry: Entry, choice: Choice) -> Model:
    """A catalogued model in one of its quantisations."""
    known = entry.hyperparameters
    return model_from(
        Hyperparameters(
            architecture=entry.architecture,
            layers=known.layers,
            heads=known.heads,
            embedding=known.embedding,
            vocabulary=known.vocabulary,
            kv_heads=known.kv_heads,
            head_width=known.head_dim,
            feed_forward=known.feed_forward,
            tied=known.tied,
            experts=known.experts,
            experts_used=known.experts_used,
            expert_feed_forward=known.expert_feed_forward,
            window=known.window,
            context=entry.context,
        ),
        name=entry.name,
        file_type=choice.name,
        file_bytes=choice.bytes,
        parameters=entry.parameters,
    )


def all_catalogued() -> tuple[Model, ...]:
    """Every model of the catalogue in its usual quantisation."""
    return tuple(catalogued(entry, choices(entry)[0]) for entry in catalog().models)
