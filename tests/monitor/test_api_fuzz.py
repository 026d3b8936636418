"""Requests of every shape, made from the description by schemathesis: what comes back must be described, and
no request may find a fault of ours. `make soak` makes many more."""

from __future__ import annotations

from typing import Any

import httpx
import hypothesis
import pytest
import schemathesis
from hypothesis import HealthCheck
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from treadle.monitor import openapi

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
EXAMPLES, SOAKED = 6, 400
schema = schemathesis.openapi.from_dict(openapi.document())
COMMON = hypothesis.settings(
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=True,
    database=None,
    phases=[hypothesis.Phase.generate],
)


def ask(case: Any, site: Any, client: httpx.Client, worked: str) -> None:
    # Every other request is about an execution that is there.
    if "id" in (case.path_parameters or {}) and len(case.path_parameters["id"]) % 2:
        case.path_parameters["id"] = worked
    case.call_and_validate(base_url=site.served.url, headers=dict(client.headers), checks=CHECKS)


@schema.exclude(path="/api/executions/{id}", method="DELETE").parametrize()
@hypothesis.settings(COMMON, max_examples=EXAMPLES)
def test_every_request_gets_a_described_answer(
    case: Any, site: Any, client: httpx.Client, worked: str
) -> None:
    ask(case, site, client, worked)


@pytest.mark.soak
@schema.parametrize()
@hypothesis.settings(COMMON, max_examples=SOAKED, derandomize=False)
def test_many_requests_get_described_answers(case: Any, site: Any, client: httpx.Client, worked: str) -> None:
    ask(case, site, client, worked)
