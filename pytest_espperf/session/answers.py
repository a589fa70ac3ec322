"""Every path of a session, asked once before the load: the answers are kept, and a wrong one ends it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pytest_espperf import load
from pytest_espperf.config.parsers import file_of
from pytest_espperf.load.login import DURING
from pytest_espperf.model.artifact import PathAnswer
from pytest_espperf.model.computer import LOCAL
from pytest_espperf.model.error_kinds import LOGIN
from pytest_espperf.model.workload import Profile, RequestSpec, Target

MOST_TIMEOUTS = 4
"""Request timeouts, of a second at least, that all of it may take."""

TRIES = 3
"""Requests for a path that does not answer right, at most; two of them must fail to end the session."""

PAUSE_S = 0.25
"""Seconds before the second try; before the third one twice as long."""

LEAST_S = 0.5
"""Seconds below which a try is not begun."""

BUSY = frozenset({429, 503, 504})
"""Statuses of a board that has too much to do, or of a rate limiter: no reason to end a session."""

UNREADABLE = "gives no answer that can be read"

SHOWN = 3
"""Wrong answers that one message names."""


@dataclass
class Asker:
    """Asks for the paths of a session.

    Attributes:
        target: the board.
        timeout_s: of each request.
        transport: makes the user's own httpx transport in place of our connections.
        clock: monotonic seconds.
        sleep: seconds -> None.
        answers: what came so far, by profile and path.
        took_ms: milliseconds that the last answer took, likewise.
        wrong: what fails a session, each in words.
    """

    target: Target
    timeout_s: float
    transport: load.TransportFactory | None = None
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    answers: dict[str, dict[str, PathAnswer]] = field(default_factory=dict)
    took_ms: dict[str, dict[str, float]] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def ask(self, profiles: Iterable[Profile], budget_s: float) -> None:
        """Ask for every path of the profiles; a wrong answer is asked for again before it counts.

        Args:
            profiles: in order.
            budget_s: of all together; paths for which no time is left are not asked.
        """
        ends = self.clock() + min(budget_s, MOST_TIMEOUTS * max(1.0, self.timeout_s))
        for profile in profiles:
            if ends - self.clock() < LEAST_S or not self._ask_profile(profile, ends):
                return

    def _ask_profile(self, profile: Profile, ends: float) -> bool:
        """Ask for the paths of one profile; return whether to go on, unlike with a board that hangs."""
        kept = self.answers.setdefault(profile.name, {})
        failures: dict[str, int] = {}
        waiting = _asked_first(profile)
        for number in range(TRIES):
            left_s = ends - self.clock() - number * PAUSE_S
            if not waiting or left_s < LEAST_S:
                break
            self.sleep(number * PAUSE_S)
            # Half of what is left, so that a path that hangs can be asked once more.
            asked = self._ask_each(profile, waiting, left_s if number else left_s / 2)
            again, unasked = [], []
            for spec, one in zip(waiting, asked, strict=True):
                if one is None:
                    unasked.append(spec)
                elif not self._keep(profile, spec, one, failures):
                    again.append(spec)
            waiting = [*again, *unasked]
            if _is_lost(kept, failures):
                break
        for path, answer in kept.items():
            if answer.trouble and failures[path] > 1:
                said = sentence(path, answer, profile)
                self.wrong += [said] if said not in self.wrong else []
        return not _is_lost(kept, failures)

    def _keep(self, profile: Profile, spec: RequestSpec, one: load.Asked, failures: dict[str, int]) -> bool:
        """Keep what one path answered, and count its failures; return whether that is all of it."""
        kept = self.answers[profile.name]
        if not profile.asked and not one.error:  # a login alone, which is no path
            kept.clear()
            return True
        kept[spec.label] = describe(one)
        self.took_ms.setdefault(profile.name, {})[spec.label] = one.took_ms
        if not one.error:
            return True
        boards = one.status not in BUSY and not one.error.startswith(LOCAL)
        failures[spec.label] = failures.get(spec.label, 0) + boards
        return failures[spec.label] >= 2 and _is_settled(one)

    def _ask_each(
        self, profile: Profile, requests: Sequence[RequestSpec], budget_s: float
    ) -> list[load.Asked | None]:
        if profile.login is not None and not profile.asked:
            asked = load.ask_login(
                self.target,
                profile.login,
                headers=profile.headers,
                timeout_s=self.timeout_s,
                budget_s=budget_s,
                transport=self.transport,
            )
            return [asked]
        return load.ask_each(
            self.target,
            requests,
            headers=profile.headers,
            timeout_s=self.timeout_s,
            budget_s=budget_s,
            transport=self.transport,
            login=profile.login,
        )

    @property
    def reason(self) -> str:
        """The reason why the session ends, in one sentence; "" where it goes on."""
        more = f"; and {len(self.wrong) - SHOWN} more" if len(self.wrong) > SHOWN else ""
        return "; ".join(self.wrong[:SHOWN]) + more


def _asked_first(profile: Profile) -> list[RequestSpec]:
    """List what is asked for: the paths, or the login alone of a profile that has streams alone."""
    logins = [] if profile.login is None else [profile.login.request]
    return list(profile.asked) or logins


def _is_lost(kept: Mapping[str, PathAnswer], failures: Mapping[str, int]) -> bool:
    """Whether a path gave no complete answer twice: others may take as long to do the same."""
    return any(answer.status is None and failures.get(path, 0) > 1 for path, answer in kept.items())


def _is_settled(asked: load.Asked) -> bool:
    """Whether two tries are enough; a board that fails now and then may answer 500."""
    return asked.status is None or asked.status < 500


def describe(asked: load.Asked) -> PathAnswer:
    """Describe an answer for the artifact."""
    seen = asked.answer
    return PathAnswer(
        status=asked.status,
        body_bytes=seen.body_bytes if seen is not None else None,
        content_type=seen.content_type if seen is not None else "",
        encoding=seen.encoding if seen is not None else "",
        trouble=_trouble(asked) if asked.error else "",
    )


def _trouble(asked: load.Asked) -> str:
    if asked.error == LOGIN:
        return asked.reason
    if asked.reason.startswith(DURING):
        return f"{DURING}{UNREADABLE}: {asked.error}: {asked.reason.removeprefix(DURING)}"
    if asked.error == f"http_{asked.status}":
        return f"answers {asked.status}"
    if asked.status is not None:
        return f"answers {asked.status}, but {asked.reason} ({asked.error})"
    return f"{UNREADABLE}: {f'{asked.error}: {asked.reason}'.rstrip(': ')}"


def sentence(path: str, answer: PathAnswer, profile: Profile) -> str:
    """Say what is wrong with an answer: ``/nosuch answers 404 (profile shop, pyproject.toml)``.

    A login that fails is named once, without the paths that wait for it.
    """
    what = f"{path} {answer.trouble}"
    if answer.trouble.startswith(DURING) and profile.login is not None:
        label = profile.login.request.label
        met = answer.trouble.removeprefix(DURING)
        what = answer.trouble if met.startswith(label) else f"{DURING}{label} {met}"
    return f"{what} (profile {profile.name}, {file_of(profile.source)})"
