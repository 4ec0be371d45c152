"""The API against its own description: to whatever fits it, or just does not, the answer is one that it describes."""

import pytest
import schemathesis
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)

from partalign.web.app import make_app
from partalign.web.limits import Limits

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    negative_data_rejection,
]
OPERATIONS = [
    ("GET", "/api/info"), ("GET", "/api/values/{field}"), ("POST", "/api/queries"), ("POST", "/api/search"),
    ("GET", "/api/records"), ("GET", "/api/records/{name}"), ("PATCH", "/api/records/{name}"),
    ("DELETE", "/api/records/{name}"), ("POST", "/api/forget"), ("GET", "/api/thumbnails/{name}"),
    ("POST", "/api/decisions"), ("POST", "/api/explanations"), ("GET", "/api/explanation.png"), ("GET", "/api/log"),
]  # fmt: skip


@pytest.fixture
def described(search):
    app = make_app(search, limits=Limits(rate=1e6, burst=10**6))  # fuzzing asks quickly
    return schemathesis.openapi.from_asgi("/openapi.json", app, headers={"Host": "localhost"})


def test_every_operation_is_known_here(described):
    found = {(operation.ok().method.upper(), operation.ok().path) for operation in described.get_all_operations()}
    assert found == set(OPERATIONS)


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_answers_to_what_fits_are_described(described, search, method, path):
    known = [record.id for record in search.gallery.records(limit=3)]

    @given(described[path][method].as_strategy(), st.booleans())
    def fuzz(case, aimed):
        if aimed:
            aim(case, known)
        case.call_and_validate(headers={"Host": "localhost"}, checks=CHECKS)

    bounded(fuzz)


@pytest.mark.parametrize(("method", "path"), OPERATIONS[1:])  # the first takes nothing
def test_answers_to_what_does_not_fit_are_described(described, method, path):
    @given(described[path][method].as_strategy(generation_mode=GenerationMode.NEGATIVE))
    def fuzz(case):
        case.call_and_validate(headers={"Host": "localhost"}, checks=CHECKS)

    bounded(fuzz)


def bounded(fuzz):
    seed(0)(settings(max_examples=10, database=None, suppress_health_check=list(HealthCheck))(fuzz))()


def aim(case, known):
    """Put ids of the gallery in place of made-up ones, which would all be unknown."""
    if "name" in (case.path_parameters or {}):
        case.path_parameters["name"] = known[0]
    for place in (case.body, case.query):
        if isinstance(place, dict) and {"record", "like", "query"} & set(place):
            place.update({"record": known[0]} if "record" in place else {}, like=known[1:])
            for other in ("query", "tracklet"):
                place.pop(other, None)
