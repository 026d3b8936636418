"""From plain data to persons, with every fault at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from treadle.diagram.formats.values import Mismatch, convert_struct
from treadle.diagram.person import Person, Settings
from treadle.errors import Fault, InvalidDiagram, Where


def convert_person(data: Mapping[str, Any]) -> tuple[Person | None, list[Mismatch]]:
    """Plain data as a person; None and all that is wrong if anything is."""
    person, wrong = convert_struct(data, Person)
    settings = data.get("settings")
    if wrong and isinstance(settings, Mapping):  # of these msgspec names only the first, and no near miss
        inner = convert_struct(settings, Settings)[1]
        wrong = [one for one in wrong if not one.path.startswith("settings")]
        wrong += [msgspec.structs.replace(one, path=f"settings.{one.path}" if one.path else "settings")
                  for one in inner]
    return person, wrong


def words(wrong: Mismatch) -> str:
    """What is wrong, after the key that it is wrong with."""
    named = not wrong.path or wrong.message.startswith("unknown property")
    return wrong.message if named else f"{wrong.path}: {wrong.message}"


def as_persons(said: Mapping[str, Person | Mapping[str, Any]] | None, where: Where) -> dict[str, Person]:
    """The persons that a program says, as structs. InvalidDiagram names what is wrong with each."""
    found: dict[str, Person] = {}
    faults = []
    for name, one in (said or {}).items():
        person, wrong = (one, []) if isinstance(one, Person) else convert_person(one)
        faults += [Fault(f"person {name!r}: {words(each)}", where=where, hint=each.hint) for each in wrong]
        found[name] = person or Person()
    if faults:
        raise InvalidDiagram(faults)
    return found


def said(value: Any) -> Any:
    """A property that a program gives, with persons in it as a file says them."""
    if isinstance(value, Person):
        return msgspec.to_builtins(value)
    return {key: said(one) for key, one in value.items()} if type(value) is dict else value
