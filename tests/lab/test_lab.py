"""Boards of a labgrid environment: against labgrid's own coordinator, exporter and client, on loopback.

labgrid brings pyserial-labgrid, whose files are pyserial's: it is in no environment that has the dev extra.
``pip install -e ".[lab-test]"`` in one of its own, and there ``pytest -p no:labgrid tests/test_lab.py``;
likewise tests/test_lab_runs.py.
"""

from __future__ import annotations

import importlib.util
import json
import re
import socket
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib import metadata
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import ClassVar

import pytest
from support.lab_bench import HOST, USER, LabBench, service

from pytest_espperf.errors import DeviceError, UsageError
from pytest_espperf.lab import Lab, LabBoard, load_lab
from pytest_espperf.lab import places as module

SOURCE = "--device-lab"
needs_labgrid = pytest.mark.skipif(
    importlib.util.find_spec("labgrid") is None,
    reason="labgrid is not installed here; in an environment of its own: pip install -e '.[lab-test]'",
)
Write = Callable[..., Path]
InLab = Callable[..., dict[str, LabBoard]]
PATIENCE_S = 60.0


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write an environment file, and give its path."""

    def write(text: str, name: str = "env.yaml") -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_a_missing_file_is_an_error_and_no_skip(tmp_path: Path) -> None:
    for path in (tmp_path / "env.yaml", tmp_path, tmp_path / ("x" * 300)):
        with pytest.raises(
            UsageError, match=r"^--device-lab: .* is not there, or is no file: name a labgrid"
        ):
            load_lab(path, SOURCE)


@pytest.mark.parametrize("spec", [None, ModuleSpec("labgrid", None)], ids=["no package", "only a folder"])
def test_where_labgrid_is_missing_it_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, write: Write, spec: ModuleSpec | None
) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    with pytest.raises(UsageError, match=r"pip install 'pytest-espperf\[lab\]'"):
        load_lab(write("targets: {}"), SOURCE)


def test_on_windows_it_says_that_labgrid_does_not_run_there(
    monkeypatch: pytest.MonkeyPatch, write: Write
) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(UsageError, match="does not run on Windows; give the boards by --device-ip"):
        load_lab(write("targets: {}"), SOURCE)


@pytest.mark.parametrize(
    ("place", "name"),
    [("esp-1", "esp-1"), ("rack/esp 1", "rack/esp 1"), ("+", "main"), ("+TOKEN", "main")],
)
def test_a_board_is_called_as_its_place_or_as_its_target_where_a_reservation_gives_it(
    place: str, name: str
) -> None:
    assert module._identity("main", [place]) == name


def made(target: str, *patterns: str, path: Path = Path("env.yaml")) -> LabBoard:
    """A board as a file would give it."""
    return LabBoard(module._identity(target, patterns), target, path, "127.0.0.1:9", patterns)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (made("a", "esp-1"), made("b", "esp-1")),
        (made("a", "esp-1"), made("b", "ESP-1")),
        (made("a", "+"), made("b", "+")),
        (made("a", "+T"), made("b", "+T")),
        (made("a", "+"), made("b", "a")),
    ],
)
def test_two_targets_of_one_board_are_seen(left: LabBoard, right: LabBoard) -> None:
    assert module._same([made("c", "esp-3"), left, made("d"), right]) == (left, right)
    assert module._same([left, made("d"), made("e", "+U")]) is None


def test_two_targets_at_one_address_of_the_file_are_one_board() -> None:
    boards = [made("a"), made("b"), made("c"), made("d", "10.0.0.9:81")]
    for board, address in zip(boards, [("Esp", 80), ("esp", 81), ("esp", 80)], strict=False):
        board.address = address
    assert module._same(boards) == (boards[0], boards[2])
    assert module._shared(boards[0], boards[2]) == "esp:80"
    assert module._same(boards[:2]) is None


class Told:
    """In place of the process that watches: says what the test says."""

    news_to_come: ClassVar[list[dict[str, object]]] = []
    deaths = 0

    def __init__(self, *_: object) -> None:
        self.ended = ""

    def news(self, within_s: float = 0.0) -> list[dict[str, object]]:
        if Told.deaths and not within_s:
            Told.deaths -= 1
            self.ended = "exit code -9"
        news, Told.news_to_come = Told.news_to_come, []
        return news

    def close(self) -> None:
        pass


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> LabBoard:
    """A board in place esp-1, whose time stands still and whose coordinator the test speaks for."""
    monkeypatch.setattr(module, "Watch", Told)
    monkeypatch.setattr(Told, "news_to_come", [{"held": True, "at": 0.0}])
    monkeypatch.setattr(Told, "deaths", 0)
    board = made("a", "esp-1")
    board.places = ("esp-1",)
    board.clock = lambda: 0.0
    board._start_watch()
    return board


def test_only_a_long_silence_in_one_piece_is_a_loss(watched: LabBoard) -> None:
    silent = "for {} s it was not known whether place esp-1 was held: it is down"
    now = 0.0
    watched.clock = lambda: now
    story: list[tuple[float, dict[str, object], str]] = [
        (100.0, {"silent": "it is down", "at": 95.0}, ""),
        (154.0, {}, ""),
        (160.0, {"held": True, "at": 159.0}, ""),
        (500.0, {"silent": "it is down", "at": 495.0}, ""),
        (554.0, {}, ""),
        (555.0, {}, silent.format(60)),
        (570.0, {}, silent.format(75)),
        (571.0, {"held": True, "at": 571.0}, ""),
        (900.0, {"silent": "it is down", "at": 900.0}, ""),
        (901.0, {"problem": "ask again", "lost": "place esp-1 is gone"}, "place esp-1 is gone"),
        (902.0, {}, "place esp-1 is gone"),
    ]
    for now, news, says in story:
        Told.news_to_come = [news] if news else []
        assert watched.held() == says, now
    assert watched.describe()["notes"] == [silent.format(64), silent.format(76)]


def test_a_loss_stays_one_though_the_place_is_ours_again(watched: LabBoard) -> None:
    Told.news_to_come = [{"problem": "x", "lost": "place esp-1 is gone"}, {"held": True, "at": 1.0}]
    assert watched.held() == watched.held() == "place esp-1 is gone"


def test_what_watches_may_die_and_is_started_again_and_that_is_said(watched: LabBoard) -> None:
    Told.deaths = 1
    assert watched.held() == ""
    assert watched.held() == ""
    notes = watched.describe()["notes"]
    assert notes[0] == "what watches place esp-1 had ended (exit code -9): started again"


# What labgrid itself is asked.


@pytest.fixture
def load(write: Write, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Lab]:
    """The lab of an environment's text; nobody listens where it has its coordinator."""
    monkeypatch.setenv("LG_COORDINATOR", "127.0.0.1:9")
    return lambda text: load_lab(write(text), SOURCE)


@needs_labgrid
def test_each_target_is_a_board_in_the_files_order(
    load: Callable[[str], Lab], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LG_PLACE", "esp-7")
    monkeypatch.setenv("LG_TOKEN", "TOKEN")
    monkeypatch.setenv("PYTHONWARNINGS", "error")
    lab = load("""
        targets:
          zulu: {resources: {RemotePlace: {name: !template "$LG_PLACE"}}}
          alpha: {resources: [{RemotePlace: {name: esp-2}}]}
          mike: {resources: {RemotePlace: {name: "+"}}}
          fixed: {resources: {NetworkService: {address: 127.0.0.1, port: 8080, username: "-"}}}
        imports: [/there/is/no/such/module.py]
    """)
    assert [(board.target, board.name) for board in lab.boards] == [
        ("zulu", "esp-7"),
        ("alpha", "esp-2"),
        ("mike", "mike"),
        ("fixed", "fixed"),
    ]
    assert {board.coordinator for board in lab.boards} == {"127.0.0.1:9"}
    assert [board.address for board in lab.boards] == [None, None, None, ("127.0.0.1", 8080)]


@needs_labgrid
@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "Configuration file is empty"),
        ("targets: {a: ", "while parsing a flow"),
        ("just words", "is no labgrid environment, a mapping with 'targets'"),
        ("[targets]", "is no labgrid environment"),
        ("options: {}", "has no targets: give it one per board"),
        ("targets: {}", "has no targets"),
        ("targets: [a]", "has no targets"),
        ("targets: {a: {}}", "target a has no RemotePlace and no NetworkService: name its board's place"),
        ("targets: {a: {resources: {RawSerialPort: {port: x}}}}", "target a has no RemotePlace and no"),
        ("targets: {a: }", "target a has no 'resources' as labgrid reads them"),
        ("targets: {a: {resources: {RemotePlace: }}}", "target a has no 'resources' as labgrid reads them"),
        ("targets: {a: {resources: 5}}", "target a: invalid type <class 'int'>"),
        (
            "targets: {a: {resources: [{NetworkService: {password: PW}, x: 1}]}}",
            "target a: missing 'cls' key",
        ),
        ("targets: {a: {resources: {RemotePlace: {}}}}", "target a: RemotePlace needs a name"),
        ("targets: {a: {resources: {RemotePlace: {name: 5}}}}", "target a: RemotePlace needs a name"),
        ('targets: {a: {resources: {RemotePlace: {name: "e\\0"}}}}', "RemotePlace needs a name of printable"),
        ("targets: {5: {resources: {RemotePlace: {name: a}}}}", "target 5 needs a name of printable text"),
        (
            'targets: {a: {resources: {RemotePlace: {name: "+"}}}}',
            "takes the place of a reservation, and LG_TOKEN",
        ),
        (
            'targets: {a: {resources: {RemotePlace: {name: !template "$LG_NO"}}}}',
            "the variable LG_NO, which is not",
        ),
        ('targets: {a: {resources: {RemotePlace: {name: !template "$ 5"}}}}', "Invalid template string"),
        (
            "targets: {a: {resources: {NetworkService: {address: x}}}}",
            "NetworkService needs address and username",
        ),
        (
            "targets: {a: {resources: {NetworkService: {address: x, username: u, port: '8', password: PW}}}}",
            "NetworkService needs address and username",
        ),
        ('targets: {"a\\e[31m": {}}', "the target 'a\\x1b[31m' needs a name of printable text"),
        (
            "targets: {a: {resources: {NetworkService: {address: x, username: u}}}}",
            "has port 22, labgrid's default",
        ),
        (
            "targets: {a: {resources: {RemotePlace: {name: x}}}, a: {resources: {RemotePlace: {name: y}}}}",
            "a key stands twice, and labgrid would take the last",
        ),
        (
            "targets: {a: {resources: {RemotePlace: {name: x}}}}\noptions: {coordinator_address: 20408}",
            "options.coordinator_address must be HOST:PORT",
        ),
    ],
)
def test_a_file_that_is_no_environment_of_boards_is_named_with_what_to_do(
    write: Write, monkeypatch: pytest.MonkeyPatch, text: str, says: str
) -> None:
    # Asked in this process, where labgrid is anyhow as a plugin of pytest's: a process for each is slow.
    from pytest_espperf.lab import __main__ as labgrid

    monkeypatch.delenv("LG_TOKEN", raising=False)
    with pytest.raises(labgrid.Problem) as caught:
        labgrid.read(lambda **_: None, str(write(text)))
    assert says in str(caught.value)
    assert "PW" not in str(caught.value)


@needs_labgrid
def test_what_is_wrong_with_a_file_is_one_sentence_of_plain_text(load: Callable[[str], Lab]) -> None:
    with pytest.raises(UsageError, match=r"^--device-lab: .*env.yaml: .*while parsing a flow") as caught:
        load("targets: {a: {resources: {RemotePlace: {name: x}}\nb: 5")
    assert str(caught.value).isprintable()


@needs_labgrid
def test_two_targets_that_are_one_board_are_refused(load: Callable[[str], Lab]) -> None:
    with pytest.raises(UsageError) as caught:
        load("""
            targets:
              left: {resources: {RemotePlace: {name: esp-1}}}
              right: {resources: {RemotePlace: {name: esp-1}}}
        """)
    assert str(caught.value).endswith(
        "env.yaml: the targets left and right are one board, esp-1: give each board one target"
    )


@needs_labgrid
def test_an_address_in_the_file_needs_no_coordinator(write: Write) -> None:
    text = "targets: {a: {resources: {NetworkService: {address: 192.0.2.7, port: 8080, username: '-'}}}}"
    board = made("a", path=write(text))
    assert board.locate() == ("192.0.2.7", 8080)
    assert board.held() == ""
    assert board.describe()["labgrid"] == metadata.version("labgrid")


@needs_labgrid
@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("import sys\nprint('chatter')\nsys.exit('enough of this')", "exit code 1, .*: enough of this$"),
        ("raise ValueError('no \\x1b[31m good')", r"labgrid failed with ValueError: no \?\[31m good$"),
    ],
)
def test_a_module_of_the_users_takes_nobody_with_it(write: Write, body: str, says: str) -> None:
    write(body, "theirs.py")
    with pytest.raises(DeviceError, match=says):
        made("main", path=write("imports: [theirs.py]")).locate()


@needs_labgrid
def test_what_never_answers_is_given_up(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    for limit in ("_LOCATE_S", "_WATCH_S"):
        monkeypatch.setattr(module, limit, 4.0)
    with socket.create_server(("127.0.0.1", 0)) as mute, ThreadPoolExecutor() as pool:
        address = f"127.0.0.1:{mute.getsockname()[1]}"
        text = "targets: {main: {resources: {RemotePlace: {name: x}}}}\noptions: {coordinator_address: '%s'}"
        waiting = made("main", "x", path=write(text % address, "mute.yaml"))
        watching = replace(waiting, coordinator=address)
        watching.places = ("x",)
        write("import threading\nthreading.Event().wait()", "theirs.py")
        hanging = made("main", path=write("imports: [theirs.py]"))
        started = pool.submit(watching._start_watch)
        complaints = list(pool.map(complaint, (waiting, hanging)))
        started.result()
        watching.close()
    assert complaints == [
        f"waited for the coordinator at {address} in vain, 4 s",
        "waited for labgrid to read the file in vain, 4 s",
    ]
    assert watching.held() == ""
    assert f"the coordinator at {address} does not answer" in watching.describe()["notes"][0]


# On a bench.

GROUPS = {
    "one": {"board": service(port=8081)},
    "two": {"board": service(port=8082)},
    "three": {"board": service(port=8083)},
    "spare": {"board": service(port=8084)},
    "portless": {"board": service()},
    "scoped": {"board": service("127.0.0.1%lo", port=8085)},
    "power": {"NetworkPowerPort": {"model": "simplerest", "host": "http://127.0.0.1", "index": 0}},
    "crowd": {"left": service(port=8086), "right": service(port=8087)},
}
PLACES = {
    "esp-1": "lab1/one",
    "esp-20": "lab1/two",
    "esp-3": "lab1/three",
    "portless": "lab1/portless",
    "scoped": "lab1/scoped",
    "power": "lab1/power",
    "crowd": "lab1/crowd",
    "orphan": "lab2/gone",
}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabBench]:
    with LabBench.running(tmp_path_factory.mktemp("bench"), PLACES) as bench:
        bench.start_exporter("lab1", GROUPS)
        yield bench


@pytest.fixture
def lab(bench: LabBench, write: Write, monkeypatch: pytest.MonkeyPatch) -> Iterator[InLab]:
    """The boards of these places by name, as the bench's user sees them; each the target of its name."""
    monkeypatch.setenv("LG_HOSTNAME", HOST)
    monkeypatch.setenv("LG_USERNAME", USER)
    monkeypatch.setenv("LG_COORDINATOR", bench.address)
    made_here: list[LabBoard] = []

    def lab(*places: str) -> dict[str, LabBoard]:
        named = {"target" if place == "+" else place: place for place in places}
        targets = {name: {"resources": {"RemotePlace": {"name": place}}} for name, place in named.items()}
        path = write(json.dumps({"targets": targets}))
        boards = {
            name: replace(made(name, place, path=path), coordinator=bench.address)
            for name, place in named.items()
        }
        made_here.extend(boards.values())
        return boards

    yield lab
    for board in made_here:
        board.close()


def until(happened: Callable[[], object]) -> None:
    """Wait for what the coordinator is about to tell."""
    deadline = time.monotonic() + PATIENCE_S
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def loss(board: LabBoard) -> str:
    """How a board was lost that is about to be."""
    until(board.held)
    return board.held()


def complaint(board: LabBoard) -> str:
    """What locating it fails with."""
    with pytest.raises(DeviceError) as caught:
        board.locate()
    text = str(caught.value)
    assert text.isprintable()
    start = f"board {board.name} (target {board.target} of {board.path}): "
    assert text.startswith(start)
    return text.removeprefix(start)


@needs_labgrid
def test_a_board_is_located_while_its_place_is_ours_and_lost_when_it_is_released(
    bench: LabBench, lab: InLab
) -> None:
    bench.client("-p esp-new create", "-p esp-new add-match lab1/spare/NetworkService")
    (board,) = lab("esp-new").values()
    assert complaint(board) == "place esp-new is not acquired: labgrid-client -p esp-new acquire"
    bench.client("-p esp-new acquire")
    assert board.locate() == ("127.0.0.1", 8084)
    assert board.describe() == {
        "target": "esp-new",
        "names": ["esp-new"],
        "resources": ["lab1/spare/NetworkService/board"],
        "exporter_host": socket.getfqdn(),
        "labgrid": metadata.version("labgrid"),
        "notes": [],
    }
    assert board.held() == ""
    bench.client("-p esp-new release", "-p esp-new acquire")
    # For a moment it was nobody's.
    released = "place esp-new is acquired no longer: released, or its coordinator was restarted"
    assert loss(board) == released
    assert board.held() == released
    bench.client("-p esp-new release")
    bench.client("-p esp-new acquire", user="bob")
    assert complaint(board) == (
        f"place esp-new is acquired by {HOST}/bob, and this is {HOST}/{USER}: wait until it is free, "
        f"or have them run labgrid-client -p esp-new allow {HOST}/{USER}"
    )
    bench.client(f"-p esp-new allow {HOST}/{USER}", user="bob")
    board.locate()
    assert board.held() == ""
    bench.client("-p esp-new release", user="bob")
    assert loss(board) == released
    bench.client("-p esp-new delete")


@needs_labgrid
def test_two_places_are_located_side_by_side_and_watched_each_by_itself(bench: LabBench, lab: InLab) -> None:
    both = ("esp-1", "esp-3")
    boards = lab(*both)
    bench.client(*(f"-p {name} acquire" for name in both))
    with ThreadPoolExecutor() as pool:
        found = list(pool.map(lambda name: boards[name].locate(), both))
    assert found == [("127.0.0.1", 8081), ("127.0.0.1", 8083)]
    bench.client("-p esp-1 release")
    assert loss(boards["esp-1"]).startswith("place esp-1 is acquired no longer")
    watch = boards["esp-3"]._watch
    assert watch is not None
    watch.process.kill()
    watch.process.wait()
    until(lambda: boards["esp-3"].describe()["notes"] or boards["esp-3"].held())
    assert boards["esp-3"].held() == ""
    (note,) = boards["esp-3"].describe()["notes"]
    assert note == "what watches place esp-3 had ended (exit code -9): started again"
    bench.client("-p esp-3 release")
    assert loss(boards["esp-3"]).startswith("place esp-3 is acquired no longer")


@needs_labgrid
def test_what_watches_ends_with_the_process_that_started_it(bench: LabBench, lab: InLab) -> None:
    bench.client("-p esp-1 acquire")
    (board,) = lab("esp-1").values()
    board.locate()
    watch = board._watch
    assert watch is not None
    assert watch.process.stdin is not None
    watch.process.stdin.close()  # as the system does it, whatever ended that process
    assert watch.process.wait(PATIENCE_S) == 0
    bench.client("-p esp-1 release")


@needs_labgrid
def test_a_name_that_no_place_has_is_no_other_place(bench: LabBench, lab: InLab) -> None:
    boards = lab("esp-2", "nowhere", "left")
    assert (
        complaint(boards["nowhere"])
        == "place pattern nowhere matches nothing: labgrid-client places lists them"
    )
    # labgrid goes by parts of names, and would give this one out for it.
    bench.client("-p esp-20 add-alias left", "-p esp-20 acquire")
    assert complaint(boards["esp-2"]).startswith("there is no place esp-2; labgrid would take esp-20 for it")
    # An alias is a whole name, too.
    assert boards["left"].locate() == ("127.0.0.1", 8082)
    bench.client("-p esp-20 release")


@needs_labgrid
def test_a_place_without_a_board_that_can_be_measured_says_why(bench: LabBench, lab: InLab) -> None:
    bench.start_exporter("lab2", {"gone": {"board": service(port=8088)}})
    says = {
        "portless": "the NetworkService of target portless has port 22, labgrid's default: give it",
        "scoped": "its exporter offers the board through an ssh forward alone",
        "power": "place power has no NetworkService: release it, labgrid-client add-match",
        "crowd": "it has several NetworkServices: name the board's 'default'",
        "orphan": "a resource of place orphan is gone, its exporter with it: start labgrid-exporter again",
    }
    boards = lab(*says)
    bench.client(*(f"-p {name} acquire" for name in says))
    bench.kill("lab2")
    with ThreadPoolExecutor(2) as pool:
        for name, complained in zip(says, pool.map(complaint, boards.values()), strict=True):
            assert complained.startswith(says[name])
    bench.client(*(f"-p {name} release" for name in says))


@needs_labgrid
def test_a_reservation_gives_its_place_under_the_targets_name(
    bench: LabBench, lab: InLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    printed = bench.client("-p esp-1 set-tags board=s3", "reserve --wait --shell board=s3")
    token = printed.strip().removeprefix("export LG_TOKEN=")
    monkeypatch.setenv("LG_TOKEN", token)
    board = lab("+")["target"]
    bench.client("-p + acquire", token=token)
    assert board.locate() == ("127.0.0.1", 8081)
    assert board.places == ("esp-1",)
    bench.client(f"cancel-reservation {token}")
    # The place is watched, whatever became of the reservation.
    assert board.held() == ""
    bench.client("-p esp-1 release")
    monkeypatch.setenv("LG_TOKEN", "NOSUCH")
    assert complaint(board).startswith("reservation token NOSUCH matches nothing: ")


@needs_labgrid
def test_a_coordinator_that_is_away_for_a_moment_is_no_lost_place_and_one_that_restarts_is(
    lab: InLab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with LabBench.running(tmp_path, {"esp-1": "lab1/one"}) as own:
        # What the file says goes before what the environment says, as in labgrid.
        text = {
            "targets": {"a": {"resources": {"RemotePlace": {"name": "esp-1"}}}},
            "options": {"coordinator_address": own.address},
        }
        path = tmp_path / "env.yaml"
        path.write_text(json.dumps(text), encoding="utf-8")
        (board,) = load_lab(path, SOURCE).boards
        own.start_exporter("lab1", {"one": {"board": service(port=8091)}})
        own.client("-p esp-1 acquire")
        try:
            assert board.locate() == ("127.0.0.1", 8091)
            own.kill("coordinator")
            until(lambda: board.held() or board._silence)
            assert board.held() == ""
            away = f"the coordinator at {own.address} has closed the connection"
            later = time.monotonic() + 65
            board.clock = lambda: later
            assert re.fullmatch(
                rf"for 6\d s it was not known whether place esp-1 was held: {away}", board.held()
            )
            board.clock = time.monotonic
            assert complaint(board).startswith(f"the coordinator at {own.address} cannot be reached: start")
            own.start_coordinator()
            assert loss(board).startswith("place esp-1 is acquired no longer")
        finally:
            board.close()
