"""A shared history as the commands see it, on several machines."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from support import cli_history
from support.benches import Bench, quick_disk  # noqa: F401 - for every test
from support.history_samples import session

from pytest_espperf.cli import main
from pytest_espperf.config.lookup import resolve
from pytest_espperf.errors import UsageError
from pytest_espperf.history import HistoryStore, names
from pytest_espperf.history.names import parse_stamp
from pytest_espperf.history.shared import cache, objects, remote, sharing
from pytest_espperf.history.shared.sharing import Sent, Sharing, sharing_at
from pytest_espperf.session.folder import history_folder, sharing_of

Machine = Callable[[str], None]


@pytest.fixture
def on(share: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Go to another machine, whose user has the shared history in the environment."""

    def go(name: str) -> None:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sharing, "cache_root", lambda: folder / "cache")
        monkeypatch.setenv("ESPPERF_PERF_HISTORY", share.as_uri())

    go("a")
    return go


@pytest.fixture
def others(share: Path, tmp_path: Path) -> Bench:
    """A bench that has shared three sessions."""
    bench = Bench(share.as_uri(), tmp_path / "others")
    for number in (1, 2, 3):
        bench.save(f"session-{number}", f"2026010{number}T000000Z", tag=f"t{number}")
    bench.sync.push()
    return bench


def test_each_command_that_reads_sees_what_others_have_saved(
    on: Machine, others: Bench, share: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["list", "--json"]) == 0
    said = capsys.readouterr()
    assert [json.loads(line)["session_id"] for line in said.out.splitlines()] == sorted(others.ids())
    assert said.err == ""
    others.save("session-4", "20260104T000000Z")
    others.sync.push()
    assert main(["show", "latest", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["session_id"] == "session-4"
    on("b")
    assert main(["compare", "session-1", "session-2"]) == 0
    on("c")
    assert main(["export", "latest", "csv"]) == 0
    on("d")
    assert main(["list", "--perf-history", f"{share.as_uri()}/", "--last", "1"]) == 0
    assert "session-4"[:8] in capsys.readouterr().out


@pytest.fixture
def entered(monkeypatch: pytest.MonkeyPatch) -> list[remote.Remote]:
    """Each connection to a shared history."""
    entered: list[remote.Remote] = []
    enter = remote.Remote.__enter__

    def counted(self: remote.Remote) -> remote.Remote:
        entered.append(self)
        return enter(self)

    monkeypatch.setattr(remote.Remote, "__enter__", counted)
    return entered


def test_two_sessions_of_one_command_need_one_pull(
    on: Machine, others: Bench, entered: list[remote.Remote]
) -> None:
    entered.clear()
    assert main(["compare", "session-1", "session-2"]) == 0
    assert len(entered) == 1


def test_a_decision_is_shared_at_once_and_can_be_undone_elsewhere(on: Machine, others: Bench) -> None:
    assert main(["accept", "t1", "--reason", "TLS by default"]) == 0
    assert main(["pin", "t2"]) == 0
    on("b")
    assert main(["accept", "t1", "--undo"]) == 0
    others.sync.pull()
    assert others.decided() == {
        "session-1": (None, False),
        "session-2": (None, True),
        "session-3": (None, False),
    }
    assert [name.split("_")[0] for name in others.there(objects.MARKS)] == ["accept", "pin", "unaccept"]


def test_what_is_imported_is_shared_and_what_is_there_is_not_imported_again(
    on: Machine, others: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = HistoryStore(tmp_path / "own")
    own.prepare()
    own.save(session("session-1", "20260101T000000Z"), latest=True)
    own.save(session("session-9", "20260109T000000Z"), "# nine\n", latest=True)
    own.accept("session-9", "meant")
    assert main(["import", str(own.folder), "--dry-run"]) == 0
    others.sync.pull()
    assert "session-9" not in others.ids()
    assert main(["import", str(own.folder)]) == 0
    assert "session-1 is here already" in capsys.readouterr().out
    others.sync.pull()
    assert others.ids() == ["session-1", "session-2", "session-3", "session-9"]
    assert others.decided()["session-9"] == ("meant", False)


def test_a_shared_history_can_be_copied_into_a_folder_that_shares_nothing(
    on: Machine, others: Bench, share: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    others.store.accept("t1", "meant")
    others.sync.push()
    before = others.there(objects.SESSIONS)
    assert main(["import", share.as_uri(), "--perf-history=apart"]) == 0
    apart = HistoryStore(Path("apart"))
    assert [one.session_id for one in apart.sessions()] == others.ids()
    assert apart.find("t1").artifact.accepted is not None
    apart.save(session("session-mine", "20260105T000000Z"), latest=True)
    assert main(["import", share.as_uri(), "--perf-history=apart"]) == 0
    assert others.there(objects.SESSIONS) == before
    share.rename(share.with_name("gone"))
    on("b")
    capsys.readouterr()
    assert main(["import", share.as_uri(), "--perf-history=apart"]) == 1
    assert "there is no folder" in capsys.readouterr().err


def test_a_shared_history_is_not_pruned(
    on: Machine, others: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["prune", "--keep", "0", "--yes"]) == 4
    error = capsys.readouterr().err
    assert "nothing is removed from a shared history" in error
    assert "espperf import" in error
    assert error.count("\n") == 1
    assert len(others.there(objects.SESSIONS)) == 6


def test_without_the_share_commands_go_on_with_the_copy_and_say_how_old_it_is(
    on: Machine, others: Bench, share: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["list"]) == 0
    on("b")
    assert main(["list"]) == 0
    place = cache.Cache(others.url, next((Path("cache")).iterdir()))
    with place.locked(1.0) as state:
        old = datetime.now(timezone.utc) - timedelta(days=3, hours=1)
        state.pulled_at = names.format_stamp(old)
    share.rename(share.with_name("gone"))
    capsys.readouterr()
    assert main(["list", "--json"]) == 0
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == 3
    assert f"copy of {old:%Y-%m-%d %H:%M} UTC, 3 days old, 3 sessions" in said.err
    assert main(["accept", "t1", "--reason", "meant"]) == 0
    said = capsys.readouterr()
    assert "accepted perf_" in said.out
    assert f"NOT SHARED: {share.as_uri()} still cannot be used, see above; it is kept" in said.err
    on("c")
    assert main(["list"]) == 4
    assert "there is no copy of" in capsys.readouterr().err
    share.with_name("gone").rename(share)
    on("b")
    assert main(["list"]) == 0
    assert capsys.readouterr().err == ""
    others.sync.pull()
    assert others.decided()["session-1"] == ("meant", False)


def test_what_cannot_be_used_is_named(on: Machine, others: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    others.put(objects.SESSIONS, {f"broken-{number}.json": b"{" for number in range(7)})
    assert main(["list"]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in lines] == ["skipped"] * 5 + ["WARNING"]
    assert "2 more objects" in lines[-1]


def test_a_verdict_is_the_same_on_every_machine(
    on: Machine, share: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = cli_history.fill(tmp_path / "own", [1.0, 1.01, 0.99, 1.0, 1.3])
    assert main(["import", str(store.folder)]) == 0
    verdicts = []
    for machine in ("a", "b"):
        on(machine)
        capsys.readouterr()
        code = main(["judge", "day4", "--json"])
        verdicts.append((code, json.loads(capsys.readouterr().out)["gate"]["verdict"]))
    assert verdicts[0] == verdicts[1]
    assert verdicts[0][1] == "regressed"


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("s3://AKIA:hunter2@bucket/x", "holds a password or a key"),
        ("https://lab/x", "is no address of a shared history"),
        ("gs://bucket/x", "needs gcsfs: pip install 'pytest-espperf[remote]' gcsfs"),
    ],
)
def test_a_url_that_cannot_be_used_is_one_sentence(
    on: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], url: str, says: str
) -> None:
    monkeypatch.setattr(remote, "find_spec", lambda name: None if name == "gcsfs" else object())
    for words in (["list"], ["show", "latest"], ["accept", "x", "--reason", "y"], ["report"], ["prune"]):
        if words == ["prune"] and url.startswith("gs:"):
            continue
        assert main([*words, f"--perf-history={url}"]) == 4
        error = capsys.readouterr().err
        assert error.startswith("espperf: --perf-history: ")
        assert says in error
        assert error.count("\n") == 1
        assert "hunter2" not in error
    monkeypatch.setenv("ESPPERF_PERF_HISTORY", url)
    assert main(["list"]) == 4
    assert capsys.readouterr().err.startswith("espperf: environment variable ESPPERF_PERF_HISTORY: ")


def test_a_folder_of_a_machine_is_what_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    monkeypatch.chdir(tmp_path)
    for given, folder in {
        "": tmp_path / "tools" / "perf_history",
        "x/y": tmp_path / "x" / "y",
        "~/z": home / "z",
        str(home): home,
    }.items():
        settings = resolve({"perf_history": given or None}, {}, {})
        assert history_folder(settings, tmp_path) == folder
        found = sharing_of(settings, tmp_path)
        assert found.sync is None
        assert found.pull(pytest.fail)
        found.push(pytest.fail)
        assert not folder.exists()


def test_a_url_is_a_folder_below_the_users_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "cache_root", lambda: tmp_path / "cache")
    settings = resolve({}, {}, {"perf_history": "s3://bucket/team/"}, "pytest.ini")
    found = sharing_of(settings, tmp_path)
    assert found.sync is not None
    assert str(found.sync.url) == "s3://bucket/team"
    assert found.source == "perf_history in pytest.ini"
    assert history_folder(settings, tmp_path) == found.folder
    assert found.folder.parent == tmp_path / "cache"
    assert not (tmp_path / "cache").exists()
    with pytest.raises(UsageError, match=r"^perf_history in pytest\.ini: .* password"):
        sharing_of(resolve({}, {}, {"perf_history": "s3://a:b@c"}, "pytest.ini"), tmp_path)


def test_a_session_is_told_what_it_is_judged_against(share: Path, others: Bench, tmp_path: Path) -> None:
    own = Sharing(HistoryStore(tmp_path / "mine"), Bench(share.as_uri(), tmp_path / "mine").sync)
    said: list[str] = []
    assert own.pull(said.append)
    assert said == [f"shared history {share.as_uri()}: 3 sessions, 3 new on this machine"]
    assert own.findings == []
    others.put(objects.SESSIONS, {"broken-one.json": b"{"})
    assert own.pull(said.append)
    share.rename(share.with_name("gone"))
    assert not own.pull(said.append)
    assert [(one.severity, one.kind) for one in own.findings] == [
        ("warn", "unreadable-artifact"),
        ("warn", "shared-history"),
    ]
    assert said[-1] == f"WARNING: {own.findings[-1].message}"


def test_what_became_of_sending_is_one_line_with_the_age_of_the_copy(
    share: Path, others: Bench, tmp_path: Path
) -> None:
    bench = Bench(share.as_uri(), tmp_path / "mine")
    own = Sharing(bench.store, bench.sync)
    assert own.pull(pytest.fail, quiet=True)
    copied = parse_stamp(bench.sync.pulled_at())
    assert copied is not None
    age = f"this machine's copy is of {copied:%Y-%m-%d %H:%M} UTC, less than a minute old"
    said: list[str] = []
    bench.save("session-4", "20260104T000000Z")
    own.push(said.append, quiet=False)
    own.push(said.append, quiet=False)
    bench.save("session-5", "20260105T000000Z")
    bench.save("session-6", "20260106T000000Z")
    bench.store.pin("session-5")
    assert own.pull(said.append)  # another process of this machine's was cut short, perhaps
    assert said == [
        f"shared: 1 session to {share.as_uri()} (4 sessions there; {age})",
        f"shared: nothing new to {share.as_uri()} (4 sessions there; {age})",
        f"shared history {share.as_uri()}: 4 sessions, 0 new on this machine",
        f"shared: 2 sessions and 1 decision to {share.as_uri()} (6 sessions there; {age})",
    ]
    said.clear()
    share.rename(share.with_name("gone"))
    bench.save("session-7", "20260107T000000Z")
    own.push(said.append)
    own.pull(said.append)
    own.push(said.append)
    kept = "it is kept on this machine and is sent by the next session or command that reaches it"
    assert said[0].startswith(f"NOT SHARED: {share.as_uri()} cannot be used now: there is no folder {share}")
    assert said[0].endswith(f"; {kept} ({age})")
    assert said[2] == f"NOT SHARED: {share.as_uri()} still cannot be used, see above; {kept} ({age})"


def test_a_clock_that_differs_from_another_benchs_is_said(share: Path, others: Bench, tmp_path: Path) -> None:
    bench = Bench(share.as_uri(), tmp_path / "mine")
    own = Sharing(bench.store, bench.sync)
    others.save("session-ahead", "20990101T000000Z")
    others.sync.push()
    own.pull(lambda _: None)
    saved = own.store.save(session("session-now", "20260201T000000Z"), latest=True)
    said: list[str] = []
    for _ in range(2):  # another board of the same run says it no second time
        own.after_saving(saved, said.append)
    assert len(said) == 1
    assert "perf_20990101T000000Z.json is later than this session" in said[0]
    assert "this machine's clock, or that of the bench" in said[0]
    assert said[0].endswith("and counts as the oldest")
    alone = Sharing(HistoryStore(bench.folder))
    alone.after_saving(saved, said.append)
    assert "WARNING: the clock was set back: " in said[-1]
    alone.send_saved(lambda _: pytest.fail("nothing is shared"))


class Run:
    """A run over three boards, from its first pull to what became of its push."""

    def __init__(self, sharing: Sharing) -> None:
        self.sharing = sharing
        self.said: list[str] = []
        self.sent: list[Sent] = []

    def pull(self) -> None:
        for _ in range(3):
            self.sharing.pull_once(self.said.append)

    def save(self) -> None:
        for board in ("x", "y", "z"):
            artifact = session(f"session-{board}", "20260201T000000Z", tag=board)
            self.sharing.after_saving(self.sharing.store.save(artifact, latest=True), self.said.append)

    def send(self) -> None:
        self.sharing.send_saved(self.sent.append)


@pytest.fixture
def run(share: Path, tmp_path: Path) -> Run:
    bench = Bench(share.as_uri(), tmp_path / "mine")
    return Run(Sharing(bench.store, bench.sync))


def test_the_sessions_of_all_boards_come_and_go_over_one_connection_each(
    run: Run, share: Path, others: Bench, entered: list[remote.Remote]
) -> None:
    entered.clear()
    run.pull()
    assert run.said == [f"shared history {share.as_uri()}: 3 sessions, 3 new on this machine"]
    assert len(entered) == 1
    run.send()
    assert run.sent == [], "nothing was saved"
    run.save()
    assert len(others.there(objects.SESSIONS)) == 6, "what is saved first of all stays here"
    entered.clear()
    run.send()
    assert len(entered) == 1
    assert run.sent[-1].arrived
    assert run.sent[-1].text.startswith(f"shared: 3 sessions to {share.as_uri()} (6 sessions there; ")
    others.sync.pull()
    assert {"session-x", "session-y", "session-z"} < set(others.ids())


def test_what_does_not_arrive_of_several_boards_is_said_once_and_made_up_for(
    run: Run, share: Path, others: Bench, entered: list[remote.Remote]
) -> None:
    gone = share.rename(share.with_name("gone"))
    entered.clear()
    run.pull()
    run.save()
    run.send()
    assert len(entered) == 2
    assert [line.split(":")[0] for line in run.said] == ["WARNING"]
    assert len(run.sharing.findings) == 1
    sent = run.sent[-1]
    assert not sent.arrived
    assert sent.text.startswith(
        f"NOT SHARED: {share.as_uri()} still cannot be used, see above; 3 sessions of"
    )
    assert [finding.scope for finding in run.sharing.findings] == ["run"], "said once for all boards"
    gone.rename(share)
    assert run.sharing.pull(run.said.append)
    assert f"shared: 3 sessions to {share.as_uri()} (6 sessions there; " in run.said[-1]


def test_a_push_that_is_not_waited_for_is_said_and_made_up_for(
    run: Run, share: Path, others: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.pull()
    run.save()
    with monkeypatch.context() as pressed:
        pressed.setattr(remote.Remote, "write", lambda *_: signal.raise_signal(signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            run.send()
    (sent,) = run.sent
    assert not sent.arrived
    assert f"{share.as_uri()} was not waited for; 3 sessions of this run are kept on this mac" in sent.text
    assert run.sharing.pull(run.said.append)
    assert run.said[-1].startswith("shared: 3 sessions to ")


def test_a_command_is_a_process_that_ends(share: Path, others: Bench, tmp_path: Path) -> None:
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache"), "HOME": str(tmp_path)}
    done = subprocess.run(
        [
            sys.executable,
            "-W",
            "error",
            "-m",
            "pytest_espperf.cli",
            "list",
            f"--perf-history={share.as_uri()}",
        ],
        capture_output=True,
        text=True,
        timeout=100,
        env=environment,
        check=True,
    )
    assert len(done.stdout.splitlines()) == 5
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("seconds", "words"), [(5, "less than"), (60, "1 minute"), (7200, "2 hours"), (1e6, "11 days")]
)
def test_an_age_is_said_in_words(seconds: float, words: str) -> None:
    assert sharing._age(seconds).startswith(words)


def test_an_address_is_no_folder_of_this_machine(tmp_path: Path) -> None:
    assert sharing_at("./s3:x", tmp_path, "here").sync is None
    with pytest.raises(UsageError, match="two slashes"):
        sharing_at("s3:/x", tmp_path, "here")
