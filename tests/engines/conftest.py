"""What the tests of an engine share: one cluster for a session, for it takes a while to come up."""

from collections.abc import Iterator

import pytest

from tests.engines.flink_cluster import RealCluster


@pytest.fixture(scope="session")
def flink_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCluster]:
    cluster = RealCluster(tmp_path_factory.mktemp("flink"))
    try:
        yield cluster
    finally:
        cluster.down()


@pytest.fixture
def flink(flink_session: RealCluster) -> RealCluster:
    """The cluster with all its TaskManagers, whatever the test before has done to them."""
    flink_session.up()
    assert not flink_session.jobs_at_work()
    return flink_session
