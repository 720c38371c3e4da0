"""What is said of a plan."""

from beam_pipelines.fetch.fetcher import FetchLimits
from beam_pipelines.plan import describe_plan, host_of


def test_a_plan_is_described_with_its_hosts_and_the_time_at_their_limits() -> None:
    summary = {
        "labels": ["Japan", "China"],
        "read": 12_000,
        "splits": {"train": {"pictures": 9000, "shards": 18}, "validation": {"pictures": 2000, "shards": 4}},
        "filtered": {"label_not_selected": 600},
        "rejected": {"no_label": 400},
        "hosts": {"a.example": 1000, "images.metmuseum.org": 10_000},
    }
    assert describe_plan(summary, FetchLimits()).splitlines() == [
        "12,000 rows read, 11,000 pictures planned",
        "  train: 9,000 pictures in 18 shards",
        "  validation: 2,000 pictures in 4 shards",
        "  2 classes",
        "  filtered: label_not_selected 600",
        "  rejected: no_label 400",
        "  images.metmuseum.org: 10,000 pictures, at most 16/s",
        "  a.example: 1,000 pictures, no rate limit",
        "the rate limits alone make it take 10:25",
    ]


def test_hosts_are_named_as_rate_limits_name_them() -> None:
    assert host_of("https://Images.Metmuseum.org:8080/a b.jpg") == "images.metmuseum.org"
    assert host_of("gs://bucket/a.jpg") == "gs://bucket"
    assert host_of("pictures/a.jpg") == host_of("http://[bad") == "files"
