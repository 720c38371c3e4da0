import base64
import io
import subprocess
import sys

from PIL import Image

from beam_pipelines.picture_lookup import Picture
from serving.collection import Collection
from serving.nearest import Work
from serving.similar_page import Query, render_similar, small_query, tile
from tests.beam_pipelines.html_pages import ATTACK, Page, policy, text_of
from tests.hostile_server import jpeg
from tests.serving.builders import png

COLLECTION = Collection(directory="emb", backbone="resnet50", weights_sha256="", width=8, works=1234, shards=())
JPEG = jpeg(1, width=128, height=96)


def work(key: str, *, label: str = "hat", uri: str = "https://museum.example/1") -> Work:
    return Work(similarity=0.98765, key=key, labels=(label,), uri=uri)


def known(**attributes: str) -> Picture:
    return Picture(jpeg=JPEG, width=128, height=96, uri="", attributes=attributes)


def page_of(*works: Work, pictures: dict[str, Picture] | None = None, query: str = "q.jpg") -> str:
    queries = [Query(key=query, picture=small_query(png((1, 2, 3))))]
    return render_similar(queries, [works], pictures or {}, collection=COLLECTION, model="model/1")


def test_a_work_is_shown_with_what_is_known_of_it() -> None:
    wave = known(title="Wave", artist="Hokusai", date="1831", credit_line="Rogers Fund", department="Asian Art")
    page = page_of(work("1/0"), work("2/0", uri="scans/2.jpg"), pictures={"1/0": wave})
    text = text_of(page)
    assert "1 0.9877 Wave Hokusai 1831 Rogers Fund hat" in text
    assert "no picture 2 0.9877 2/0 hat" in text
    assert "The nearest of 1,234 works in emb" in text
    parsed = Page(page)
    assert parsed.values("href") == ["https://museum.example/1"]
    sources = [str(source) for source in parsed.values("src")]
    assert len(sources) == 2
    assert base64.b64decode(sources[1].removeprefix("data:image/jpeg;base64,")) == JPEG
    assert "There are no pictures" not in text


def test_without_pictures_the_page_says_how_to_have_them() -> None:
    assert "There are no pictures of the works to show: give --pictures" in text_of(page_of(work("1/0")))


def test_each_query_has_its_works() -> None:
    queries = [Query(key=key, picture=None) for key in ("https://a.example/q.jpg", "b.jpg")]
    page = render_similar(queries, [[work("1/0")], [work("2/0")]], {}, collection=COLLECTION, model="m")
    text = text_of(page)
    assert text.index("https://a.example/q.jpg") < text.index("1/0") < text.index("b.jpg") < text.index("2/0")
    assert "https://a.example/q.jpg" in Page(page).values("href")


def test_texts_from_outside_stay_texts() -> None:
    attacks = known(title=ATTACK, artist=ATTACK, date=ATTACK, credit_line=ATTACK, rights=ATTACK)
    hostile = [work(ATTACK, label=ATTACK, uri=f"https://x/{ATTACK}"), work("b", uri="javascript:alert(1)")]
    page = page_of(*hostile, pictures={ATTACK: attacks}, query=ATTACK)
    plain = page_of(work("a", uri="https://x/"), work("b", uri="x"), pictures={"a": known(title="t")}, query="q")
    assert Page(page).kinds() <= Page(plain).kinds()
    assert set(Page(page).tags) == set(Page(plain).tags)
    assert text_of(page).count(" ".join(ATTACK.split())) == 7
    assert all(str(link).startswith("https://x/") for link in Page(page).values("href"))


def test_the_page_loads_nothing_and_runs_nothing() -> None:
    page = page_of(work("1/0"))
    assert policy(page)["default-src"] == ["'none'"]
    assert policy(page)["script-src"] == ["'none'"]
    assert "style" not in Page(page).values("style")
    assert "<script" not in page


def test_the_same_works_make_the_same_page() -> None:
    assert page_of(work("1/0"), pictures={"1/0": known()}) == page_of(work("1/0"), pictures={"1/0": known()})


def test_a_key_stands_in_for_a_title() -> None:
    shown = tile(work("1/0"), 3, known())
    assert (shown.rank, shown.title, shown.is_key) == (3, "1/0", True)
    assert tile(work("k" * 999), 1, None).title == "k" * 299 + "…"


def test_a_query_is_small_and_upright() -> None:
    small = small_query(png((9, 9, 9), width=1000, height=400))
    assert small
    image = Image.open(io.BytesIO(base64.b64decode(small.data)))
    assert image.size == (small.width, small.height) == (256, 102)
    assert small_query(b"no picture") is None


def test_the_page_needs_neither_beam_nor_tensorflow() -> None:
    code = (
        "import sys, serving.similar, serving.classify\n"
        "assert not {'tensorflow', 'keras', 'apache_beam', 'trainer', 'matplotlib'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
