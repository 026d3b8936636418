"""The context as a body has it: maps whose operations are small transactions, and transactions of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping
from typing import Any, Final, TypeVar

from treadle.errors import WriteConflict
from treadle.state import codec
from treadle.state.context.access import (
    ARTIFACTS,
    VARIABLES,
    Draft,
    Ground,
    Part,
    Snapshot,
    Transaction,
    View,
    encoded,
    key_in,
    plugin_space,
    refuse_inside,
    space_of,
)

_T = TypeVar("_T")
_ABSENT: Final[Any] = object()


class Space(MutableMapping[str, Any]):
    """The names of one space as they are now: `context.variables["n"] = 1`. Each operation is a small
    transaction of its own; those that read and write (`pop`, `setdefault` …) are tried again when somebody
    else was faster. What must change together belongs in one `context.transaction()`."""

    __slots__ = ("_ground", "_space", "_writer")

    def __init__(self, ground: Ground, space: str, writer: str) -> None:
        self._ground, self._space, self._writer = ground, space, writer

    @property
    def space(self) -> str:
        """What its keys begin with."""
        return self._space

    def __getitem__(self, name: str) -> Any:
        raw = self._ground.raw(None, self._key(name))
        if raw is None:
            raise KeyError(name)
        return codec.decode(raw)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name != "" and (
            self._ground.raw(None, self._key(name)) is not None)

    def __iter__(self) -> Iterator[str]:
        start = len(self._space)
        return iter([key[start:] for key in self._ground.keys(None, self._space)])

    def __len__(self) -> int:
        return len(self._ground.keys(None, self._space))

    def __setitem__(self, name: str, value: Any) -> None:
        self.update({name: value})

    def __delitem__(self, name: str) -> None:
        self.pop(name)

    def update(self, other: Any = (), /, **names: Any) -> None:
        """Set several names at once, in one transaction."""
        refuse_inside(self._ground, "a write to the context")
        given = {**dict(other), **names}
        writes = {key: encoded(key, value, self._ground.config)
                  for key, value in ((self._key(name), value) for name, value in given.items())}
        if writes:
            self._ground.commit(Draft(self._writer, None, set(), set(), dict(writes)))

    def pop(self, name: str, default: Any = _ABSENT) -> Any:
        """Remove a name and return its value, or `default`; KeyError if neither is there."""
        given = () if default is _ABSENT else (default,)
        return self._tried(lambda part: part.pop(name, *given))

    def popitem(self) -> tuple[str, Any]:
        return self._tried(lambda part: part.popitem())

    def setdefault(self, name: str, default: Any = None) -> Any:
        """The value of a name, which is set first if it isn't there."""
        return self._tried(lambda part: part.setdefault(name, default))

    def clear(self) -> None:
        self._tried(lambda part: part.clear())

    def _tried(self, act: Callable[[Part], _T]) -> _T:
        return tried(self._ground, self._writer, lambda tx: act(Part(tx, self._space)))

    def _key(self, name: str) -> str:
        key = key_in(self._space, name)
        space_of(key)
        return key

    def __repr__(self) -> str:
        return repr(View(Snapshot(self._ground), self._space))


codec.register_encoder(Space, "shared", dict, lambda names: names)


class Shares:
    """What a context offers of the execution's shared state; mixed into whatever is given to code."""

    __slots__ = ()

    def _sharing(self) -> tuple[Ground, str]:
        """The ground, and under what name writes are recorded."""
        raise TypeError(f"a {type(self).__name__} has no shared context")

    @property
    def artifacts(self) -> MutableMapping[str, Any]:
        """Shared resources by name: where they are, or plain data. Every operation is a small
        transaction."""
        return Space(*_placed(self._sharing(), ARTIFACTS))

    @property
    def variables(self) -> MutableMapping[str, Any]:
        """Shared values by name; alike."""
        return Space(*_placed(self._sharing(), VARIABLES))

    def plugin(self, name: str) -> MutableMapping[str, Any]:
        """What a plugin has left for others, or for itself; alike."""
        return Space(*_placed(self._sharing(), plugin_space(name)))

    def snapshot(self) -> Snapshot:
        """All of it as it is now, for good."""
        return Snapshot(self._sharing()[0])

    def transaction(self) -> Transaction:
        """For `with`: several reads and writes at once, all or nothing; see `Transaction`."""
        return Transaction(*self._sharing())

    def update(self, key: str, function: Callable[[Any], Any], default: Any = None) -> Any:
        """Set a key (`variables.n`) to what a function makes of its value, or of `default` where it has
        none; the new value. The function is called again when somebody else was faster."""
        return changed(*self._sharing(), key, function, default)


def _placed(sharing: tuple[Ground, str], space: str) -> tuple[Ground, str, str]:
    return sharing[0], space, sharing[1]


def tried(ground: Ground, writer: str, act: Callable[[Transaction], _T]) -> _T:
    """Do something in a transaction, again and again until nobody else was faster; the WriteConflict of the
    last try after `context_tries_max`."""
    tries, limit = 0, ground.config.context_tries_max
    while True:
        try:
            with Transaction(ground, writer) as tx:
                result = act(tx)
            return result
        except WriteConflict as conflict:
            tries += 1
            if tries >= limit:
                conflict.add_note(f"It was tried {limit} times (context_tries_max).")
                raise


def changed(ground: Ground, writer: str, key: str, function: Callable[[Any], Any],
            default: Any = None) -> Any:
    """See `Shares.update`."""
    def act(tx: Transaction) -> Any:
        value = function(tx.get(key, default))
        tx[key] = value
        return value

    return tried(ground, writer, act)
