"""An execution as one file: whole, exact, refused when anything about it is wrong; for every store."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import apsw
import msgspec
import pytest

from treadle.config import TreadleConfig
from treadle.errors import (
    InvalidInput,
    LimitExceeded,
    NoSuchExecution,
    StoreCorrupt,
    StoreError,
    StoreTooNew,
    TreadleError,
)
from treadle.state.cell import ErrorInfo, ExecutionCell, NodeState
from treadle.state.status import ExecutionStatus, NodeStatus
from treadle.store import MemoryStore, open_store
from treadle.store.base import Batch, Lease, LogLine, Signal, Store
from treadle.store.owner import this_owner
from treadle.store.transfer import Imported, export_execution, import_execution, open_export
from treadle.testing.contract import FULL_CELL, a_cell, by_node

SOURCE = '{"text": "treadle: 1 …"}'
DRAWN = hashlib.blake2b(SOURCE.encode(), digest_size=16).hexdigest()
SMALL, LARGE = b"small" * 10_000, Random(1).randbytes(6_000_000)
Maker = Callable[[], Store]


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture(params=["memory", "sqlite"])
def make(request: Any, tmp_path: Path) -> Any:
    """Makes empty stores."""
    made: list[Store] = []

    def new() -> Store:
        kind = request.param
        made.append(MemoryStore() if kind == "memory" else open_store(tmp_path / f"store{len(made)}.db"))
        return made[-1]

    yield new
    for store in made:
        store.close()


def filled(store: Store, large: bytes = LARGE) -> Store:
    """A store with an execution that has something of everything, and another one beside it."""
    new = ExecutionCell("run", epoch=1, status=ExecutionStatus.RUNNING, name="demo", diagram=DRAWN,
                        created_at=1.5, inputs=b'{"x":1}', options=b'{"durability":"strict"}', parent="old")
    lease = store.create(new, SOURCE, this_owner(), 15)
    store.create(msgspec.structs.replace(new, execution_id="other"), SOURCE, this_owner(), 15)
    cells = [msgspec.structs.replace(FULL_CELL, blob=digest(SMALL)), a_cell("plain", output=b'"\xc3\xa9"'),
             a_cell("large", blob=digest(large)), a_cell("also", blob=digest(large))]
    store.apply(Batch(cells, [msgspec.structs.replace(new, seq=2, started_at=2.25)],
                      blobs=[(digest(one), one) for one in (SMALL, large)],
                      logs=[LogLine("run", "plain", "1", 1, 5.5, "stdout", "said \ud800\0", epoch=1),
                            LogLine("run", "plain", "1", 1, 6.5, "log", "wrote", "INFO", "app", epoch=1)]))
    store.send(Signal("run", "signal", name="go", payload=b'{"n":1}', at=7.5))
    store.send(Signal("run", "answer", node_id="ask", iteration="2", payload=b'"yes"', at=8.5))
    store.send(Signal("other", "signal", name="go"))
    store.release([lease])
    return store


@pytest.fixture
def exported(make: Maker, tmp_path: Path) -> Path:
    path = tmp_path / "run.treadle.zip"
    with path.open("wb") as file:
        export_execution(filled(make()), "run", file)
    return path


def everything(store: Store) -> Any:
    """All that a store knows of the execution, but for the numbers that are the store's own."""
    cell, cells = store.load("run")
    signals = [msgspec.structs.replace(one, id=0) for one in store.signals(["run"])]
    logs = [msgspec.structs.replace(one, id=0) for one in store.logs("run")]
    blobs = {one.blob: store.blob(one.blob) for one in cells if one.blob is not None}
    return cell, by_node(cells), signals, logs, store.source(cell.diagram), blobs


def rewritten(path: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    """The file with other entries; the header still says what it said unless it is changed, too."""
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    change(entries)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return path


def signed(entries: dict[str, bytes], **header: Any) -> None:
    """Make the header fit the entries again."""
    known = json.loads(entries["treadle.json"])
    known["entries"] = {name: {"bytes": len(content), "sha256": digest(content)}
                        for name, content in entries.items() if name != "treadle.json"}
    entries["treadle.json"] = json.dumps(known | header).encode()


def refused(make: Maker, path: Path, kind: type[TreadleError], **config: Any) -> str:
    """Import a file that must be refused; nothing is written. The message."""
    store = make()
    with pytest.raises(kind) as caught:
        import_execution(store, path, config=TreadleConfig(**config))
    assert store.executions() == []
    return str(caught.value)


# There and back

def test_what_is_imported_is_what_was_exported_to_the_last_field(make: Maker, tmp_path: Path) -> None:
    first, path, second = filled(make()), tmp_path / "a.zip", make()
    with path.open("wb") as file:
        header = export_execution(first, "run", file)
    assert (header.execution_id, header.name, header.status, header.cells) == ("run", "demo", "running", 4)
    assert import_execution(second, path) == Imported(header, "new")
    assert everything(second) == everything(first)
    assert [one.cell.execution_id for one in second.executions()] == ["run"]


def test_an_import_goes_from_any_kind_of_store_to_any_other(make: Maker, tmp_path: Path) -> None:
    first, path = filled(make()), tmp_path / "a.zip"
    with path.open("wb") as file:
        export_execution(first, "run", file)
    for second in (MemoryStore(), open_store(tmp_path / "other.db")):
        import_execution(second, path)
        assert everything(second) == everything(first)
        second.close()


def test_an_export_goes_to_a_stream_that_can_not_seek(make: Maker, exported: Path, tmp_path: Path) -> None:
    class Pipe(io.RawIOBase):
        data = b""

        def writable(self) -> bool:
            return True

        def write(self, data: Any) -> int:
            self.data += bytes(data)
            return len(data)

    pipe = Pipe()
    export_execution(filled(make()), "run", pipe)  # type: ignore[arg-type]
    path = tmp_path / "piped.zip"
    path.write_bytes(pipe.data)
    assert import_execution(make(), path).outcome == "new"


def test_an_imported_execution_is_held_by_nobody_and_a_claim_is_above_its_cells(
        make: Maker, exported: Path) -> None:
    rewritten(exported, lambda entries: (entries.update({"cells.jsonl": entries["cells.jsonl"].replace(
        b'"epoch":1', b'"epoch":7')}), signed(entries))[0])
    store = make()
    import_execution(store, exported)
    assert store.summary("run").owner is None
    assert store.summary("run").stale
    written = store.apply(Batch([a_cell("plain", 9, epoch=1)]))
    assert "run" in written.refused  # nobody writes it unclaimed
    assert store.claim("run", this_owner(), 15) == Lease("run", 8, True)


def test_an_execution_without_a_diagram_moves_too(make: Maker, tmp_path: Path) -> None:
    store, path = make(), tmp_path / "a.zip"
    store.create(ExecutionCell("bare", epoch=1, created_at=1.0), "", this_owner(), 0)
    with path.open("wb") as file:
        export_execution(store, "bare", file)
    other = make()
    import_execution(other, path)
    assert other.load("bare") == store.load("bare")


def test_a_blob_that_the_store_has_lost_is_named(make: Maker) -> None:
    store = make()
    lease = store.create(ExecutionCell("run", epoch=1), "", this_owner(), 15)
    store.apply(Batch([a_cell("n", blob="ab" * 32)], released=[lease]))
    with pytest.raises(StoreCorrupt, match=r"no blob abab.*pruned"):
        export_execution(store, "run", io.BytesIO())
    with pytest.raises(NoSuchExecution, match="did you mean 'run'"):
        export_execution(store, "rum", io.BytesIO())


def test_blobs_that_only_a_value_or_another_blob_names_come_along(make: Maker, tmp_path: Path) -> None:
    """A value that isn't plain JSON may name a blob; so may one that is a blob itself."""
    inner, odd = b"inner" * 9000, b"not named"
    outer = b'{"$treadle":{"$":"blob","digest":"' + digest(inner).encode() + b'"}}' + b" " * 2_000_000
    value = b'{"$treadle":["' + digest(odd).encode() + b'","' + b"ab" * 32 + b'"]}'
    store = make()
    lease = store.create(ExecutionCell("run", epoch=1), "", this_owner(), 15)
    store.apply(Batch([a_cell("n", blob=digest(outer)), a_cell("m", output=value),
                       a_cell("plain", output=b'["' + digest(LARGE).encode() + b'"]')], released=[lease],
                      blobs=[(digest(one), one) for one in (inner, outer, odd, LARGE)]))
    path, other = tmp_path / "a.zip", make()
    with path.open("wb") as file:
        export_execution(store, "run", file)
    import_execution(other, path)
    assert [other.blob(digest(one)) for one in (inner, outer, odd)] == [inner, outer, odd]
    with pytest.raises(KeyError):
        other.blob(digest(LARGE))


def test_a_large_blob_passes_through_in_pieces(tmp_path: Path) -> None:
    """100 MB, and the process grows by less than 40."""
    script = '''
import hashlib, resource, sys
from pathlib import Path
from treadle.state.cell import ExecutionCell, NodeState
from treadle.store import open_store
from treadle.store.base import Arriving
from treadle.store.transfer import export_execution, import_execution

folder = Path(sys.argv[1])
piece, digest, large = bytes(range(256)) * 4096, hashlib.sha256(), folder / "large"
with large.open("wb") as file:
    for _ in range(100):
        digest.update(piece)
        file.write(piece)
name = digest.hexdigest()
store, other = open_store(folder / "a.db"), open_store(folder / "b.db")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
store.adopt(ExecutionCell("run"), [NodeState("run", "n", blob=name)], "",
            blobs=[Arriving(name, large.stat().st_size, lambda: large.open("rb"))])
with (folder / "x.zip").open("wb") as file:
    export_execution(store, "run", file)
assert import_execution(other, folder / "x.zip").outcome == "new"
with other.open_blob(name) as content:
    assert hashlib.file_digest(content, "sha256").hexdigest() == name
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
'''
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True,
                          check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 40


# What the store has already

def test_the_same_again_is_nothing_to_do(make: Maker, exported: Path) -> None:
    store = make()
    assert import_execution(store, exported).outcome == "new"
    before = everything(store)
    assert import_execution(store, exported).outcome == "same"
    assert everything(store) == before


def test_an_older_file_is_nothing_to_do_and_a_newer_one_is_refused(
        make: Maker, exported: Path, tmp_path: Path) -> None:
    ahead, newer = make(), tmp_path / "newer.zip"
    import_execution(ahead, exported)
    lease = ahead.claim("run", this_owner(), 15)
    ahead.apply(Batch([a_cell("plain", 2, epoch=2, status=NodeStatus.COMPLETED)], released=[lease]))
    assert import_execution(ahead, exported).outcome == "older"
    assert by_node(ahead.load("run")[1])["plain"].seq == 2
    with newer.open("wb") as file:
        export_execution(ahead, "run", file)
    behind = make()
    import_execution(behind, exported)
    with pytest.raises(InvalidInput, match=r"already, and the file is newer \(1 cell\): nothing was written"):
        import_execution(behind, newer)
    assert by_node(behind.load("run")[1])["plain"].seq == 1


def test_copies_that_went_on_apart_are_refused(make: Maker, exported: Path, tmp_path: Path) -> None:
    paths = []
    for name, output in (("one", b"1"), ("two", b"2")):
        store = make()
        import_execution(store, exported)
        lease = store.claim("run", this_owner(), 15)
        store.apply(Batch([a_cell("plain", 2, epoch=2, output=output)], released=[lease]))
        paths.append(tmp_path / f"{name}.zip")
        with paths[-1].open("wb") as file:
            export_execution(store, "run", file)
    with pytest.raises(InvalidInput, match="both went on after they were copied"):
        import_execution(store, paths[0])
    assert by_node(store.load("run")[1])["plain"].output == b"2"


def test_copies_of_which_each_is_ahead_in_something_are_refused(
        make: Maker, exported: Path, tmp_path: Path) -> None:
    one, two, path = make(), make(), tmp_path / "two.zip"
    for store, node, claims in ((one, "plain", 1), (two, "also", 2)):
        import_execution(store, exported)
        leases = [store.claim("run", this_owner(), 0) for _ in range(claims)]
        store.apply(Batch([a_cell(node, 2, epoch=leases[-1].epoch)], released=[leases[-1]]))
    with path.open("wb") as file:
        export_execution(two, "run", file)
    with pytest.raises(InvalidInput, match=r"each has something newer than the other \(1 cell in the file\)"):
        import_execution(one, path)


def test_signals_that_come_faster_than_cells_are_read_make_no_export() -> None:
    class Busy(MemoryStore):
        def load(self, execution_id: str) -> tuple[ExecutionCell, list[NodeState]]:
            self.send(Signal(execution_id, "signal", name="again"))
            return super().load(execution_id)

    store = Busy()
    store.create(ExecutionCell("run", epoch=1), "", this_owner(), 15)
    with pytest.raises(StoreError, match="signals faster than it can be read: try again"):
        export_execution(store, "run", io.BytesIO())


def test_a_damaged_blob_is_not_exported_and_many_lines_are(tmp_path: Path) -> None:
    store = filled(open_store(tmp_path / "a.db"))
    said = [LogLine("other", "n", "1", 1, 1.0, "stdout", f"{number}", epoch=1) for number in range(2500)]
    store.apply(Batch([], logs=said))
    with (tmp_path / "other.zip").open("wb") as file:
        export_execution(store, "other", file)
    with open_export(tmp_path / "other.zip") as archive:
        assert [line.text for line in archive.logs] == [line.text for line in said]
    path = tmp_path / "a.db.blobs" / digest(LARGE)[:2] / digest(LARGE)
    path.write_bytes(LARGE[:-1] + b"x")
    with pytest.raises(StoreCorrupt, match="is damaged in"):
        export_execution(store, "run", io.BytesIO())
    store.close()


# Files that are wrong

def test_a_file_of_another_kind_is_refused(make: Maker, tmp_path: Path) -> None:
    for number, content in enumerate((b"", b"treadle: 1\n", b"PK", b"SQLite format 3\0")):
        path = tmp_path / f"{number}"
        path.write_bytes(content)
        says = "damaged or cut off" if content == b"PK" else "is no export of an execution: `treadle export"
        assert says in refused(make, path, StoreCorrupt if content == b"PK" else InvalidInput)
    other = tmp_path / "other.zip"
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert "is no export" in refused(make, other, InvalidInput)
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("treadle.json", '{"hello": 1}')
    assert "is no export" in refused(make, other, InvalidInput)
    with pytest.raises(FileNotFoundError):
        import_execution(make(), tmp_path / "none.zip")


def test_a_disk_that_fails_is_no_damaged_file(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: object, *words: object) -> object:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(zipfile.ZipFile, "open", fail)
    with pytest.raises(OSError, match="Input/output error") as caught, open_export(exported):
        pass
    assert not isinstance(caught.value, TreadleError)


def test_a_newer_format_is_refused(make: Maker, exported: Path) -> None:
    rewritten(exported, lambda entries: signed(entries, treadle_execution=2))
    assert "newer Treadle (format 2, this one reads 1): upgrade" in refused(make, exported, StoreTooNew)


def test_a_field_that_nobody_knows_is_refused(make: Maker, exported: Path) -> None:
    rewritten(exported, lambda entries: (entries.update({"cells.jsonl": entries["cells.jsonl"].replace(
        b'"attempt":', b'"colour":"red","attempt":')}), signed(entries))[0])
    assert "does not know the field 'colour'" in refused(make, exported, StoreTooNew)


@pytest.mark.parametrize(("change", "says"), [
    (lambda entries: entries.pop("cells.jsonl"), "its entries are not those of its header"),
    (lambda entries: entries.update({"../../etc/evil": b"x"}), "its entries are not those of its header"),
    (lambda entries: (entries.update({"../../evil": b"x"}), signed(entries)), "its entries are not those"),
    (lambda entries: (entries.update({"blobs/../../evil": b"x"}), signed(entries)), "its entries are not"),
    (lambda entries: entries.update({"cells.jsonl": b"{}\n"}), "entry cells.jsonl is not what its header"),
    (lambda entries: (entries.update({f"blobs/{digest(SMALL)}": b"x"}), signed(entries)),
     "is not what its header says"),
    (lambda entries: (entries.pop(f"blobs/{digest(SMALL)}"), signed(entries)), "its blobs are not those"),
    (lambda entries: (entries.update({f"blobs/{digest(b'x')}": b"x"}), signed(entries)), "its blobs are not"),
    (lambda entries: (entries.update({"cells.jsonl": b"[]\n"}), signed(entries)), "damaged"),
    (lambda entries: (entries.update({"execution.json": b"null"}), signed(entries)), "damaged"),
    (lambda entries: (entries.update({"execution.json": b"[" * 100_000}), signed(entries)), "damaged"),
    (lambda entries: (entries.update({"execution.json": b'{"execution_id": "run", "status": "odd"}'}),
                      signed(entries)), "Invalid enum value 'odd'"),
    (lambda entries: signed(entries, cells=3), "its cells are not those of its header"),
    (lambda entries: signed(entries, execution_id="another"), "parts of another execution"),
    (lambda entries: signed(entries, execution_id="a\nb"), "can't be the id of an execution"),
    (lambda entries: (entries.update({"cells.jsonl": entries["cells.jsonl"] * 2}), signed(entries, cells=8)),
     "its cells are not those"),
    (lambda entries: (entries.update({"diagram.txt": b"another"}), signed(entries)), "its diagram is not"),
])
def test_what_does_not_fit_together_is_refused(make: Maker, exported: Path, change: Any, says: str) -> None:
    message = refused(make, rewritten(exported, change), StoreCorrupt)
    assert says in message
    assert message.startswith(f"{exported} is damaged or cut off (")
    assert sorted(one.name for one in exported.parent.rglob("evil*")) == []


def test_a_file_that_is_cut_off_or_has_a_wrong_byte_is_refused_or_the_same(tmp_path: Path) -> None:
    """Wherever it is cut, and whatever byte is wrong: nothing else is ever read, nor another error raised."""
    path = tmp_path / "broken.zip"
    with path.open("wb") as file:
        export_execution(filled(MemoryStore(), b"not so large"), "run", file)
    whole = path.read_bytes()
    with open_export(path) as archive:
        good = (archive.header, archive.cell, archive.cells, archive.source, archive.signals, archive.logs)
    step = max(1, len(whole) // 150)
    broken = [whole[:at] for at in range(3, len(whole), step)]
    broken += [whole[:at] + bytes([whole[at] ^ 0x41]) + whole[at + 1:]
               for at in [*range(0, len(whole), step), *range(len(whole) - 400, len(whole), 3)]]
    for content in broken:
        path.write_bytes(content)
        try:
            with open_export(path) as archive:
                found = (archive.header, archive.cell, archive.cells, archive.source, archive.signals,
                         archive.logs)
        except TreadleError:
            continue
        assert found == good and len(content) == len(whole)


def test_a_file_that_unpacks_to_too_much_is_refused(make: Maker, exported: Path) -> None:
    message = refused(make, exported, LimitExceeded, import_bytes_max=1000)
    assert "import_bytes_max" in message

    def bomb(entries: dict[str, bytes]) -> None:
        known = json.loads(entries["treadle.json"])
        entries["logs.jsonl"] = b" " * 10_000_000  # the header says less: it is not unpacked to its end
        entries["treadle.json"] = json.dumps(known).encode()

    assert "logs.jsonl is not what its header says" in refused(make, rewritten(exported, bomb), StoreCorrupt)


def test_an_import_that_is_killed_in_the_middle_has_written_nothing(
        exported: Path, tmp_path: Path) -> None:
    from treadle import failpoints

    class Killed(BaseException):
        pass

    def die() -> None:
        raise Killed

    for seam in ("blob.before", "statement.after", "commit.before"):
        path = tmp_path / f"{seam}.db"
        store = open_store(path)
        failpoints.arm(seam, die)
        try:
            with pytest.raises(Killed):
                import_execution(store, exported)
        finally:
            failpoints.disarm()
        assert store.executions() == [] and store.signals(["run"]) == [] and store.logs("run") == []
        assert import_execution(store, exported).outcome == "new"
        store.close()


def test_an_import_waits_for_another_program_that_holds_the_file(
        exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "held.db"
    store = open_store(path)
    other = apsw.Connection(str(path))
    other.execute("BEGIN IMMEDIATE")
    monkeypatch.setattr("treadle.store.sqlite.writing.LOCKED_S_MAX", 0.0)
    with pytest.raises(StoreError, match=r"held.db is locked by another program.*try again later"):
        import_execution(store, exported)
    monkeypatch.undo()
    letting_go = threading.Timer(0.3, other.execute, ("ROLLBACK",))  # longer than one try waits
    letting_go.start()
    assert import_execution(store, exported).outcome == "new"
    letting_go.join()
    other.close()
    store.close()


def test_every_field_of_a_cell_has_a_place_in_the_file() -> None:
    """Whoever reads a file with an older Treadle would lose a field that is new: it is refused there."""
    from treadle.store.transfer.layout import line_of

    full = ExecutionCell("run", 1, 2, ExecutionStatus.FAILED, "n", "d", b"{}", 1.0, 2.0, 3.0, 4.0, b"1",
                         "ab" * 32, ErrorInfo("E", "m"), b'{"o":1}', "p", 2)
    for cell in (FULL_CELL, full):
        data = json.loads(line_of(cell))
        defaults = {name for name in cell.__struct_fields__ if name not in data}
        assert defaults <= {"inputs"}
    assert isinstance(FULL_CELL, NodeState)
