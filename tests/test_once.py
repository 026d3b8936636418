"""What is made when it is first asked for is one, whoever asks, and however many at a time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from treadle.once import once
from treadle.state.blob import Place
from treadle.store.memory import MemoryStore


class Thing:
    def __init__(self, together: Barrier) -> None:
        self.together = together
        self.made = 0

    @once
    def part(self) -> object:
        """What it has."""
        self.together.wait(20)
        self.made += 1
        return object()


def test_those_who_make_it_at_once_get_the_same() -> None:
    thing = Thing(Barrier(4))
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda _: thing.part, range(4)))
    assert len({id(one) for one in found}) == 1
    assert thing.part is found[0], "it is not made again: nobody else would be at the barrier"
    assert Thing.part.__doc__ == "What it has."


def test_the_folder_of_a_store_in_memory_stays_though_threads_made_it_at_once(
        monkeypatch: pytest.MonkeyPatch) -> None:
    together, temporary = Barrier(4), Place.temporary

    def slowly() -> Place:
        together.wait(20)
        return temporary()

    monkeypatch.setattr(Place, "temporary", slowly)
    store = MemoryStore()
    with ThreadPoolExecutor(4) as threads:
        blobs = list(threads.map(lambda text: store.place.put(text), [b"a", b"b", b"c", b"d"]))
    assert [blob.read() for blob in blobs] == [b"a", b"b", b"c", b"d"]
    assert {blob.path().parents[1] for blob in blobs} == {store.place.folder}
