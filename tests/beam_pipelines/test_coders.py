import random
from typing import Any

import apache_beam as beam
from hypothesis import given
from hypothesis import strategies as st

from beam_pipelines.artwork import CARRIED_ATTRIBUTES, Artwork
from beam_pipelines.choice import key_rank
from beam_pipelines.coders import ArtworkCoder, DroppedCoder
from beam_pipelines.dataset import Shard
from beam_pipelines.rejects import Dropped, Reason
from tests.beam_pipelines.builders import artwork, hostile_artworks, hostile_text

# Texts of the lengths that the Met's catalogue has; a title of 90 characters and a credit line of 80 are long ones.
_TITLES = (
    "Vase",
    "Bodhisattva of Compassion Seated in Royal Ease",
    "Fragment",
    "One Hundred Poems Explained by the Nurse (Hyakunin isshu uba ga etoki): Poem by Sangi Takamura",
    "Portrait of a Woman, Called the Marquise de Pompadour",
)
_ARTISTS = ("", "Katsushika Hokusai", "Attributed to the Painter of the Woolly Satyrs", "Sèvres Manufactory")
_DATES = ("ca. 1830–32", "late 6th–early 5th century B.C.", "1525", "19th century")
_CREDITS = (
    "Rogers Fund, 1914",
    "H. O. Havemeyer Collection, Bequest of Mrs. H. O. Havemeyer, 1929",
    "Gift of Mr. and Mrs. Charles Wrightsman, 1978",
    "Purchase, Joseph Pulitzer Bequest, 1955",
)
_DEPARTMENTS = ("Asian Art", "European Sculpture and Decorative Arts", "Egyptian Art", "Greek and Roman Art")
_LABELS = ("Japan", "French, Sèvres", "Greek, Attic", "American or European")


def met_rows(count: int) -> list[Artwork]:
    """Returns rows as they come from the Met's catalogue and an image list of its own address form."""
    drawn = random.Random(3)
    rows = []
    for number in range(count):
        object_id = str(drawn.randrange(10_000, 900_000))
        rows.append(
            Artwork(
                key=f"{object_id}/{number % 4}",
                group=object_id,
                image_uri=f"https://images.metmuseum.org/CRDImages/as/web-large/DP{drawn.randrange(10**6):06d}.jpg",
                labels=(drawn.choice(_LABELS),),
                attributes={
                    "title": drawn.choice(_TITLES),
                    "artist": drawn.choice(_ARTISTS),
                    "date": drawn.choice(_DATES),
                    "credit_line": drawn.choice(_CREDITS),
                    "department": drawn.choice(_DEPARTMENTS),
                },
            )
        )
    return rows


@given(hostile_artworks())
def test_any_artwork_comes_back_as_it_was(row: Artwork) -> None:
    assert ArtworkCoder().decode(ArtworkCoder().encode(row)) == row


@given(hostile_artworks())
def test_an_encoded_artwork_is_one_line(row: Artwork) -> None:
    assert not set(b"\n\r") & set(ArtworkCoder().encode(row))


@given(st.builds(Dropped, key=hostile_text, uri=hostile_text, reason=st.sampled_from(Reason), detail=hostile_text))
def test_any_dropped_row_comes_back_as_it_was(row: Dropped) -> None:
    decoded = DroppedCoder().decode(DroppedCoder().encode(row))
    assert decoded == row
    assert decoded.reason.kind is row.reason.kind


@given(st.permutations(CARRIED_ATTRIBUTES))
def test_equal_rows_have_equal_bytes_whatever_the_order_of_their_attributes(names: list[str]) -> None:
    texts = dict.fromkeys(sorted(CARRIED_ATTRIBUTES), "x")
    row = artwork(attributes={name: texts[name] for name in names})
    assert ArtworkCoder().encode(row) == ArtworkCoder().encode(artwork(attributes=texts))


def test_beam_takes_these_coders_and_believes_in_them() -> None:
    for record, coder in ((Artwork, ArtworkCoder), (Dropped, DroppedCoder)):
        found: Any = beam.coders.registry.get_coder(record)
        assert isinstance(found, coder)
        assert found.is_deterministic()


def test_a_row_of_the_met_is_small() -> None:
    assert max(len(ArtworkCoder().encode(row)) for row in met_rows(1000)) < 450
    assert sum(len(ArtworkCoder().encode(row)) for row in met_rows(1000)) / 1000 < 350


def test_a_thousand_pictures_shuffle_less_than_a_megabyte() -> None:
    """A row is grouped by address and by shard, and the hash of its bytes by content."""
    shard = Shard("train", 31, 400).name
    by_address = beam.coders.TupleCoder([beam.coders.VarIntCoder(), ArtworkCoder()])
    by_shard = beam.coders.TupleCoder([beam.coders.StrUtf8Coder(), ArtworkCoder()])
    by_content = beam.coders.registry.get_coder(tuple[bytes, tuple[str, int, str]])
    crossing = sum(
        len(by_address.encode((key_rank(row.image_uri), row)))
        + len(by_shard.encode((shard, row)))
        + len(by_content.encode((bytes(32), ("train", key_rank(row.key), shard))))
        for row in met_rows(1000)
    )
    assert crossing < 1_000_000


def test_an_artwork_keeps_attributes_that_few_sources_have() -> None:
    row = artwork(attributes={"title": "The Harvesters", "culture": "Netherlandish", "accession_year": "1919"})
    assert ArtworkCoder().decode(ArtworkCoder().encode(row)) == row
