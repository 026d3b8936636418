"""One execution as one file, and back: to keep it, to send it, to go on with it in another store.

    with open("run.treadle.zip", "wb") as file:
        export_execution(store, "run", file)
    outcome = import_execution(other, "run.treadle.zip")

The file is a zip; docs/exports.md describes it. Nothing in it is trusted: every entry has its size and
SHA-256 in the header, all of them are read and compared before anything is written, and no name in it becomes
a path.
"""

from treadle.store.transfer.incoming import Archive, Imported, bring_in, import_execution, open_export
from treadle.store.transfer.layout import Header
from treadle.store.transfer.outgoing import export_execution

__all__ = ["Archive", "Header", "Imported", "bring_in", "export_execution", "import_execution", "open_export"]
