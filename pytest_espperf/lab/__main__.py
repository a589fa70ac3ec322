"""``python -m pytest_espperf.lab``: what labgrid knows, in JSON.

::

    read ENV                      the targets of an environment file; nothing is contacted
    locate ENV TARGET             where a target's NetworkService is
    watch COORDINATOR PLACE...    whether these places are acquired by this user, as long as they are

Each line of standard output is one object: ``waiting_for`` before what may take long, then ``answer``, or
``problem`` with ``lost`` (see ``Problem``). ``watch`` says ``held`` or ``silent`` with ``at`` (monotonic
seconds of the machine) before, whenever that changes. Nothing else is there: what labgrid and the user's own
modules print goes to standard error.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import metadata
from typing import Any

Say = Callable[..., None]

SSH = 22
"""The port of a NetworkService that was given none."""

RETRY_S = 2.0
"""Between two attempts to reach a coordinator that is away."""

PRIORITY = 10
"""By how much a process that watches is nicer than the load generator."""


class Problem(Exception):  # noqa: N818 - half a sentence for whoever asked, no error of this program
    """What is wrong and what to do, without the file's name.

    Attributes:
        lost: where it means that a place which was held is held no more, that as a sentence; else "".
    """

    def __init__(self, sentence: str, *, lost: str = "") -> None:
        super().__init__(sentence)
        self.lost = lost


def main(words: Sequence[str]) -> int:
    """Answer one question on standard output."""
    say = _speaker()
    question, *rest = words
    try:
        say(answer=QUESTIONS[question](say, *rest))
    except Problem as problem:
        say(problem=_flat(str(problem)), lost=_flat(problem.lost))
    except Exception as error:  # noqa: BLE001 - the user's modules and labgrid may raise anything
        say(problem=f"labgrid failed with {type(error).__name__}: {_text(error)}", lost="")
    return 0


def _speaker() -> Say:
    """Make what writes a line to standard output, and redirect all other output to standard error."""
    # The copy is not inherited: an ssh that labgrid leaves behind does not hold it open.
    lines = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def say(**what: Any) -> None:
        lines.write(json.dumps(what) + "\n")
        lines.flush()

    return say


def read(say: Say, path: str) -> dict[str, Any]:
    """Read the coordinator's address, and of each target its name, places (patterns) and address."""
    say(waiting_for="labgrid to read the file")
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        config = _config(path)
    for warning in warned:
        if "duplicate" in str(warning.message):
            raise Problem(f"a key stands twice, and labgrid would take the last: {warning.message}")
    targets = config.get_targets()
    if not isinstance(targets, dict) or not targets:
        raise Problem("it has no targets: give it one per board")
    coordinator = _coordinator(config)
    if not _is_plain(coordinator):
        raise Problem("options.coordinator_address must be HOST:PORT")
    return {
        "coordinator": coordinator,
        "targets": [{"target": name, **_described(name, what)} for name, what in targets.items()],
    }


def _config(path: str) -> Any:
    from labgrid.config import Config  # noqa: PLC0415 - a failure in it is an answer
    from labgrid.exceptions import InvalidConfigError  # noqa: PLC0415 - as above

    try:
        return Config(path)
    except InvalidConfigError as error:
        if isinstance(error.__context__, KeyError):
            name = error.__context__.args[0]
            raise Problem(
                f"it refers to the variable {name}, which is not set: set it in the environment "
                "(a template may refer to BASE and to names that begin with LG_)"
            ) from None
        raise Problem(_text(error)) from None
    except (TypeError, UnicodeError) as error:
        raise Problem(f"it is no labgrid environment, a mapping with 'targets': {_text(error)}") from None


def _coordinator(config: Any) -> Any:
    """As labgrid has it: the file's own word first."""
    return config.get_option("coordinator_address", os.environ.get("LG_COORDINATOR", "127.0.0.1:20408"))


def _described(target: object, described: Any) -> dict[str, Any]:
    """Read a target in the file: the names of its RemotePlaces; HOST and PORT where it has none."""
    from labgrid import target_factory  # noqa: PLC0415 - a failure in it is an answer
    from labgrid.exceptions import InvalidConfigError  # noqa: PLC0415 - as above

    if not _is_plain(target):
        raise Problem(f"the target {target!r} needs a name of printable text: quote it")
    try:
        resources, _ = target_factory.normalize_config(described)
    except InvalidConfigError as error:
        # What follows may be all values, a password among them.
        raise Problem(f"target {target}: {_text(error).partition(' in OrderedDict')[0]}") from None
    except (AttributeError, TypeError, ValueError, AssertionError):
        raise Problem(
            f"target {target} has no 'resources' as labgrid reads them: {{CLASS: {{NAME: VALUE}}}}"
        ) from None
    places, services = resources.get("RemotePlace", {}), resources.get("NetworkService", {})
    if not places and not services:
        raise Problem(f"target {target} has no RemotePlace and no NetworkService: name its board's place")
    for place in places:
        if not _is_plain(place):
            raise Problem(f"target {target}: RemotePlace needs a name of printable text")
        if place == "+" and not os.environ.get("LG_TOKEN"):
            raise Problem(
                f"target {target} takes the place of a reservation, and LG_TOKEN is not set: "
                "labgrid-client reserve --wait --shell prints it"
            )
    made = [_service(str(target), name, arguments) for name, (arguments,) in services.items()]
    alone = len(made) == 1 and not places
    if alone:
        _check_port(made[0], f"target {target}")
    return {"places": list(places), "address": [made[0].address, made[0].port] if alone else None}


def _service(target: str, name: str | None, arguments: dict[str, Any]) -> Any:
    """Make a NetworkService whose values stand in the file."""
    from labgrid import Target, target_factory  # noqa: PLC0415 - a failure in it is an answer
    from labgrid.exceptions import InvalidConfigError  # noqa: PLC0415 - as above

    try:
        return target_factory.make_resource(Target(target), "NetworkService", name, dict(arguments))
    except InvalidConfigError:
        # Its text has all values, a password among them.
        raise Problem(
            f"target {target}: NetworkService needs address and username ('-' will do) as text, "
            "and port as a number"
        ) from None


def _check_port(service: Any, where: str) -> None:
    if service.port == SSH:
        raise Problem(
            f"the NetworkService of {where} has port {SSH}, labgrid's default: give it the port of the "
            "board's HTTP server"
        )


@contextmanager
def _session(say: Say, address: str) -> Iterator[Any]:
    """Open a session with a coordinator, whose places and resources have arrived."""
    from labgrid.remote import client  # noqa: PLC0415 - a failure in it is an answer

    say(waiting_for=f"the coordinator at {address}")
    try:
        session = client.start_session(address)
    except (client.ServerError, OSError):
        raise Problem(
            f"the coordinator at {address} cannot be reached: start labgrid-coordinator there, "
            "or name another by LG_COORDINATOR or options.coordinator_address"
        ) from None
    try:
        yield session
    finally:
        session.loop.run_until_complete(session.stop())
        session.loop.run_until_complete(session.close())


def watch(say: Say, address: str, *places: str) -> dict[str, Any]:
    """Say when these places are held and when their coordinator is silent; a problem once one is lost.

    Sleeps in between, and ends with its standard input.
    """
    threading.Thread(target=_end_with_input, daemon=True).start()
    os.nice(PRIORITY)
    silent = False
    while True:
        try:
            with _session(say, address) as session:
                silent = False
                session.loop.run_until_complete(_follow(say, session, places))
            why = f"the coordinator at {address} has closed the connection"
        except Problem as problem:
            if problem.lost:
                raise
            why = str(problem)
        if not silent:
            say(silent=why, at=time.monotonic())
        silent = True
        time.sleep(RETRY_S)


async def _follow(say: Say, session: Any, places: Sequence[str]) -> None:
    """Check the places each time that the coordinator reports one, until it stops."""
    lost: asyncio.Future[None] = session.loop.create_future()

    def look() -> None:
        try:
            for place in places:
                _acquired(session, place)
        except Problem as problem:
            if not lost.done():
                lost.set_exception(problem)

    def followed(heed: Callable[..., Any]) -> Callable[..., Any]:
        async def heed_and_look(*changed: Any) -> None:
            await heed(*changed)
            look()

        return heed_and_look

    # A place that is released and acquired again at once is seen as well: each change comes by itself.
    session.on_place_changed = followed(session.on_place_changed)
    session.on_place_deleted = followed(session.on_place_deleted)
    look()
    if not lost.done():
        say(held=True, at=time.monotonic())
    ended = asyncio.ensure_future(session.stopping.wait())
    await asyncio.wait({lost, ended}, return_when=asyncio.FIRST_COMPLETED)
    ended.cancel()
    if lost.done():
        lost.result()


def _end_with_input() -> None:
    while os.read(0, 1):
        pass
    os._exit(0)


def _acquired(session: Any, pattern: str) -> Any:
    """Find the place that a pattern means, which this user has acquired."""
    from labgrid.remote import client  # noqa: PLC0415 - a failure in it is an answer

    gone = f"place {pattern} is no longer there"
    try:
        place = session.get_place(pattern)
    except client.UserError as error:
        raise Problem(f"{' '.join(error.args)}: labgrid-client places lists them", lost=gone) from None
    known = {place.name, *place.aliases, *(alias.partition(":")[2] for alias in place.aliases)}
    if not pattern.startswith("+") and pattern not in known:
        raise Problem(
            f"there is no place {pattern}; labgrid would take {place.name} for it, which may be another "
            "board: write the whole name",
            lost=gone,
        )
    try:
        session.get_acquired_place(place.name)
    except client.UserError:
        raise _not_ours(session, place) from None
    return place


def _not_ours(session: Any, place: Any) -> Problem:
    if not place.acquired:
        return Problem(
            f"place {place.name} is not acquired: labgrid-client -p {place.name} acquire",
            lost=f"place {place.name} is acquired no longer: released, or its coordinator was restarted",
        )
    us = f"{session.gethostname()}/{session.getuser()}"
    return Problem(
        f"place {place.name} is acquired by {place.acquired}, and this is {us}: wait until it is free, "
        f"or have them run labgrid-client -p {place.name} allow {us}",
        lost=f"place {place.name} is acquired by {place.acquired} now",
    )


def locate(say: Say, path: str, name: str) -> dict[str, Any]:
    """Address and port of a target's NetworkService, its places, and what else an artifact says of them."""
    from labgrid import Environment  # noqa: PLC0415 - a failure in it is an answer
    from labgrid.exceptions import InvalidConfigError, NoResourceFoundError  # noqa: PLC0415 - as above
    from labgrid.remote import client  # noqa: PLC0415 - as above

    say(waiting_for="labgrid to read the file")
    environment = Environment(path)
    patterns = _described(name, environment.config.get_targets().get(name))["places"]
    # Asked first, since labgrid's own way to the resource tells these cases apart by text alone.
    places, resources = _places(say, _coordinator(environment.config), patterns) if patterns else ([], [])
    say(waiting_for=f"the NetworkService of target {name}")
    try:
        service = environment.get_target(name).get_resource("NetworkService")
    except client.ServerError as error:
        if "orphaned" not in str(error):
            raise
        raise Problem(
            f"a resource of place {places[0]} is gone, its exporter with it: start labgrid-exporter again, "
            "then release and acquire the place"
        ) from None
    except client.UserError as error:
        raise Problem(" ".join(error.args)) from None
    except NoResourceFoundError as error:
        raise _no_service(error, places) from None
    except InvalidConfigError as error:
        # What follows is all values, a password among them.
        raise Problem(_text(error).partition(" using ")[0]) from None
    _check_port(service, f"target {name}")
    if getattr(service, "extra", {}).get("proxy_required"):
        raise Problem(
            "its exporter offers the board through an ssh forward alone (--isolated, or '%' in the address), "
            "which would be measured, too: export an address that this machine reaches"
        )
    return {
        "address": service.address,
        "port": service.port,
        "places": places,
        "resources": resources,
        "exporter_host": getattr(service, "extra", {}).get("proxy", ""),
        "labgrid": metadata.version("labgrid"),
    }


def _places(say: Say, address: str, patterns: Sequence[str]) -> tuple[list[str], list[str]]:
    """Find the places that patterns mean, and their NetworkServices as EXPORTER/GROUP/CLASS/NAME."""
    with _session(say, address) as session:
        places = [_acquired(session, pattern) for pattern in patterns]
    paths = [path for place in places for path in place.acquired_resources if "NetworkService" in path]
    return [place.name for place in places], ["/".join(path) for path in paths]


def _no_service(error: Any, places: Sequence[str]) -> Problem:
    if error.found:
        return Problem(
            "it has several NetworkServices: name the board's 'default' (labgrid-client add-named-match)"
        )
    if error.filter:
        return Problem("its NetworkService did not become available: look at its exporter")
    return Problem(
        f"place {' or '.join(places)} has no NetworkService: release it, labgrid-client add-match "
        "EXPORTER/GROUP/NetworkService, and acquire it again"
    )


def _is_plain(name: object) -> bool:
    return isinstance(name, str) and name != "" and name.isprintable()


def _text(error: BaseException) -> str:
    return _flat(str(getattr(error, "msg", "") or error))


def _flat(text: str) -> str:
    return " ".join(text.split())


QUESTIONS: dict[str, Callable[..., dict[str, Any]]] = {"read": read, "locate": locate, "watch": watch}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
