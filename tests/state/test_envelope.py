"""Envelopes and outputs: the usage of the source documents, and what they promise."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from treadle.state.cell import ErrorInfo
from treadle.state.codec import decode, encode
from treadle.state.envelope import BaseNodeOutput, ContentType, Envelope, EnvelopeFactory, TextOutput


def test_node_output_protocol() -> None:
    """Test output protocol implementation"""
    output = TextOutput(
        value="test",
        node_id="node-1",
        metadata={"key": "value"}
    )
    assert output.has_error() is False
    assert output.get_output("key") == "value"


@dataclass
class CustomOutput(BaseNodeOutput[dict]):  # type: ignore[type-arg]
    """Custom output for specialized node"""

    def validate(self) -> bool:
        """Validate output structure"""
        return "required_field" in self.value

    def transform(self) -> Any:
        """Transform for downstream consumption"""
        return self.value.get("data", {})


def test_custom_node_output() -> None:
    envelope = CustomOutput({"required_field": 1, "data": {"a": 2}}, "n", {"k": "v"}).to_envelope()
    assert envelope.body == {"a": 2} and envelope.node_id == "n" and envelope.get_output("k") == "v"
    with pytest.raises(ValueError, match="CustomOutput of node 'n' is not valid"):
        CustomOutput({}, "n").to_envelope()
    with pytest.raises(ValueError, match="not valid"):
        TextOutput(3).to_envelope()  # type: ignore[arg-type]


def test_an_output_takes_any_value_unless_a_subclass_says_otherwise() -> None:
    output = BaseNodeOutput({"a": 1}, "n", {"a": 2, "b": 3})
    assert output.validate() and not output.has_error()
    assert (output.get_output("a"), output.get_output("b"), output.get_output("c", 4)) == (1, 3, 4)
    envelope = output.to_envelope()
    assert (envelope.body, envelope.content_type, envelope.port) == ({"a": 1}, "object", None)
    failed = BaseNodeOutput(None, "n", {"error": "boom"})
    assert failed.has_error() and failed.to_envelope().has_error()


def test_an_envelope_is_immutable_and_its_defaults_are_its_own() -> None:
    one, two = Envelope("1", "a", "object", 1), Envelope("2", "a", "object", 1)
    with pytest.raises(AttributeError):
        one.body = 2  # type: ignore[misc]
    assert one.meta is not two.meta and one.meta == {}


def test_get_output_looks_in_the_body_then_in_the_meta() -> None:
    envelope = Envelope("1", "a", "object", {"x": 1}, {"x": 2, "y": 3})
    assert envelope.get_output("x") == 1
    assert envelope.get_output("y") == 3
    assert envelope.get_output("z", "none") == "none"


@pytest.mark.parametrize("said", [
    datetime(2026, 1, 2, tzinfo=UTC), "2026-01-02T00:00:00+00:00",
    datetime(2026, 1, 2, tzinfo=UTC).timestamp()])
def test_the_timestamp_is_a_datetime_however_it_was_said(said: Any) -> None:
    assert Envelope("1", "a", "object", 1, {"timestamp": said}).timestamp == datetime(2026, 1, 2, tzinfo=UTC)


def test_an_envelope_without_a_timestamp_or_port() -> None:
    envelope = Envelope("1", "a", "object", 1)
    assert envelope.timestamp is None and envelope.port is None
    assert Envelope("1", "a", "object", 1, {"port": "true"}).port == "true"


@pytest.mark.parametrize(("body", "content_type"), [
    ("text", ContentType.RAW_TEXT), (b"x", ContentType.BINARY), (None, ContentType.EMPTY),
    ({"a": 1}, ContentType.OBJECT),
    (3, ContentType.OBJECT), (ErrorInfo("E", "m"), ContentType.ERROR)])
def test_create_infers_the_content_type(body: Any, content_type: str) -> None:
    envelope = EnvelopeFactory.create(body, produced_by="n")
    assert envelope.content_type == content_type
    assert envelope.produced_by == "n" and envelope.timestamp is not None


def test_the_factory_makes_each_kind_with_a_fresh_id() -> None:
    made = [EnvelopeFactory.text("a"), EnvelopeFactory.object([1]), EnvelopeFactory.binary(b"x"),
            EnvelopeFactory.empty(), EnvelopeFactory.error(ValueError("boom"), "n"),
            EnvelopeFactory.error("bad")]
    assert len({one.id for one in made}) == len(made)
    assert [one.has_error() for one in made] == [False, False, False, False, True, True]
    assert made[4].body == ErrorInfo("ValueError", "boom")
    with pytest.raises(ValueError, match="a int is no body of content type 'raw_text'"):
        EnvelopeFactory.text(3)  # type: ignore[arg-type]


def test_an_error_in_the_meta_is_an_error() -> None:
    assert Envelope("1", "a", "object", 1, {"error": "boom"}).has_error()


@given(st.recursive(st.none() | st.integers() | st.binary() | st.text("ab"),
                    lambda x: st.tuples(x) | st.lists(x)))
def test_to_dict_is_json_and_from_dict_its_inverse(body: Any) -> None:
    envelope = EnvelopeFactory.object(body, "n", extra=(1,))
    assert Envelope.from_dict(json.loads(json.dumps(envelope.to_dict()))) == envelope
    assert decode(encode(envelope)) == envelope


def test_to_dict_refuses_a_body_that_is_not_of_its_kind() -> None:
    with pytest.raises(ValueError, match="envelope e7 of 'n': a int is no body of content type 'raw_text'"):
        Envelope("e7", "n", "raw_text", 3).to_dict()


def test_from_dict_says_what_is_no_envelope() -> None:
    with pytest.raises(ValueError, match="not an envelope's data"):
        Envelope.from_dict({"id": "1"})


def test_custom_content_types_have_their_own_encoding() -> None:
    name = ContentType.register("shout", encode=lambda body: body.upper().encode("utf-16"),
                                decode=lambda raw: raw.decode("utf-16").lower(),
                                validate=lambda body: isinstance(body, str))
    envelope = EnvelopeFactory.create("hey", content_type=name)
    assert Envelope.from_dict(envelope.to_dict()).body == "hey"
    assert "base64" in envelope.to_dict()["body"]
    assert {name, ContentType.OBJECT, ContentType.BINARY} <= set(ContentType.names())
    with pytest.raises(ValueError, match="registered already"):
        ContentType.register("shout")
    with pytest.raises(ValueError, match="no body of content type 'shout'"):
        EnvelopeFactory.create(3, content_type="shout")


def test_an_unknown_content_type_names_the_known_ones() -> None:
    with pytest.raises(LookupError, match="no content type 'wisper': known are raw_text, object"):
        EnvelopeFactory.create(1, content_type="wisper")
