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
from pytest_espperf.session.round_meter import RoundMeter
from pytest_espperf.session.searches import SearchState


def join_parts(meter: RoundMeter, state: SearchState, save: Callable[[SearchState], None]) -> None:
    """Take over the earlier parts of a search, as far as they are in the history; remove their entries.

    An entry is removed once all of its runs are in the checkpoint of this part, and that is on the disk. What
    else belongs to it, as raw samples and logs of the console, stays: the runs name it. From a shared history
    nothing is removed: another machine would bring it back.

    Args:
        meter: opened; with the session of the part that goes on.
        state: of the search; gets the id of this session.
        save: keeps the state.

    Raises:
        HistoryError: the history cannot be read, or the state not be written; nothing is kept of this part.
    """
    try:
        rows = {row.session_id: row for row in meter.store.select() if row.session_id in state.sessions}
        newest_first = [rows[one] for one in reversed(state.sessions) if one in rows]
        state.sessions = [*state.sessions, meter.context.session_id]
        save(state)
    except HistoryError:
        meter.drop()
        raise
    joined = [row for row in newest_first if _joins(meter, row)][::-1]
    if not meter.checkpoint():
        return  # each part stays an entry, and is joined the next time
    for row in joined:
        meter.context.say(f"{row.name} is the beginning of this search: its runs are in this session now")
        if not meter.is_shared:
            with suppress(HistoryError):  # then it stays in the list, and is joined and removed the next time
                _remove_entry(meter.store, row)


def _joins(meter: RoundMeter, row: SessionRow) -> bool:
    """Take over a part; whether nothing of it is left that is in its entry only."""
    try:
        return meter.carry(load_session(meter.store.folder / row.name))
    except ArtifactError:  # it stays where it is, for a reader who can repair it
        return False


def _remove_entry(store: HistoryStore, row: SessionRow) -> None:
    own = {"samples", "serial"}
    for leaving in plan(store.folder, PruneChoice(go=[row])):
        files = [path for path in leaving.files if path.parent == store.folder]
        kept = tuple(path for path in files if path.name.partition("_")[0] not in own)
        remove(store.folder, replace(leaving, files=kept, samples=None))
