"""Both networks, each started once; without the tools for the other one, ours is held to the suite alone."""

from collections.abc import Iterator

import pytest

from tests.conformance.networks import Network, ours, theirs
from tests.interop.lab import Lab, lab

__all__ = ["lab"]


@pytest.fixture(scope="session")
def devnet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    """Ours."""
    with ours(tmp_path_factory.mktemp("devnet")) as network:
        yield network


@pytest.fixture(params=["devnet", "lab"])
def net(request: pytest.FixtureRequest) -> Network:
    """One of the two."""
    if request.param == "devnet":
        return request.getfixturevalue("devnet")
    found: Lab = request.getfixturevalue("lab")
    return theirs(found)
