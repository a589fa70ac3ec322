"""The standing of a session towards the baseline of later ones: the one place of these rules. Pure."""

from __future__ import annotations

from typing import NamedTuple

from pytest_espperf.model.artifact import SessionArtifact
from pytest_espperf.model.findings import HELD_BACK, PROVISIONAL
from pytest_espperf.model.verdicts import INVALID, SLOWER, VERDICTS

KEPT_OUT_MOST = 3
"""Sessions in a row that look slower or are: where most of them do so without proof, the next session that
would be held back joins the baseline, which may be what is odd."""


class Standing(NamedTuple):
    """Facts that decide whether later sessions are compared with a session.

    Attributes:
        verdict: its word, "" where nobody has judged it.
        complete: everything that was planned was measured.
        comparable: it has a record of what was measured; the original tool's files have none.
        joins: it joins the baseline by its verdict.
        held_back: it looks slower without proof, or its answers changed.
        accepted: somebody has accepted it as the new baseline.
    """

    verdict: str = ""
    complete: bool = True
    comparable: bool = True
    joins: bool = False
    held_back: bool = False
    accepted: bool = False

    @classmethod
    def of(cls, session: SessionArtifact) -> Standing:
        """Take the standing of a session from its verdict and what was decided about it later."""
        gate = session.gate
        word = gate.kind if gate is not None else ""
        return cls(
            verdict=word,
            complete=not session.partial and (not word or VERDICTS[word].complete),
            comparable=session.comparability is not None,
            joins=gate is not None and gate.joins_baseline,
            held_back=gate is not None and gate.held_back,
            accepted=session.accepted is not None,
        )

    @property
    def in_baseline(self) -> bool:
        """Whether later sessions are compared with it: it passed, is provisional, accepted or not judged."""
        return self.complete and self.comparable and (self.accepted or self.joins or not self.verdict)

    @property
    def may_be_named(self) -> bool:
        """Whether a user may name it as the baseline: it may be slow or inconclusive, but not have failed."""
        return self.complete and self.comparable and (self.accepted or self.verdict not in INVALID)

    @property
    def opens_epoch(self) -> bool:
        """Whether sessions before it are no longer the baseline: it was accepted, or the bench changed."""
        shifted = self.joins and self.verdict in VERDICTS and VERDICTS[self.verdict].opens_epoch
        return self.accepted or shifted

    @property
    def kept_out(self) -> bool:
        """Whether it is no baseline because it is slower, or looks so."""
        return self.complete and (self.held_back or self.verdict in SLOWER) and not self.in_baseline

    @property
    def label(self) -> str:
        """``held-back`` or ``provisional`` where the verdict leaves open whether it joins; else ""."""
        if self.held_back:
            return HELD_BACK
        provisional = self.joins and VERDICTS[self.verdict].joins == "provisional"
        return PROVISIONAL if provisional else ""
