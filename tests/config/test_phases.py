"""The phases of a profile: kinds, keys that fit a kind, and the sentences about those that do not."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_espperf.config.lookup import resolve
from pytest_espperf.config.profiles import load_profiles
from pytest_espperf.errors import UsageError
from pytest_espperf.model.workload import PageSpec, PhaseSpec, Profile, RequestSpec
from pytest_espperf.session.plan import describe_profiles, make_plan

PAGE = 'kind = "page"\npath = "/"\nassets = ["/a.css", "/b.js"]\n'


def read(root: Path, text: str) -> Profile:
    (root / "espperf.toml").write_text(text)
    return load_profiles(root)["x"]


def phase(root: Path, text: str, head: str = 'paths = ["/"]') -> PhaseSpec:
    (made,) = read(root, f"[profiles.x]\n{head}\n[profiles.x.phases.p]\n{text}").phases
    return made


def test_a_phase_says_how_it_uses_connections_and_how_it_pauses(tmp_path: Path) -> None:
    assert phase(tmp_path, "") == PhaseSpec("p", 0, 0.0)
    assert phase(tmp_path, 'kind = "requests"') == PhaseSpec("p", 0, 0.0)
    assert phase(tmp_path, "reuse = false") == PhaseSpec("p", 0, 0.0, reuse=False)
    assert phase(tmp_path, "reuse = false\ntls_resumption = true") == PhaseSpec("p", 0, 0.0, reuse=False)
    full = PhaseSpec("p", 0, 0.0, reuse=False, tls_resumption=False)
    assert phase(tmp_path, "reuse = false\ntls_resumption = false") == full
    assert phase(tmp_path, "think_time_s = 2") == PhaseSpec("p", 0, 0.0, think_time_s=2.0)
    rated = PhaseSpec("p", 0, 0.0, rate_rps=4.0, reuse=False)
    assert phase(tmp_path, "rate = 4\nreuse = false") == rated


def test_a_page(tmp_path: Path) -> None:
    page = PageSpec("/", ("/a.css", "/b.js"))
    assert phase(tmp_path, PAGE) == PhaseSpec("p", 0, 0.0, kind="page", page=page)
    more = PageSpec("/", ("/a.css", "/b.js"), connections=2, revalidate=True)
    text = f"{PAGE}connections = 2\nrevalidate = true\nreuse = false\nthink_time_s = 1\nclients = 3"
    whole = PhaseSpec("p", 3, 0.0, kind="page", reuse=False, think_time_s=1.0, page=more)
    assert phase(tmp_path, text) == whole


def test_paths_may_be_left_out_where_each_phase_has_its_own(tmp_path: Path) -> None:
    text = f"[profiles.x.phases.p]\n{PAGE}"
    made = read(tmp_path, text)
    assert made.requests == ()
    assert made.asked == made.requests_of(made.phases[0])
    assert [one.path for one in made.asked] == ["/", "/a.css", "/b.js"]
    with pytest.raises(UsageError, match="at least one path: phase 'q' has none of its own"):
        read(tmp_path, f"{text}\n[profiles.x.phases.q]\nclients = 1")


def test_what_a_right_asset_is_stands_in_paths(tmp_path: Path) -> None:
    paths = 'paths = ["/c", {path = "/b.js", size = 12}]'
    made = read(tmp_path, f"[profiles.x]\n{paths}\n[profiles.x.phases.q]\n[profiles.x.phases.p]\n{PAGE}")
    script = RequestSpec("/b.js", size_bytes=12)
    q, p = made.phases
    assert made.requests_of(q) == (RequestSpec("/c"), script)
    assert made.requests_of(p) == (RequestSpec("/"), RequestSpec("/a.css"), script)
    assert made.asked == (RequestSpec("/c"), script, RequestSpec("/"), RequestSpec("/a.css"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("clients = 2.5", "clients must be a whole number, not a fraction"),
        ("reuse = 3", "reuse must be a boolean, not a whole number"),
        ("reus = false", "unknown key 'reus'; did you mean 'reuse'?"),
        ("tls_resumption = false", "tls_resumption needs reuse = false"),
        ("reuse = true\ntls_resumption = true", "tls_resumption needs reuse = false"),
        ("think_time_s = 0", "think_time_s: 0 must be above 0"),
        ("think_time_s = 1\nrate = 3", "rate and think_time_s exclude each other"),
        (
            'kind = "pgae"',
            "kind: 'pgae' is not one of requests, page, websocket, events; did you mean 'page'?",
        ),
        ('kind = "page "\nassets = []', "it has no path"),
        ("kind = 3", "kind must be text, not a whole number"),
        ('kind = "page"\npath = "/"', "it has no assets"),
        ('kind = "page"\nassets = ["/a"]', "it has no path"),
        ('kind = "page"\npath = "/"\nassets = []', "assets must be a list of at least one path"),
        ('kind = "page"\npath = "/"\nassets = "/a"', "assets must be a list, not text"),
        ('kind = "page"\npath = "/"\nassets = ["a"]', "assets: 'a' is no request path"),
        ('kind = "page"\npath = "x"\nassets = ["/a"]', "path: 'x' is no request path"),
        ('kind = "page"\npath = "/"\nassets = ["/a", "/a"]', "assets: '/a' is asked for twice"),
        ('kind = "page"\npath = "/"\nassets = ["/a", "/"]', "assets: '/' is asked for twice"),
        (f"{PAGE}connections = 0", "connections: 0 must be at least 1"),
        (f"{PAGE}connections = 33", "connections: 33 must be at most 32"),
        (f"{PAGE}asset = 3", "unknown key 'asset'; did you mean 'assets'?"),
        (f"{PAGE}rate = 3\nthink_time_s = 1", "rate and think_time_s exclude each other"),
        (
            'path = "/"',
            "key 'path' is one of phases of another kind (page, websocket, events), and this one is",
        ),
        ("revalidate = true", "key 'revalidate' is one of phases of kind = 'page'"),
        (f"{PAGE.replace('/a.css', '/a')}assets2 = 1", "unknown key 'assets2'"),
    ],
)
def test_a_bad_phase_is_one_sentence_with_its_table(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        phase(tmp_path, text)
    assert says in str(caught.value)
    assert "espperf.toml: [profiles.x] phases.p: " in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", ["3", '"page"', "[]", "true"])
def test_a_phase_that_is_no_table(tmp_path: Path, value: str) -> None:
    with pytest.raises(UsageError, match="must be a table"):
        read(tmp_path, f'[profiles.x]\npaths = ["/"]\n[profiles.x.phases]\np = {value}')


def test_more_paths_than_a_sample_can_name(tmp_path: Path) -> None:
    many = ", ".join(f'"/{number}"' for number in range(255))
    with pytest.raises(UsageError, match="a page has 254 at most, not 255"):
        phase(tmp_path, f'kind = "page"\npath = "/"\nassets = [{many}]')
    with pytest.raises(UsageError, match="256 paths are more than a profile can hold"):
        phase(tmp_path, "clients = 1", head=f'paths = [{many}, "/"]')
    with pytest.raises(UsageError, match="258 paths are more than a profile can hold"):
        read(
            tmp_path,
            f"[profiles.x]\npaths = [{many}]\n[profiles.x.phases.q]\n[profiles.x.phases.p]\n{PAGE}",
        )


def test_the_list_says_how_a_phase_asks(tmp_path: Path) -> None:
    (tmp_path / "espperf.toml").write_text(f"""
[profiles.x]
paths = ["/cart"]
phases.new = {{clients = 4, duration_s = 2, reuse = false}}
phases.full = {{clients = 4, duration_s = 2, reuse = false, tls_resumption = false}}
phases.calm = {{clients = 1, duration_s = 20, think_time_s = 2.5}}
[profiles.x.phases.visit]
duration_s = 3
clients = 2
revalidate = true
{PAGE}""")
    shown = describe_profiles(resolve({}, {}, {}), tmp_path)
    for words in (
        "new 2 s x 4 clients, a connection per request,",
        "full 2 s x 4 clients, a connection per request, full TLS handshakes,",
        "calm 20 s x 1 clients, pause 2.5 s,",
        "visit 3 s x 2 clients, page / + 2 assets over 6 connections, revalidated)",
        "\n    /cart\n    /\n    /a.css\n    /b.js",
    ):
        assert words in shown


def test_options_change_clients_and_durations_alone(tmp_path: Path) -> None:
    text = f"[profiles.x.phases.burst]\n{PAGE}think_time_s = 1\nreuse = false"
    profile = read(tmp_path, text)
    options = {"perf_profiles": ["x"], "perf_burst_clients": "5", "perf_burst_duration": "7"}
    (planned,) = make_plan(resolve(options, {}, {}), {"x": profile}).profiles
    (burst,) = planned.phases
    assert (burst.clients, burst.duration_s) == (5, 7)
    assert (burst.kind, burst.think_time_s, burst.reuse) == ("page", 1.0, False)
    assert burst.page == profile.phases[0].page
