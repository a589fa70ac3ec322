"""Saving a session: its checkpoint, its artifacts, raw samples, a copy for a shared history."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_espperf.errors import ArtifactError, HistoryError
from pytest_espperf.history import HistoryStore, SavedSession, save_samples
from pytest_espperf.history.checkpoint import Checkpoint
from pytest_espperf.history.progress import IndexProgress
from pytest_espperf.history.shared.sharing import Sent, Sharing
from pytest_espperf.model.artifact import SessionArtifact, Verdict
from pytest_espperf.model.samples import PhaseSamples
from pytest_espperf.model.verdicts import VERDICTS
from pytest_espperf.report import render_markdown
from pytest_espperf.session.context import Context
from pytest_espperf.session.judging import Judgement
from pytest_espperf.session.plan import PlannedPhase


@dataclass(frozen=True)
class SessionOutcome:
    """The end of a session.

    ``sent`` is filled in once those of all boards were saved, see :meth:`Sharing.send_saved`.
    """

    artifact: SessionArtifact
    verdict: Verdict
    saved: SavedSession | None
    fails: bool
    save_error: str = ""
    sent: Sent | None = None


class Saver:
    """Writes one session into the history.

    Args:
        context: of the session.
        store: the session's own view of the history: it names what this session could not read.
        sharing: the history that all boards of the run work on.
    """

    def __init__(self, context: Context, store: HistoryStore, sharing: Sharing) -> None:
        self.store = store
        self.sharing = sharing
        self._context = context
        self._checkpoint: Checkpoint | None = None
        self._there: frozenset[str] = frozenset()

    def prepare(self, *, quiet: bool) -> None:
        """Make the folder of the history, and bring a shared one up to date.

        Args:
            quiet: print only warnings about a shared history.

        Raises:
            UsageError: a package for a shared history is missing.
            HistoryError: the folder cannot be written, or not be read.
        """
        self.sharing.prepare()
        self.store.progress = IndexProgress(self._context.say)
        self.sharing.pull_once(self._context.say, quiet=quiet)
        self._there = frozenset(self.store.file_names())

    def begin(self, artifact: SessionArtifact) -> None:
        """Open the checkpoint, and keep what an interrupted session left in it."""
        say = self._context.say
        self._checkpoint = Checkpoint(self.store, self._context.session_id)
        self._context.closing.callback(self._checkpoint.release)
        for found in self._checkpoint.recovered:
            say(f"an earlier session was interrupted: it is kept as {found.json_path.name}")
        for bad in self._checkpoint.unreadable:
            say(f"an earlier session was interrupted, and its checkpoint cannot be read: it is kept: {bad}")
        self._checkpoint.write(artifact)

    @property
    def checkpoint(self) -> Checkpoint:
        """The checkpoint of the session, which must have begun."""
        assert self._checkpoint is not None
        return self._checkpoint

    def write_checkpoint(self, artifact: SessionArtifact) -> bool:
        """Write a checkpoint; a disk that refuses it is a warning.

        Returns:
            whether it was written.
        """
        try:
            self.checkpoint.write(artifact)
        except (HistoryError, ArtifactError) as error:
            # The phases already measured are worth more than their copy on a disk that may recover.
            self._context.say(f"WARNING: {error}")
            return False
        return True

    def save(self, judgement: Judgement) -> SessionOutcome:
        """Write the artifacts of a judged session; where that fails, the checkpoint stays."""
        artifact, verdict = judgement.artifact, judgement.verdict
        incomplete = not VERDICTS[verdict.kind].complete
        try:
            latest = not incomplete and artifact.comparability is not None and artifact.contest is None
            saved = self.store.save(artifact, render_markdown(artifact), latest=latest, known=self._there)
            if incomplete:
                self.checkpoint.write(artifact)
            else:
                self.checkpoint.discard()
        except (HistoryError, ArtifactError) as error:
            return SessionOutcome(artifact, verdict, saved=None, fails=judgement.fails, save_error=str(error))
        self.sharing.after_saving(saved, self._context.say)
        return SessionOutcome(artifact, verdict, saved=saved, fails=judgement.fails)


def save_phase_samples(context: Context, planned: PlannedPhase, samples: PhaseSamples) -> str:
    """Write the raw samples of a phase; a disk that refuses them is a warning.

    Returns:
        the file relative to the history, "" where it was not written.
    """
    folder = context.folder / f"samples_{context.session_id}"
    try:
        path = save_samples(folder, planned.id, samples)
    except HistoryError as error:
        context.say(f"WARNING: {error}")
        return ""
    return f"{folder.name}/{path.name}"
