import pytest

from beam_pipelines.report.texts import address


@pytest.mark.parametrize(
    ("uri", "is_link"),
    [
        ("http://museum.example/a picture.jpg", True),
        ("HTTPS://museum.example/é.jpg", True),
        ("javascript:alert(1)", False),
        ("JaVaScRiPt://museum.example/%0aalert(1)", False),
        ("data:text/html,<script>alert(1)</script>", False),
        ("gs://bucket/object.jpg", False),
        ("/a/path.jpg", False),
        ("http:///nowhere", False),
        ("http://museum.example/\u202egpj.exe", False),
        ("http://museum.example/" + "x" * 3000, False),
        (" http://museum.example/", False),
        ("", False),
    ],
)
def test_only_addresses_of_the_web_become_links(uri: str, is_link: bool) -> None:
    assert address(uri).link == (uri if is_link else "")
    assert len(address(uri).text) <= 300
