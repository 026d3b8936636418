"""The history of executions as files that a person can read, and the way back into a store.

    writer = HistoryWriter("executions", manager)   # a queued consumer for the bus
    …
    await writer.close()

    bring_in(store, read_history("executions/2026-07-20_133452_report_01K2…"))

docs/history.md describes the files. A history never says more than the store: a state is written once it is
on disk there, or at the end of a run that writes nothing.
"""

from treadle.store.history.folder import AS_IT_IS, Seal, find_histories
from treadle.store.history.reading import History, HistoryStore, histories_in, read_history, summarized
from treadle.store.history.writer import HistoryWriter

__all__ = ["AS_IT_IS", "History", "HistoryStore", "HistoryWriter", "Seal", "find_histories", "histories_in",
           "read_history", "summarized"]
