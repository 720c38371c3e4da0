"""Steps at which a row goes on or ends: each gives the outputs `artworks` and `dropped`."""

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import apache_beam as beam
from apache_beam.pvalue import TaggedOutput

import beam_pipelines.coders  # noqa: F401  (registers the coders of what is yielded)
from beam_pipelines.artwork import Artwork
from beam_pipelines.rejects import Dropped

ARTWORKS = "artworks"
DROPPED = "dropped"

DroppedRow: TypeAlias = TaggedOutput[Literal["dropped"], Dropped]


def flat_map_rows(function: Callable[..., Any], *arguments: Any, **keywords: Any) -> beam.PTransform:
    """Returns a FlatMap whose function yields Artworks, and Dropped as `TaggedOutput(DROPPED, …)`."""
    mapped = beam.FlatMap(function, *arguments, **keywords).with_output_types(Artwork, dropped=Dropped)
    return mapped.with_outputs(DROPPED, main=ARTWORKS)


def drop(dropped: Dropped) -> DroppedRow:
    """Returns a row that ends here as an element of the output `dropped`."""
    return TaggedOutput(DROPPED, dropped)
