"""The checks of Schemathesis that each answer must pass: no server error, and as the OpenAPI document says."""

from __future__ import annotations

from schemathesis.checks import CHECKS, load_all_checks

load_all_checks()
CONFORMANCE = CHECKS.get_by_names(
    [
        "not_a_server_error",
        "status_code_conformance",
        "content_type_conformance",
        "response_headers_conformance",
        "response_schema_conformance",
    ]
)
