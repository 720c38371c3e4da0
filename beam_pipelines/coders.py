"""Deterministic, compact coders for the records that cross a shuffle; importing this module registers them."""

import json

from apache_beam import coders

from beam_pipelines.artwork import CARRIED_ATTRIBUTES, Artwork
from beam_pipelines.rejects import Dropped, Reason

# Made once: `json.dumps` with options makes an encoder for every value.
_ENCODE = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_DECODE = json.JSONDecoder().decode


class ArtworkCoder(coders.Coder):
    """Writes an Artwork as a JSON array, leaving out what repeats its key."""

    def encode(self, value: Artwork) -> bytes:
        """Returns the record's bytes, equal for equal records."""
        attributes = [value.attributes.get(name, "") for name in CARRIED_ATTRIBUTES]
        others = {name: text for name, text in sorted(value.attributes.items()) if name not in CARRIED_ATTRIBUTES}
        return _encode(
            [
                value.key,
                _unless(value.group, value.key),
                _unless(value.image_uri, value.key),
                value.labels,
                value.split,
                *attributes,
                *([others] if others else []),
            ]
        )

    def decode(self, encoded: bytes) -> Artwork:
        """Returns the record that `encode` was given."""
        key, group, uri, labels, split, *attributes = _DECODE(encoded.decode("utf-8", "surrogatepass"))
        others = attributes.pop() if len(attributes) > len(CARRIED_ATTRIBUTES) else {}
        carried = {name: text for name, text in zip(CARRIED_ATTRIBUTES, attributes, strict=True) if text}
        return Artwork(
            key=key,
            group=key if group is None else group,
            image_uri=key if uri is None else uri,
            labels=tuple(labels),
            attributes={**carried, **others},
            split=split,
        )

    def is_deterministic(self) -> bool:
        """Equal records have equal bytes."""
        return True


class DroppedCoder(coders.Coder):
    """Writes a Dropped as a JSON array."""

    def encode(self, value: Dropped) -> bytes:
        """Returns the record's bytes, equal for equal records."""
        return _encode([value.key, _unless(value.uri, value.key), value.reason, value.detail])

    def decode(self, encoded: bytes) -> Dropped:
        """Returns the record that `encode` was given."""
        key, uri, reason, detail = _DECODE(encoded.decode("utf-8", "surrogatepass"))
        return Dropped(key=key, uri=key if uri is None else uri, reason=Reason(reason), detail=detail)

    def is_deterministic(self) -> bool:
        """Equal records have equal bytes."""
        return True


def _unless(value: str, key: str) -> str | None:
    return None if value == key else value


def _encode(values: list[object]) -> bytes:
    return _ENCODE(values).encode("utf-8", "surrogatepass")


coders.registry.register_coder(Artwork, ArtworkCoder)
coders.registry.register_coder(Dropped, DroppedCoder)
