"""Wire form of the engine's errors, against a table typed by hand from the design."""

from __future__ import annotations

import pytest
from google.rpc import status_pb2

from engine import errors
from engine.errors import Category, EngineError, Fault, ManifestInvalid, NodeFailed
from protos import common_pb2 as pb
from transport.codec.details import MAX_DETAILS_BYTES, unpack
from transport.codec.errors import (
    RETRY_AFTER_MS,
    TABLE,
    category_of,
    end_status,
    error_response,
    explained,
    in_unary_status,
)
from transport.grpc.metadata import decode_message, encode_message
from transport.grpc.status import Status, StatusCode

# error class, its type in band, the status that ends the session, True if a unary call reports it by its status
DESIGN = [
    ("ManifestInvalid", "VALIDATION", "INVALID_ARGUMENT", False),
    ("ProtocolMisuse", "VALIDATION", "INVALID_ARGUMENT", False),
    ("ChunkRefused", "VALIDATION", None, False),
    ("UnknownSource", "VALIDATION", None, False),
    ("DuplicateChunk", "VALIDATION", None, False),
    ("LateChunk", "VALIDATION", None, False),
    ("SequenceJump", "VALIDATION", None, False),
    ("SourceTooFarAhead", "VALIDATION", None, False),
    ("SessionClosed", "VALIDATION", None, False),
    ("NodeRefused", "NODE_EXECUTION", None, False),
    ("NodeFailed", "NODE_EXECUTION", "INTERNAL", False),
    ("SamplesLimitExceeded", "RESOURCE_LIMIT", None, False),
    ("MemoryLimitExceeded", "RESOURCE_LIMIT", None, False),
    ("TimeLimitExceeded", "RESOURCE_LIMIT", "DEADLINE_EXCEEDED", False),
    ("VersionNotSupported", "VERSION_MISMATCH", "FAILED_PRECONDITION", False),
    ("AtCapacity", "RESOURCE_LIMIT", "RESOURCE_EXHAUSTED", True),
    ("InternalFault", "INTERNAL", "INTERNAL", False),
]

# categories whose errors the transport raises, not the engine
OTHERS = [
    (Category.AUTHENTICATION, "AUTHENTICATION", "UNAUTHENTICATED"),
    (Category.UNAVAILABLE, "INTERNAL", "UNAVAILABLE"),
]


def make(name: str) -> EngineError:
    kind = getattr(errors, name)
    return kind([Fault("nodes", "none")]) if kind is ManifestInvalid else kind("so it is")


def words(status: Status) -> pb.ErrorResponse:
    found = unpack(status.details, status.code)
    assert found is not None
    return found


def test_no_class_is_missing_here() -> None:
    classes = {name for name in errors.__all__ if isinstance(getattr(errors, name), type)}
    concrete = {name for name in classes if issubclass(getattr(errors, name), EngineError)} - {"EngineError"}
    assert concrete == {row[0] for row in DESIGN}


def test_no_category_is_missing() -> None:
    assert set(TABLE) == set(Category)
    assert {make(row[0]).category for row in DESIGN} | {row[0] for row in OTHERS} == set(Category)


@pytest.mark.parametrize(("name", "error_type", "code", "as_status"), DESIGN)
def test_the_table(name: str, error_type: str, code: str | None, as_status: bool) -> None:
    error = make(name)
    assert error_response(error).error_type == pb.ErrorType.Value(f"ERROR_TYPE_{error_type}")
    if code is not None:
        assert end_status(error).code.name == code
    assert in_unary_status(error) is as_status


@pytest.mark.parametrize(("category", "error_type", "code"), OTHERS)
def test_what_the_transport_raises(category: Category, error_type: str, code: str) -> None:
    meaning = TABLE[category]
    assert meaning.error_type == pb.ErrorType.Value(f"ERROR_TYPE_{error_type}")
    assert meaning.code.name == code
    assert meaning.as_status


def test_only_what_may_pass_is_retryable() -> None:
    retryable = {category for category, meaning in TABLE.items() if meaning.retryable}
    assert retryable == {Category.AT_CAPACITY, Category.UNAVAILABLE}
    assert error_response(make("AtCapacity")).retry_after_ms == RETRY_AFTER_MS > 0
    assert error_response(make("NodeFailed")).retry_after_ms == 0


def test_an_error_in_full() -> None:
    error = NodeFailed("it broke", node_id="n", sequence=3, context={"params": {"a": 1}}, stack_trace="Traceback")
    told = error_response(error)
    assert (told.message, told.failing_node_id, told.context) == ("it broke", "n", '{"params": {"a": 1}}')
    assert told.stack_trace == ""
    assert error_response(error, debug=True).stack_trace == "Traceback"


def test_context_that_json_cannot_hold_is_shown_all_the_same() -> None:
    told = error_response(NodeFailed("it broke", context={"params": {"what": {1, 2}}}))
    assert told.context == '{"params": {"what": "{1, 2}"}}'


def test_the_status_has_one_line_and_the_details_have_all() -> None:
    error = ManifestInvalid([Fault("version", "must be 'v1'"), Fault("nodes", "must hold at least one node")])
    status = end_status(error)
    assert status.code is StatusCode.INVALID_ARGUMENT
    assert status.message == "the manifest has 2 faults:"
    details = words(status)
    assert details == error_response(error)
    assert "nodes: must hold at least one node" in details.message


def test_a_client_knows_every_type_and_takes_others_for_internal() -> None:
    for name, number in pb.ErrorType.items():
        expected = "INTERNAL" if name == "ERROR_TYPE_UNSPECIFIED" else name.removeprefix("ERROR_TYPE_")
        assert category_of(number) is Category[expected]
    assert category_of(4711) is Category.INTERNAL


def test_who_may_try_again_is_told_when() -> None:
    assert end_status(make("AtCapacity")).metadata == (("grpc-retry-pushback-ms", str(RETRY_AFTER_MS)),)
    assert end_status(make("NodeFailed")).metadata == ()


@pytest.mark.parametrize(
    "facts", [{"message": "é" * 5_000}, {"stack_trace": "x" * 5_000}, {"context": {"a": "x" * 5_000}}]
)
def test_details_fit_in_every_clients_trailers(facts: dict[str, object]) -> None:
    error = NodeFailed(**{"message": "it broke", **facts})  # type: ignore[arg-type]
    status = end_status(error, debug=True)
    assert len(status.details) <= MAX_DETAILS_BYTES
    told = words(status)
    assert told.error_type == pb.ERROR_TYPE_NODE_EXECUTION
    assert told.message.startswith(error.message[:1_000])


@pytest.mark.parametrize("message", ["plain", " 100 % ünïcode 日本 ", "x" * 5_000, "one\ntwo"])
def test_details_agree_with_the_status_that_a_client_reads(message: str) -> None:
    for status in (end_status(NodeFailed(message)), explained(Status(StatusCode.INTERNAL, message))):
        rich = status_pb2.Status.FromString(status.details)
        assert (rich.code, rich.message) == (status.code, decode_message(encode_message(status.message)))
        assert [each.type_url for each in rich.details] == ["type.googleapis.com/remotemedia.v1.ErrorResponse"]


@pytest.mark.parametrize("code", [code for code in StatusCode if code is not StatusCode.OK])
def test_every_failure_has_an_explanation(code: StatusCode) -> None:
    status = explained(Status(code, "why"))
    told = words(status)
    assert told.error_type != pb.ERROR_TYPE_UNSPECIFIED
    assert (told.message, status.code, status.message) == ("why", code, "why")
    assert told.retryable is (code is StatusCode.UNAVAILABLE) is bool(status.metadata)


def test_what_is_well_or_has_an_explanation_stays_as_it_is() -> None:
    for status in (Status(), Status(StatusCode.INTERNAL, "why", b"details")):
        assert explained(status) is status
