import re

from beam_pipelines.rejects import Dropped, Kind, Reason
from beam_pipelines.report.reasons import EXPLANATIONS, reason_rows
from tests.beam_pipelines.html_pages import text_of
from tests.beam_pipelines.report.data_sets import info, render


def test_every_reason_is_explained() -> None:
    assert set(EXPLANATIONS) == set(Reason)
    assert len(set(EXPLANATIONS.values())) == len(Reason)
    for explanation in EXPLANATIONS.values():
        assert explanation.endswith(".")
        assert explanation.count("`") % 2 == 0


def test_explanations_name_only_options_that_there_are() -> None:
    from beam_pipelines.options import make_parser

    named = set(re.findall(r"--\w+", " ".join(EXPLANATIONS.values())))
    assert named
    assert named <= set(make_parser()._option_string_actions)


def test_only_reasons_that_may_pass_say_so() -> None:
    assert text_of(render(info(rejected={"not_found": 5}))).count("--retry_rejected") == 0
    assert text_of(render(info(rejected={"timed_out": 5}))).count("--retry_rejected") == 1


def test_reasons_come_commonest_first_with_their_examples() -> None:
    row = Dropped(key="17/0", uri="http://museum.example/17.jpg", reason=Reason.NOT_FOUND, detail="status 404")
    rows = reason_rows({"empty": 1, "not_found": 3}, Kind.REJECTED, {"not_found": [row]})
    assert [(row.reason, row.count, row.part.width, len(row.examples)) for row in rows] == [
        (Reason.NOT_FOUND, 3, 75, 1),
        (Reason.EMPTY, 1, 25, 0),
    ]
    text = text_of(render(examples={"not_found": [row]}))
    assert "17/0 http://museum.example/17.jpg status 404" in text
