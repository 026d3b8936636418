"""What a person remembers, made of what the execution has recorded: nothing else, so a resumed execution
remembers the same.

A *turn* is one completed asking of a person. Its records hold what was said and answered, call by call.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

import msgspec

from treadle.diagram.person import Memory
from treadle.nodes.people.messages import Answered, Message, Returned, Said, messages_of, tokens_in
from treadle.nodes.people.script import who_of
from treadle.nodes.people.tools.results import told as told_of
from treadle.state.steps import StepRecord, Told

MODEL, SUMMARY = "model", "summary"
_ITEM = re.compile(r"\[\d+\]")
INTRODUCTION = "What was said before, in short:\n"


class Turn(msgspec.Struct, frozen=True):
    """What one completed asking of a person said. `key` is its node and iteration, `who` tells persons of one
    name apart. `summary` is one that was made then, of the turns up to the one with the key `covers`."""

    key: str
    person: str
    who: str
    messages: tuple[Message, ...]
    summary: str | None = None
    covers: str = ""

    @property
    def answer(self) -> str:
        """The last words of the person."""
        return next((one.content for one in reversed(self.messages) if isinstance(one, Answered)), "")


class Recalled(msgspec.Struct, frozen=True):
    """What goes before a prompt. `older` is what should be summed up first (with `summary`), for it is too
    much; `covers` is the key of its last turn."""

    messages: tuple[Message, ...] = ()
    older: tuple[Message, ...] = ()
    covers: str = ""


def turn_of(told: Told) -> Turn | None:
    """The turn that a body has recorded; None if no model answered in it."""
    models = [one for one in told.records if one.kind == MODEL and one.error is None]
    if not models:
        return None
    summary = next((one for one in told.records if one.kind == SUMMARY and one.error is None), None)
    return Turn(f"{told.node_id}#{told.iteration}", str(models[0].meta.get("person", "")),
                who_of(models[0].meta), tuple(said_in(told.records)),
                None if summary is None else str(summary.result()["answer"].get("content", "")),
                "" if summary is None else str(summary.meta.get("covers", "")))


def said_in(records: Iterable[StepRecord]) -> list[Message]:
    """What was said in the calls of models among some records, results of tools included."""
    known = {one.name: one for one in records}
    found: list[Message] = []
    for record in known.values():
        if record.kind != MODEL or record.error is not None:
            continue
        value = record.result()
        for one in messages_of(value["asked"], f"the step {record.name!r}"):
            found.append(_filled(one, known))
        answer = msgspec.convert(value["answer"], Answered)
        found.append(msgspec.structs.replace(answer, parts=None))
    return found


def _filled(message: Message, known: dict[str, StepRecord]) -> Message:
    if not isinstance(message, Returned) or not message.step or message.step not in known:
        return message
    return msgspec.structs.replace(message, content=told_of(known[message.step].result())[0], step="")


def turns_before(told: Sequence[Told], *, node_id: str, until: float,
                 turn: Callable[[Told], Turn | None] = turn_of) -> list[Turn]:
    """The turns that a body may remember: those that had ended by the instant `until`. An item of a map hears
    nothing of the others."""
    items = [(node_id[:match.start() + 1], node_id[:match.end()]) for match in _ITEM.finditer(node_id)]
    found = []
    for one in told:
        if one.ended_at > until or any(one.node_id.startswith(of_map) and not one.node_id.startswith(own)
                                       for of_map, own in items):
            continue
        known = turn(one)
        if known is not None:
            found.append(known)
    return found


def map_of(node_id: str) -> str | None:
    """The node that expands to this one, if it is an item of a map that is in no other."""
    match = _ITEM.search(node_id)
    return node_id[:match.start()] if match is not None and match.end() == len(node_id) else None


def recall(memory: Memory, who: str, turns: Sequence[Turn]) -> Recalled:
    """What a person remembers of turns, the oldest first."""
    if memory.kind == "none":
        return Recalled()
    if memory.kind == "all":
        return Recalled(tuple(_heard(turns, who)))
    own = [turn for turn in turns if turn.who == who]
    if memory.kind == "window":
        return Recalled(tuple(_window([one for turn in own for one in turn.messages], memory.size)))
    if memory.kind == "summary":
        return _summed(own, memory.size)
    return Recalled(tuple(one for turn in own for one in turn.messages))


def _heard(turns: Sequence[Turn], who: str) -> list[Message]:
    """A person's own words as they were, those of others as `Name: text`; what others say in a row is one
    message."""
    found: list[Message] = []
    joined = False  # whether the last message is what others said
    for turn in turns:
        if turn.who == who:
            found += turn.messages
            joined = False
            continue
        text = f"{turn.person}: {turn.answer}"
        if joined:
            found[-1] = Said(f"{found[-1].content}\n\n{text}")
        else:
            found.append(Said(text))
        joined = True
    return found


def _window(messages: list[Message], size: int) -> list[Message]:
    """The last messages, tools' left uncounted; begun with a prompt, so that it may be one more."""
    counted = [i for i, one in enumerate(messages) if not isinstance(one, Returned)
               and not (isinstance(one, Answered) and one.calls)]
    start = counted[-size] if len(counted) > size else 0
    while start and not isinstance(messages[start], Said):
        start -= 1
    return messages[start:]


def _summed(turns: Sequence[Turn], size: int) -> Recalled:
    """The newest summary, and the turns after it; if that is too much, the newest half of it, and the rest
    as what is to be summed up."""
    places = {turn.key: place for place, turn in enumerate(turns)}
    newest = max((turn for turn in turns if turn.summary is not None and turn.covers in places),
                 key=lambda turn: places[turn.covers], default=None)
    start: list[Message] = []
    left = turns
    if newest is not None:
        start, left = [Said(f"{INTRODUCTION}{newest.summary}")], turns[places[newest.covers] + 1:]
    whole = [*start, *(one for turn in left for one in turn.messages)]
    if tokens_in(whole) <= size:
        return Recalled(tuple(whole))
    kept, room = len(left), size // 2
    while kept and (taken := tokens_in(left[kept - 1].messages)) <= room:
        kept, room = kept - 1, room - taken
    if not kept:  # the summary alone is too much: it would be no shorter the next time
        return Recalled(tuple(whole))
    older = [*start, *(one for turn in left[:kept] for one in turn.messages)]
    recent = [one for turn in left[kept:] for one in turn.messages]
    return Recalled(tuple(recent), tuple(older), left[kept - 1].key)


def summarised(recalled: Recalled, summary: str) -> tuple[Message, ...]:
    """What is recalled once the older part is summed up."""
    return (Said(f"{INTRODUCTION}{summary}"), *recalled.messages)


def transcript(messages: Iterable[Message], person: str) -> str:
    """A conversation as a text, for who sums it up."""
    lines = []
    for one in messages:
        if isinstance(one, Answered):
            lines += [f"{person}: {one.content}"] if one.content else []
            lines += [f"{person} calls {call.tool}" for call in one.calls]
        elif isinstance(one, Returned):
            lines.append(f"{one.tool} gives: {one.content}")
        else:
            lines.append(f"User: {one.content}" if not one.content.startswith(INTRODUCTION) else one.content)
    return "\n\n".join(lines)
