"""Finds the works of a collection that look like a picture: `python -m serving.similar --help`.

Exact search in the vectors that `beam_pipelines.embed` has made, by a model with the same backbone. The nearest works
are printed, and shown on a page with their pictures. TensorFlow is imported when all that can be said without it has
been said.
"""

import dataclasses
import logging
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from beam_pipelines import files
from beam_pipelines.commands import run_command
from beam_pipelines.errors import OptionError, RunError
from beam_pipelines.option_parser import OptionParser
from beam_pipelines.pages import visible
from beam_pipelines.picture_lookup import picture_data_set, read_pictures
from beam_pipelines.rejects import Reason
from serving.collection import Collection, Vectors, read_collection
from serving.model import Model, find_model, load_model, read_model_info
from serving.nearest import Work, search
from serving.picture_options import PictureOptions, add_picture_arguments, check_positive, picture_options
from serving.pictures import Picture, Refusal, complain, picture_batches, reading
from serving.similar_page import Query, render_similar, small_query

# Named, because this module is `__main__` where it is the command.
_LOGGER = logging.getLogger("serving.similar")

_BATCH_SIZE = 32
_TITLE_CHARACTERS = 60
_HEADER = ("RANK", "SIMILARITY", "KEY", "LABEL", "TITLE")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SimilarOptions:
    """What is looked for, where, and what comes of it.

    Attributes:
        embeddings: the directory of a data set of embeddings; local or gs://.
        model: the directory of a model with the same backbone, or of one of its versions; local or gs://.
        queries: the pictures to which the nearest works are looked for.
        top: how many works for each.
        output: the page; local or gs://.
        pictures: the data set that has the works' pictures; empty to find it.
        verbose: log more, and show errors whole.
    """

    embeddings: str
    model: str
    queries: PictureOptions
    top: int = 12
    output: str = "similar.html"
    pictures: str = ""
    verbose: bool = False

    def __post_init__(self) -> None:
        check_positive("top", self.top)
        if not self.output:
            raise OptionError("--output is empty: name a file for the page")
        if os.path.isdir(self.output):
            raise OptionError(f"--output {self.output} is a directory: name a file in it")


def main(arguments: Sequence[str]) -> int:
    """Runs the command.

    Returns:
        its exit code: 0 every picture has its works, 1 not all of them, 2 wrong options.
    """
    verbose = "--verbose" in arguments
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "0" if verbose else "3")
    return run_command(lambda: _find_similar(parse_arguments(arguments)), verbose=verbose)


def parse_arguments(arguments: Sequence[str]) -> SimilarOptions:
    """Returns the options; raises OptionError for those that are unknown, missing or out of range."""
    values = make_parser().parse_options(arguments)
    own = {name: values[name] for name in ("embeddings", "model", "top", "output", "pictures", "verbose")}
    return SimilarOptions(queries=picture_options(values), **own)


def make_parser() -> OptionParser:
    """Returns the parser of `python -m serving.similar`."""
    defaults = SimilarOptions
    parser = OptionParser(
        prog="python -m serving.similar",
        description="Finds the works of a collection that look like a picture.",
        allow_abbrev=False,
    )
    parser.add_argument("--embeddings", required=True, metavar="DIR", help="that beam_pipelines.embed left")
    parser.add_argument(
        "--model", required=True, metavar="DIR", help="of a model with the same backbone, or of one of its versions"
    )
    parser.add_argument(
        "--top", type=int, default=defaults.top, metavar="N", help="works for each picture (default: %(default)s)"
    )
    parser.add_argument(
        "--output", default=defaults.output, metavar="FILE", help="the page; local or gs:// (default: %(default)s)"
    )
    parser.add_argument(
        "--pictures",
        default="",
        metavar="DIR",
        help="the data set of pictures that the embeddings were made from (default: where they say that it was)",
    )
    add_picture_arguments(parser)
    return parser


def check_same_backbone(path: str, model: Mapping[str, Any], collection: Collection) -> None:
    """Raises OptionError unless a model gives vectors that can be compared with those of a collection.

    Args:
        path: the model's directory.
        model: what its export says of it.
        collection: where works are looked for.
    """
    gives = model.get("embedding")
    if not gives:
        raise OptionError(
            f"model {path} does not say that it gives embeddings: give one of trainer.export with a backbone, or the "
            "head of a backbone's embeddings"
        )
    if (gives["weights_sha256"], gives["width"]) != (collection.weights_sha256, collection.width):
        raise OptionError(
            f"model {path} gives vectors of {_in_words(gives['backbone'], gives['weights_sha256'], gives['width'])}, "
            f"and --embeddings {collection.directory} has those of "
            f"{_in_words(collection.backbone, collection.weights_sha256, collection.width)}: "
            "give a model that was trained on these embeddings, or embed the pictures with the model's backbone"
        )


def embedded(model: Model, pictures: Iterable[Picture | Refusal]) -> tuple[list[Query], list[Vectors], list[Refusal]]:
    """Returns the pictures that have a vector, those vectors, and what has none."""
    queries, vectors, refused = [], [], []
    for batch in picture_batches(pictures, size=_BATCH_SIZE):
        shown = [picture for picture in batch if isinstance(picture, Picture)]
        refused += [picture for picture in batch if isinstance(picture, Refusal)]
        for picture, vector in zip(shown, model.embed([picture.data for picture in shown]), strict=True):
            if vector.any():
                queries.append(Query(key=picture.key, picture=small_query(picture.data)))
                vectors.append(vector)
            else:
                kind = picture.header.kind
                detail = f"{kind}: the model has no vector for it"
                refused.append(Refusal(key=picture.key, reason=Reason.CORRUPT_IMAGE, detail=detail))
    return queries, vectors, refused


def describe(query: str, works: Sequence[Work], titles: Mapping[str, str]) -> str:
    """Returns the nearest works to a picture as an aligned table, in lines for people.

    Args:
        query: the picture's address.
        works: the nearest first.
        titles: of works by their keys, as far as they are known.
    """
    rows = [_HEADER]
    for rank, work in enumerate(works, start=1):
        title = titles.get(work.key, "")[:_TITLE_CHARACTERS]
        rows.append((str(rank), f"{work.similarity:.4f}", work.key, ", ".join(work.labels), title))
    shown = [[visible(cell) for cell in row] for row in rows]
    if not any(row[-1] for row in shown[1:]):
        shown = [row[:-1] for row in shown]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    align = (str.rjust, str.rjust, *[str.ljust] * 3)
    lines = ["  ".join(to(cell, width) for to, cell, width in zip(align, row, widths, strict=False)) for row in shown]
    return "\n".join([f"nearest to {visible(query)}", *map(str.rstrip, lines)])


def _find_similar(options: SimilarOptions) -> int:
    collection = read_collection(options.embeddings)
    path = find_model(options.model)
    info = read_model_info(path)
    check_same_backbone(path, info, collection)
    pictures_in = picture_data_set(collection.directory, given=options.pictures)
    with reading(options.queries.within(info)) as pictures:
        model = load_model(path)
        queries, vectors, refused = embedded(model, pictures)
    for refusal in refused:
        complain(refusal)
    if not queries:
        raise RunError("none of the pictures can be used: nothing is looked for")
    _LOGGER.info("searching %s works of %s", f"{collection.works:,}", collection.directory)
    found = search(collection, np.stack(vectors), top=options.top)
    shown = read_pictures(pictures_in, {work.key for works in found for work in works})
    titles = {key: picture.attributes.get("title", "") for key, picture in shown.items()}
    print("\n\n".join(describe(query.key, works, titles) for query, works in zip(queries, found, strict=True)))  # noqa: T201
    page = render_similar(queries, found, shown, collection=collection, model=path)
    files.write_bytes(options.output, page.encode())
    print(f"see {options.output}")  # noqa: T201
    return 1 if refused else 0


def _in_words(backbone: str, weights_sha256: str, width: int) -> str:
    return f"{backbone} ({width} numbers, weights {weights_sha256[:12]}…)"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
