"""Sessions for the tests of the history: small ones by hand, any ones by strategy."""

from __future__ import annotations

import types
import typing
from typing import Any, Literal

import msgspec
from hypothesis import strategies as st
from support import paths

from pytest_espperf.model.artifact import (
    CellAggregate,
    Comparability,
    PhaseReport,
    PhaseResult,
    RawRun,
    SessionArtifact,
    Summary,
    Verdict,
)
from pytest_espperf.model.verdicts import VerdictWord

DATA = paths.DATA / "history"
FIELDS: dict[str, Any] = {
    "board": "bench-1",
    "engine": "e/1",
    "profiles": {"python_heavy": {"clients": 12}, "python_light": {"clients": 12}},
}


def session(
    session_id: str = "a1b2c3d4",
    timestamp: str = "20260101T000000Z",
    *,
    tag: str = "",
    verdict: VerdictWord | None = "unchanged",
    fields: dict[str, Any] | None = None,
    p95: float = 30.0,
) -> SessionArtifact:
    """A small session with one phase."""
    report = PhaseReport(requests_total=10, ok=10, p95_ms=p95)
    return SessionArtifact(
        session_id=session_id,
        timestamp_utc=timestamp,
        tag=tag,
        target="192.168.0.135:8080",
        profiles=["python_heavy"],
        runs_per_profile=1,
        overall_pass=True,
        raw_runs=[
            RawRun(
                profile="python_heavy",
                run_index=1,
                results=[PhaseResult(profile="python_heavy", phase="burst", passed=True, report=report)],
            )
        ],
        aggregated={
            "python_heavy:burst": CellAggregate(
                profile="python_heavy", phase="burst", p95_ms=Summary(median=p95)
            )
        },
        gate=None if verdict is None else Verdict(kind=verdict),
        comparability=Comparability(key="k", fields=FIELDS if fields is None else fields),
    )


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
stamps = st.datetimes().map(lambda moment: moment.isoformat(timespec="seconds") + "Z")


def any_of(kind: Any) -> st.SearchStrategy[Any]:
    """Any value of a type that the artifact uses."""
    if kind is Any:
        return json_values
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        hints = typing.get_type_hints(kind)
        return st.builds(kind, **{name: any_of(hints[name]) for name in kind.__struct_fields__})
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        return st.sampled_from(inner)
    if origin in (typing.Union, types.UnionType):
        return st.one_of([st.none() if one is type(None) else any_of(one) for one in inner])
    if origin is list:
        return st.lists(any_of(inner[0]), max_size=2)
    if origin is dict:
        return st.dictionaries(st.text(max_size=8), any_of(inner[1]), max_size=2)
    plain: dict[Any, st.SearchStrategy[Any]] = {
        int: st.integers(-(2**63), 2**63 - 1),
        float: st.floats(allow_nan=False, allow_infinity=False),
        str: st.text(max_size=12),
        bool: st.booleans(),
    }
    return plain[kind]


sessions: st.SearchStrategy[SessionArtifact] = st.builds(
    lambda artifact, stamp: msgspec.structs.replace(artifact, schema_version=1, timestamp_utc=stamp),
    any_of(SessionArtifact),
    stamps,
)
