"""The document of the surface against the surface: nothing is served that it does not tell, nor answered that it does not say."""

from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from reconciler.gateway import openapi
from reconciler.gateway.app import ROUTES
from reconciler.gateway.auth import Authenticated
from reconciler.gateway.operations import OPERATIONS
from reconciler.wire.keys import public_key
from tests.e2e.stall import Stall, stall

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance, unsupported_method]
BUYER = public_key(bytes([7]) * 32)
# Of each parameter of a path, something that is there.
THERE = {"name": "fx-history", "content": "fx-2024", "path": "data/fx-2024.csv", "id": "fx-desk", "kind": "dataset"}
PROBING = settings(
    max_examples=5,
    deadline=None,
    derandomize=True,
    database=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stall]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECONCILER_PASSPHRASE", "correct horse battery staple")
        with stall(tmp_path_factory.mktemp("stall"), years=range(2024, 2025)) as opened:
            yield opened


def test_the_document_tells_every_route_and_no_other(shop: Stall) -> None:
    families = [route for family in ROUTES for route in family(shop.shop)]
    own = openapi.routes(families)
    served = openapi.served([*families, *own]) | {("GET", "/health"), ("GET", "/readyz"), ("POST", "/.well-known/auth")}
    assert served == {one.key for one in OPERATIONS}
    paths = shop.get("/openapi.json").json()["paths"]
    assert {(method.upper(), path) for path, methods in paths.items() for method in methods} == served


def introduced(app: Any) -> Any:
    """What stands behind mutual authentication, as a buyer who signed every request meets it."""

    door = app
    while not isinstance(door, Authenticated):
        door = door._app

    async def known(scope: Any, receive: Any, send: Any) -> None:
        await door._app({**scope, "state": {**scope.get("state", {}), "identity": BUYER}}, receive, send)

    return known


def probed(operation: Any) -> set[int]:
    """The statuses that requests of all sorts were answered with, each of them as documented."""
    seen, turns = set(), count()

    @PROBING
    @given(case=operation.as_strategy())
    def probe(case: Any) -> None:
        if next(turns) % 2:  # every other time about something that is there
            case.path_parameters = {name: THERE.get(name, value) for name, value in (case.path_parameters or {}).items()}
            case.query = {name: value for name, value in (case.query or {}).items() if name != "access"}
            case.body = {"contentId": THERE["content"]} if "contentId" in str(case.body) else case.body
        response = case.call()
        seen.add(response.status_code)
        case.validate_response(response, checks=CHECKS)

    probe()
    return seen


@pytest.mark.parametrize("who", ["stranger", "buyer"])
def test_no_request_meets_an_answer_that_the_document_does_not_tell(shop: Stall, who: str) -> None:
    app = shop.app if who == "stranger" else introduced(shop.app)
    operations = [found.ok() for found in schemathesis.openapi.from_asgi("/openapi.json", app).get_all_operations()]
    # The handshake is answered before anybody is known.
    seen = {one.label: probed(one) for one in operations if who == "stranger" or not one.path.endswith("/auth")}
    # It was no empty exercise: things were found and not found, quoted, and to be paid for.
    assert {200, 404} <= seen["GET /catalog/{name}"]
    assert 200 in seen["GET /content/{content}/sample"] and 201 in seen["POST /quotes"]
    for paid in ("POST /purchases", "GET /content/{content}", "GET /content/{content}/files/{path}"):
        assert (401 if who == "stranger" else 402) in seen[paid], paid
