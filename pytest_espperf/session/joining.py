"""One search is one session: a part that goes on takes over what the parts before it measured.

Each part is a session of its own while it runs, with a checkpoint that survives a power loss. The next part
has the runs of those before it in its own checkpoint before their files go, so that nothing is lost whenever
that ends.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from pytest_espperf.errors import ArtifactError, HistoryError
from pytest_espperf.history import HistoryStore, load_session
from pytest_espperf.history.prune import PruneChoice, plan, remove
from pytest_espperf.history.rows import SessionRow
from pytest_espperf.session.bisecting import SearchState
from pytest_espperf.session.round_meter import RoundMeter


def join_parts(meter: RoundMeter, state: SearchState, save: Callable[[SearchState], None]) -> None:
    """Take over the earlier parts of a search, as far as they are in the history; remove their entries.

    What else belongs to them, as raw samples and logs of the console, stays: the runs name it.

    Args:
        meter: opened; with the session of the part that goes on.
        state: of the search; gets the id of this session.
        save: keeps the state.

    Raises:
        HistoryError: the history cannot be read, or the state not be written.
    """
    rows = {row.session_id: row for row in meter.store.select() if row.session_id in state.sessions}
    joined = [rows[one] for one in state.sessions if one in rows and _joins(meter, rows[one])]
    state.sessions = [*state.sessions, meter.context.session_id]
    save(state)
    meter.checkpoint()
    for row in joined:
        meter.context.say(f"{row.name} is the beginning of this search: its runs are in this session now")
        with suppress(HistoryError):  # then it stays in the list, and is joined and removed the next time
            _remove_entry(meter.store, row)


def _joins(meter: RoundMeter, row: SessionRow) -> bool:
    try:
        meter.carry(load_session(meter.store.folder / row.name))
    except ArtifactError:  # it stays where it is, for a reader who can repair it
        return False
    return True


def _remove_entry(store: HistoryStore, row: SessionRow) -> None:
    own = {"samples", "serial"}
    for leaving in plan(store.folder, PruneChoice(go=[row])):
        files = [path for path in leaving.files if path.parent == store.folder]
        kept = tuple(path for path in files if path.name.partition("_")[0] not in own)
        remove(store.folder, replace(leaving, files=kept, samples=None))
