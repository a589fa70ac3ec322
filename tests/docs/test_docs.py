"""The pages in docs/ and README.md: what they show is run, what they name is there.

For the convention see docs_pages.py, for what is run in place of hardware docs_bench.py.

docs/pytest-embedded.md is run against the real one by test_embedded.py, in an environment of its own. It is
left out of the dev extra, since every test here would load it: a ``dut`` that has heard the line which the
page waits for stands in for it below.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import jsonschema
import pytest
from support import docs_bench
from support.docs_bench import Bench
from support.docs_pages import (
    PAGES,
    README,
    Block,
    blocks,
    check_links,
    ci_scripts,
    links,
    options,
    read_yaml,
    steps,
    subcommands,
    table_rows,
    words,
)
from support.paths import ROOT

from pytest_espperf.cli.program import make_parser
from pytest_espperf.config.option import ENV_PREFIX
from pytest_espperf.config.profiles import BUILT_IN, LIMITS, load_profiles
from pytest_espperf.config.settings import OPTIONS
from pytest_espperf.config.telemetry import load_telemetry
from pytest_espperf.errors import UsageError
from pytest_espperf.model.figures import WATCHED
from pytest_espperf.model.verdicts import FAILING, VerdictWord
from pytest_espperf.report.exports import EXPORTS
from pytest_espperf.session.plan import PRESETS
from pytest_espperf.sim import SimConfig, SimProcess

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

pytestmark = pytest.mark.timeout(600)  # several sessions, on a machine that may be busy

DOCS = ROOT / "docs"
SCHEMAS = ROOT / "tests" / "data" / "schemas"

NOT_RUN: Mapping[str, str] = {}
"""Commands that cannot be run, and why. Keep it empty."""

FOREIGN_OPTIONS = {
    "--adapter": "bencher",
    "--app-path": "pytest-embedded",
    "--file": "bencher",
    "--baud": "pytest-embedded",
    "--bind": "python -m http.server",
    "--count": "pytest-embedded, pytest-repeat",
    "--disable-socket": "pytest-socket",
    "--body-file": "gh",
    "--create-if-none": "gh",
    "--edit-last": "gh",
    "--embedded-services": "pytest-embedded",
    "--field": "gh",
    "--jq": "gh",
    "--method": "gh",
    "--metric-path": "pytest-embedded",
    "--paginate": "gh",
    "--port": "esptool.py, pytest-embedded",
    "--shell": "labgrid-client",
    "--target": "pytest-embedded",
    "--wait": "labgrid-client",
}

MORE_RUNS = ("README.md", "judging.md", "commands.md", "tutorial.md")
"""Pages with a firmware that is slower on purpose: three runs are needed to show it."""

OWN_BENCH = ("bisect.md", "old-against-new.md", "pytest-embedded.md")
"""Pages that need more than a board: each has a test of its own."""

VERDICTS = {part for word in get_args(VerdictWord) for part in (*word.split("-"), *word.upper().split("-"))}
"""Which of them a session of parts of a second has may be chance."""

EMBEDDED = """
import pathlib
import re
import pytest

def pytest_addoption(parser):
    for name in ("--embedded-services", "--port", "--metric-path"):
        parser.addoption(name)

class Dut:
    def expect(self, pattern, timeout):
        return re.search(pattern.encode(), b"I (2311) example_connect: - IPv4 address: 127.0.0.1,")

@pytest.fixture
def dut():
    return Dut()

@pytest.fixture(scope="session")
def metric_path(request):
    return request.config.getoption("--metric-path")

@pytest.fixture(scope="session")
def log_metric(metric_path):
    pathlib.Path(metric_path).unlink(missing_ok=True)
    def log(key, value, **labels):
        told = ",".join(f'{label}="{text}"' for label, text in labels.items())
        with open(metric_path, "a") as file:
            file.write(f"{key}{{{told}}} {value}\\n")
    return log
"""

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="the pages' commands are a POSIX shell's")


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


each_page = pytest.mark.parametrize("page", PAGES, ids=name_of)


# --- what is run


@pytest.fixture(scope="module")
def boards(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A board, one that speaks https, another one, and the serial console of the first."""
    config = SimConfig(time_scale=0.1, noise="none")
    ca_file = tmp_path_factory.mktemp("boards") / "ca.pem"
    with (
        SimProcess.start(config, console="socket") as plain,
        SimProcess.start(config, ca_file=ca_file) as tls,
        SimProcess.start(config) as other,
    ):
        yield {
            "plain": f"127.0.0.1:{plain.port}",
            "secure": f"127.0.0.1:{tls.port}",
            "other": f"127.0.0.1:{other.port}",
            "console": plain.console_url,
        }
        plain.configure(slowdown={})


@pytest.fixture
def bench(boards: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    stand_ins = (
        (r"(192\.168\.0\.135|board\.local)(:8080)?( --device-port[ =]\d+)?", boards["plain"]),
        (r"192\.168\.0\.136", boards["secure"]),
        (r"192\.168\.0\.137", boards["other"]),
        (
            r"(--device-serial |DEVICE_SERIAL: )(COM14|/dev/ttyUSB0|rfc2217://\S+)",
            rf"\g<1>{boards['console']}",
        ),
        (r"\b8000\b", str(port)),
    )
    bench = Bench.set_up(tmp_path, stand_ins, boards["plain"])
    for name, value in bench.environment.items():
        monkeypatch.setenv(name, value)
    docs_bench.hurry(monkeypatch.setattr)
    docs_bench.hurry_examinations(monkeypatch.setattr)
    monkeypatch.chdir(bench.folder)
    with contextlib.closing(bench):
        yield bench


def run_page(page: Path, bench: Bench) -> str:
    """Run all that a page shows, in order; what it printed."""
    transcript = ""
    for step in steps(page):
        if isinstance(step, Block):
            bench.write(step.file_name, step.text)
            transcript += run_jobs(step, bench) if step.language == "yaml" else ""
        elif step.text not in NOT_RUN:
            where = f"{name_of(page)}:{step.line}: {step.text}"
            began = time.monotonic()
            code, output = bench.run(step.text)
            print(f"{time.monotonic() - began:6.2f} s  {where}")
            assert code == step.exit_code, f"{where}\n{output}"
            for line in step.prints:
                missing = {word for word in words(line) - VERDICTS if word not in output}
                assert not missing, f"{where}\ndoes not print {missing}, as the page shows\n{output}"
            transcript += output
    return transcript


def run_jobs(block: Block, bench: Bench) -> str:
    """Run the scripts of a CI system's file as its runner does; what they printed."""
    summary = bench.folder / "summary.md"
    output = ""
    for environment, script in ci_scripts(bench.replaced(block.text)):
        code, said = bench.script(script, environment | {"GITHUB_STEP_SUMMARY": str(summary)})
        assert code == 0, f"{script}\n{said}"
        output += said
    for kept in ("out/perf.xml", "out/perf.html", "out/perf.csv"):
        (bench.folder / kept).unlink()
    assert "# " in summary.read_text(encoding="utf-8")
    return output


@posix_only
@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.name not in OWN_BENCH and steps(page)], ids=name_of
)
def test_each_command_ends_as_its_page_says(
    page: Path, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    if page.name in MORE_RUNS:
        monkeypatch.setenv("ESPPERF_PERF_RUNS", "3")
    else:
        bench.ignore_changes(monkeypatch.setenv)
    run_page(page, bench)


@posix_only
def test_the_address_comes_from_what_a_dut_has_heard(
    bench: Bench, boards: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.write("pytest_embedded.py", EMBEDDED)
    monkeypatch.syspath_prepend(bench.folder)
    monkeypatch.setenv("PYTEST_ADDOPTS", f"{os.environ['PYTEST_ADDOPTS']} -p pytest_embedded")
    monkeypatch.setenv("ESPPERF_DEVICE_PORT", boards["plain"].rpartition(":")[2])
    run_page(DOCS / "pytest-embedded.md", bench)
    logged = (bench.folder / "perf.prom").read_text(encoding="utf-8")
    assert 'p95_ms{profile="python_heavy"' in logged
    assert 'espperf_p95_seconds{profile="python_heavy"' in logged


def make_repository(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> str:
    """Four commits of a firmware: v1.0 the first, the third slow, as is main; the hash of the third."""
    for name, value in (("NAME", "somebody"), ("EMAIL", "somebody@example.org")):
        monkeypatch.setenv(f"GIT_AUTHOR_{name}", value)
        monkeypatch.setenv(f"GIT_COMMITTER_{name}", value)

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], check=True, capture_output=True, text=True)
        return done.stdout.strip()

    git("init", "--initial-branch=main")
    bench.write(".gitignore", "build/\ntests/\n")
    for number, factor in enumerate((1, 1, docs_bench.SLOWER, docs_bench.SLOWER), 1):
        bench.write("slowness.txt", f"{factor}\n")
        bench.write("main.c", f"// change {number}\n")
        git("add", ".")
        git("commit", "--message", f"Change {number}")
    git("tag", "v1.0", "HEAD~3")
    return git("rev-parse", "HEAD~1")


@posix_only
def test_a_bisection_finds_the_commit_that_made_it_slower(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ESPPERF_PERF_RUNS", "3")
    culprit = make_repository(bench, monkeypatch)
    assert f"{culprit} is the first bad commit" in run_page(DOCS / "bisect.md", bench)
    # What cannot be said of a commit: it does not build; its session is not comparable, and ends the search.
    monkeypatch.setenv("ESPPERF_PERF_RUNS", "1")
    assert bench.run("python ../bisect_step.py")[0] == 128
    bench.write("slowness.txt", "not a number")
    assert bench.run("python ../bisect_step.py")[0] == 125


@posix_only
def test_old_against_new_is_measured_and_bisected(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    culprit = make_repository(bench, monkeypatch)
    for image in ("old.bin", "new.bin"):
        bench.write(f"build/{image}", "1")
    monkeypatch.setenv("ESPPERF_DEVICE_BOOT_TIMEOUT_S", "60")
    transcript = run_page(DOCS / "old-against-new.md", bench)
    assert f"{culprit[:7]}" in transcript


# --- what is named


@each_page
def test_each_link_leads_somewhere(page: Path) -> None:
    check_links(page)


@pytest.fixture(scope="module")
def known_options(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Every option of pytest with the plugin, of each command, of the reference device and of the tools."""
    known = {flag for option in OPTIONS for flag in (option.flag, option.original) if flag}
    for words_of in (["pytest", "--help"], ["espperf", "sim", "--help"]):
        output = io.StringIO()
        with contextlib.redirect_stdout(output), pytest.MonkeyPatch.context() as patch:
            patch.chdir(tmp_path_factory.mktemp("elsewhere"))  # this checkout's ini file is not the pages'
            assert docs_bench.call(words_of) == 0
        known |= options(output.getvalue())
    for command in commands().values():
        known |= options(command.format_help())
    for tool in (ROOT / "tools").glob("*.py"):
        known |= options(tool.read_text(encoding="utf-8"))
    return known


def commands() -> dict[str, Any]:
    actions = make_parser()._actions
    return next(action.choices for action in actions if isinstance(action.choices, dict))


@each_page
def test_each_option_and_command_that_is_named_exists(page: Path, known_options: set[str]) -> None:
    text = re.sub(r"```python.*?```|https?://\S+", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for option in options(text) - known_options - FOREIGN_OPTIONS.keys():
        assert option.endswith("-"), option
        assert any(known.startswith(option) for known in known_options), option
    assert subcommands(page) <= {*commands(), "perf"}
    variables = set(re.findall(rf"{ENV_PREFIX}[A-Z_]+", text))
    assert variables <= {option.env for option in OPTIONS}


@each_page
def test_each_block_is_what_it_claims_to_be(page: Path, tmp_path: Path) -> None:
    (tmp_path / "firmware.bin").write_bytes(b"a body")
    for block in blocks(page):
        if block.language == "toml":
            name = "pyproject.toml" if "tool" in tomllib.loads(block.text) else "espperf.toml"
            if set(tomllib.loads(block.text)) & {"tool", "profiles", "telemetry"}:
                (tmp_path / name).write_text(block.text, encoding="utf-8")
                assert load_profiles(tmp_path)
                assert load_telemetry(tmp_path)
                (tmp_path / name).unlink()
        elif block.language == "python":
            compile(block.text, name_of(page), "exec")
        elif block.language == "json":
            json.loads(block.text)
        elif block.language == "yaml":
            document = read_yaml(block.text)
            if isinstance(document, list):  # steps to add to a job of a workflow
                document = {"on": "push", "jobs": {"one": {"runs-on": "any", "steps": document}}}
            schema = "github-workflow" if "jobs" in document else "gitlab-ci"
            rules = json.loads((SCHEMAS / f"{schema}.json").read_text(encoding="utf-8"))
            jsonschema.Draft7Validator(rules).validate(document)
        else:
            assert block.language in {"", "console", "ini", "markdown"}, f"{name_of(page)}:{block.line}"


# --- what is listed


def test_the_index_has_every_page() -> None:
    pages = {page.name for page in DOCS.glob("*.md")} - {"README.md"}
    assert pages == {link for link in links(DOCS / "README.md") if "/" not in link}


def test_the_pages_describe_all_there_is() -> None:
    text = {page.name: page.read_text(encoding="utf-8") for page in DOCS.glob("*.md")}
    rows = {name: table_rows(page) for name, page in text.items()}
    for name, export in EXPORTS.items():
        assert rows["exports.md"][f"`{name}`"] == f"| `{name}` | {export.help} |"
    for word in get_args(VerdictWord):
        assert ("| 1 |" in rows["judging.md"][f"`{word}`"]) == (word in FAILING), word
    for name, preset in PRESETS.items():
        burst_s, long_s = preset.durations("")
        row = rows["profiles.md"][f"`{name}`"]
        assert f"| {preset.runs} |" in row
        assert f"{burst_s:g} / {long_s:g}" in row
    for name, paths in BUILT_IN.items():
        assert paths[0] in rows["profiles.md"][f"`{name}`"] or name == "mixed"
    for name in LIMITS:
        assert f"`{name}`" in text["profiles.md"]
    for name in WATCHED:
        assert f"`{name}`" in text["boards.md"]
    for name in commands():
        assert f"`{name}`" in text["commands.md"]


def test_the_options_page_has_every_option_and_its_default() -> None:
    rows = {
        flag: row
        for name, row in table_rows((DOCS / "options.md").read_text(encoding="utf-8")).items()
        for flag in options(name)
    }
    for option in OPTIONS:
        if option.flag.startswith("--sim-"):
            continue
        assert option.flag in rows, option.flag
        shown = rows[option.flag].replace("\\|", "/").split("|")[2].strip()
        if isinstance(option.default, tuple):
            assert shown == ",".join(option.default)
        elif isinstance(option.default, (int, float)) and not isinstance(option.default, bool):
            assert shown == f"{option.default:g}", option.flag


SET_UP = (
    "    pip install -e . && pytest -m perf --device-ip sim --perf-preset quick",
    '    pip install -e ".[dev]" && pytest',
)
"""Commands of the README on which others rely."""


def test_the_readme_is_short() -> None:
    lines = README.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 150
    assert set(SET_UP) <= set(lines)
    assert not [line for line in lines if len(line) >= 120]


def test_figures_of_the_readme_are_those_of_the_benchmarks() -> None:
    readme, page = (path.read_text(encoding="utf-8") for path in (README, DOCS / "benchmarks.md"))
    excerpt = readme.partition("## Measurements")[2].partition("\n## ")[0]
    rows = {name: row for name, row in table_rows(excerpt).items() if name}
    assert len(rows) == 4
    for name, row in rows.items():
        assert table_rows(page)[name] == row
    for command in re.findall(r"`(?:python tools/\S+\s+)?(--[^`]+)`", excerpt):
        assert command in page


def test_each_measurement_has_a_command_that_its_tool_accepts() -> None:
    page = (DOCS / "benchmarks.md").read_text(encoding="utf-8")
    commands = re.findall(r"`python (tools/\w+\.py)([^`]*)`", page)
    assert commands
    for tool, given in commands:
        assert options(given) <= options((ROOT / tool).read_text(encoding="utf-8")), f"{tool}{given}"


WRONG = {
    "paths must be a list of at least one path": "paths = []",
    "path '/cart' is listed twice: give it a weight instead": 'paths = ["/cart", "/cart"]',
    "the value of 'Accept' must be text": 'paths = ["/"]\nheaders = {Accept = 1}',
    "unknown key 'max_p95'; did you mean 'max_p95_ms'?": 'paths = ["/"]\nlimits = {max_p95 = 1}',
    "phases is empty: leave it out, or name at least one": 'paths = ["/"]\nphases = {}',
    "'cart' is no request path: it begins with '/' and has no blanks": 'paths = ["cart"]',
    "weight: 0 must be at least 1": 'paths = [{path = "/", weight = 0}]',
    "status: 700 is no HTTP status, nor a list of them": 'paths = [{path = "/", status = 700}]',
    "size: -1 must be at least 0": 'paths = [{path = "/", size = -1}]',
    "'abc' is no SHA-256: 64 hexadecimal digits": 'paths = [{path = "/", sha256 = "abc"}]',
    "'GE T' is no HTTP method": 'paths = [{path = "/", method = "GE T"}]',
    "leave Content-Length out: it follows from the body": (
        'paths = [{path = "/", headers = {Content-Length = "1"}}]'
    ),
    "JSON has no dates and times: write them as text": 'paths = [{path = "/", json = 2020-01-01}]',
    "JSON has no nan and no inf": 'paths = [{path = "/", json_contains = nan}]',
    "the value of 'a' must be text, a number, a boolean": 'paths = [{path = "/", form = {a = {}}}]',
    "json and body: a request has one body": 'paths = [{path = "/", json = 1, body = "x"}]',
    "there is no file": 'paths = [{path = "/", body_file = "missing.bin"}]',
    "it has no part": 'paths = [{path = "/", multipart = {}}]',
    "chunked needs a body": 'paths = [{path = "/", chunked = true}]',
    "expect_continue needs a body": 'paths = [{path = "/", expect_continue = true}]',
    "max_psram_free_drop is a budget of a whole profile, not of one path": (
        'paths = [{path = "/", limits = {max_psram_free_drop = 1}}]'
    ),
    "contains must be text, and not empty": 'paths = [{path = "/", contains = ""}]',
    "clients: 0 must be at least 1": 'paths = ["/"]\nphases = {burst = {clients = 0}}',
    "unknown key 'duration'; did you mean 'duration_s'?": 'paths = ["/"]\nphases = {burst = {duration = 1}}',
    "rate: 0 must be above 0": 'paths = ["/"]\nphases = {steady = {rate = 0}}',
    "kind: 'pages' is not one of requests, page, websocket, events; did you mean 'page'?": (
        'phases = {p = {kind = "pages"}}'
    ),
    "reuse must be a boolean, not text": 'phases = {p = {reuse = "maybe"}}',
    "tls_resumption needs reuse = false: a connection in use has one handshake": (
        "phases = {p = {tls_resumption = false}}"
    ),
    "rate and think_time_s exclude each other: both say when a request is sent": (
        "phases = {p = {rate = 1, think_time_s = 1}}"
    ),
    "it has no path": 'phases = {p = {kind = "page", assets = ["/a.css"]}}',
    "assets: '/a.css' is asked for twice by one page": (
        'phases = {p = {kind = "page", path = "/", assets = ["/a.css", "/a.css"]}}'
    ),
    "connections: 33 must be at most 32": (
        'phases = {p = {kind = "page", path = "/", assets = ["/a.css"], connections = 33}}'
    ),
    "key 'revalidate' is one of phases of kind = 'page', and this one is 'requests'": (
        "phases = {p = {revalidate = true}}"
    ),
    "message has 5 bytes, more than 4": (
        'phases = {a = {kind = "websocket", path = "/", size = 4, message = "hello"}}'
    ),
    "size: 0 must be at least 1": 'phases = {a = {kind = "websocket", path = "/", size = 0}}',
    "binary must be a boolean, not a whole number": (
        'phases = {a = {kind = "websocket", path = "/", binary = 2}}'
    ),
}


def test_a_wrong_profile_says_what_its_page_says(tmp_path: Path) -> None:
    page = (DOCS / "profiles.md").read_text(encoding="utf-8")
    for message, table in WRONG.items():
        (tmp_path / "espperf.toml").write_text(f"[profiles.shop]\n{table}\n", encoding="utf-8")
        with pytest.raises(UsageError, match=re.escape(message)):
            load_profiles(tmp_path)
        assert f"`{message}`" in page, message
