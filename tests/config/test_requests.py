"""Requests of a profile from TOML: methods, bodies, headers, the login, budgets of a path."""

from __future__ import annotations

import email.parser
import email.policy
import hashlib
import json
import os
import sys
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from pytest_espperf.config.profiles import load_profiles
from pytest_espperf.errors import TableError
from pytest_espperf.model.workload import Profile, RequestSpec

SECRET = "hunter2hunter2"


def profile(root: Path, text: str) -> Profile:
    (root / "espperf.toml").write_text(f"[profiles.x]\n{text}", encoding="utf-8")
    return load_profiles(root)["x"]


def request(root: Path, text: str, more: str = "") -> RequestSpec:
    (found,) = profile(root, f'paths = [{{path = "/p", {text}}}]\n{more}').requests
    return found


def content_type(spec: RequestSpec) -> list[str]:
    return [value for name, value in spec.headers if name.lower() == "content-type"]


def test_a_path_alone_is_what_it_was(tmp_path: Path) -> None:
    assert request(tmp_path, "weight = 1") == RequestSpec("/p")


@pytest.mark.parametrize(
    ("text", "body", "kind"),
    [
        (
            'json = {id = 1, name = "é", on = true}',
            '{"id":1,"name":"é","on":true}'.encode(),
            "application/json",
        ),
        ("json = [1, 2.5]", b"[1,2.5]", "application/json"),
        ("json = false", b"false", "application/json"),
        ('form = {a = "x y", b = [1, true]}', b"a=x+y&b=1&b=true", "application/x-www-form-urlencoded"),
        ("form = {}", b"", "application/x-www-form-urlencoded"),
        ('body = "é"', "é".encode(), "text/plain; charset=utf-8"),
        ('body = ""', b"", "text/plain; charset=utf-8"),
        ('body_file = "fw.bin"', b"\0\xff", "application/octet-stream"),
    ],
)
def test_each_kind_of_body(tmp_path: Path, text: str, body: bytes, kind: str) -> None:
    (tmp_path / "fw.bin").write_bytes(b"\0\xff")
    spec = request(tmp_path, text)
    assert (spec.method, spec.body, content_type(spec)) == ("POST", body, [kind])
    assert request(tmp_path, f'{text}, method = "put"').label == "PUT /p"
    own = request(tmp_path, f'{text}, headers = {{content-type = "a/b"}}')
    assert content_type(own) == ["a/b"]
    assert content_type(request(tmp_path, text, 'headers = {Content-Type = "c/d"}')) == []


def test_a_form_is_read_back_as_it_was(tmp_path: Path) -> None:
    body = request(tmp_path, 'form = {"a&b" = "1=2", u = "ü+%"}').body
    assert body is not None
    assert parse_qs(body.decode()) == {"a&b": ["1=2"], "u": ["ü+%"]}


def test_a_multipart_body_is_read_by_another_parser(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "fw.bin").write_bytes(bytes(range(256)))
    text = (
        'multipart = {note = "Ana", fw = {file = "sub/fw.bin"},'
        ' log = {file = "sub/fw.bin", filename = "a\\"b.txt", content_type = "text/plain"}}'
    )
    spec = request(tmp_path, text)
    assert spec.body is not None
    (kind,) = content_type(spec)
    parser = email.parser.BytesParser(policy=email.policy.HTTP)
    message = parser.parsebytes(f"Content-Type: {kind}\r\n\r\n".encode() + spec.body)
    parts = {part.get_param("name", header="content-disposition"): part for part in message.iter_parts()}
    assert {name: part.get_content_type() for name, part in parts.items()} == {
        "note": "text/plain",
        "fw": "application/octet-stream",
        "log": "text/plain",
    }
    assert parts["note"].get_payload() == "Ana"
    assert parts["fw"].get_payload(decode=True) == bytes(range(256))
    assert parts["fw"].get_filename() == "fw.bin"
    assert parts["log"].get_filename() == "a%22b.txt"
    assert request(tmp_path, text) == spec, "the same bytes in every session"
    assert request(tmp_path, text.replace("Ana", "Eva")).body != spec.body
    everywhere = request(tmp_path, text, 'headers = {Content-Type = "c/d"}')
    assert content_type(everywhere) == [kind], "without its boundary nobody reads it"


def test_files_are_named_from_the_root_or_the_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("USERPROFILE" if sys.platform == "win32" else "HOME", str(home))
    (home / "a.bin").write_bytes(b"home")
    assert request(tmp_path, 'body_file = "~/a.bin"').body == b"home"
    assert request(tmp_path, f"body_file = {json.dumps(str(home / 'a.bin'))}").body == b"home"


def test_the_same_path_may_have_several_methods(tmp_path: Path) -> None:
    text = 'paths = ["/p", {path = "/p", method = "post"}, {path = "/p", method = "HEAD"}]'
    assert [one.label for one in profile(tmp_path, text).requests] == ["/p", "POST /p", "HEAD /p"]


def test_the_login_and_its_values(tmp_path: Path) -> None:
    found = profile(
        tmp_path,
        """
        session = {path = "/login", json = {u = "b"}, take = {token = "json:a.token", sid = "cookie:sid"}}
        headers = {Authorization = "Bearer {token}"}
        paths = [{path = "/s/{sid}", headers = {X = "{sid}"}, json_contains = {ok = true}}]
        """,
    )
    assert found.login is not None
    assert found.login.request.label == "POST /login"
    assert found.login.take == {"token": "json:a.token", "sid": "cookie:sid"}
    assert found.requests[0].json_contains == '{"ok":true}'


def test_braces_in_a_path_are_its_own_without_a_login(tmp_path: Path) -> None:
    assert profile(tmp_path, 'paths = ["/q?x={name}"]').requests[0].path == "/q?x={name}"


def test_budgets_of_a_path(tmp_path: Path) -> None:
    assert request(tmp_path, "limits = {max_p95_ms = 40, max_error_rate = 1}").limits == {
        "max_p95_ms": 40.0,
        "max_error_rate": 1.0,
    }


LOGIN = f'session = {{path = "/login", json = {{p = "{SECRET}"}}, take = {{token = "json:t"}}}}\n'
WS = '[profiles.x.phases.w]\nkind = "websocket"\n'
EVENTS = '[profiles.x.phases.e]\nkind = "events"\n'
VISIT = '[profiles.x.phases.v]\nkind = "page"\n'

WRONG = {
    'paths = [{path = "/", methods = "POST"}]': "unknown key 'methods'; did you mean 'method'?",
    'paths = [{path = "/", method = "GE T"}]': "method: 'GE T' is no HTTP method",
    'paths = [{path = "/", method = "connect"}]': "method: CONNECT opens a tunnel",
    'paths = [{path = "/", method = 5}]': "method must be text, not a whole number",
    'paths = [{path = "/", body = "x", json = 1}]': "json and body: a request has one body",
    'paths = [{path = "/", json = 2020-01-01}]': "paths[0] json: JSON has no dates and times",
    'paths = [{path = "/", json = {a = nan}}]': "paths[0] json: JSON has no nan",
    'paths = [{path = "/", json_contains = inf}]': "paths[0] json_contains: JSON has no nan and no inf",
    'paths = [{path = "/", form = {a = {}}}]': "form: the value of 'a' must be text, a number",
    'paths = [{path = "/", body = 5}]': "body must be text, not a whole number",
    'paths = [{path = "/", chunked = true}]': "chunked needs a body: one of json, form",
    'paths = [{path = "/", expect_continue = true}]': "expect_continue needs a body",
    'paths = [{path = "/", body_file = "no.bin"}]': "paths[0] body_file: there is no file ",
    'paths = [{path = "/", body_file = "folder"}]': "is not a regular file",
    'paths = [{path = "/", body_file = ""}]': "body_file: it names no file",
    'paths = [{path = "/", body_file = "a\\u0000"}]': "no file can have the name",
    'paths = [{path = "/", multipart = {}}]': "multipart: it has no part",
    'paths = [{path = "/", multipart = {a = 5}}]': "multipart.a: it must be a table, not a whole number",
    'paths = [{path = "/", multipart = {a = {file = "no"}}}]': "multipart.a: there is no file",
    'paths = [{path = "/", multipart = {a = {fil = "no"}}}]': "unknown key 'fil'; did you mean 'file'?",
    'paths = [{path = "/", multipart = {a = {file = "f", content_type = "a\\nb"}}}]': "is no media type",
    'paths = [{path = "/", multipart = {a = "b"}, headers = {content-type = "x"}}]': "leave Content-Type out",
    'paths = [{path = "/", headers = {Content-Length = "3"}}]': "leave Content-Length out: it follows",
    'paths = [{path = "/", headers = {Transfer-Encoding = "chunked"}}]': "write chunked = true",
    'paths = [{path = "/", headers = {expect = "100-continue"}}]': "write expect_continue = true",
    f'paths = [{{path = "/", headers = {{A = ["{SECRET}"]}}}}]': "headers: the value of 'A' must be text",
    'paths = [{path = "/", method = "HEAD", contains = "x"}]': "contains: the answer to a HEAD has no body",
    'paths = [{path = "/", method = "HEAD", json_contains = 1}]': "json_contains: the answer to a HEAD",
    'paths = ["/", {path = "/", method = "GET"}]': "path '/' is listed twice: give it a weight",
    'paths = [{path = "/", body = "a"}, {path = "/", body = "b"}]': "request 'POST /' is listed twice",
    'paths = [{path = "/", limits = {max_psram_free_drop = 1}}]': "a budget of a whole profile",
    'paths = [{path = "/", limits = {max_p95_worst_ms = 1}}]': "a budget of a whole profile",
    'paths = [{path = "/", limits = {max_p95 = 1}}]': "unknown key 'max_p95'; did you mean 'max_p95_ms'?",
    'paths = [{path = "/", limits = {max_p95_ms = -1}}]': "limits: max_p95_ms: -1 must be at least 0",
    'paths = ["/"]\nheaders = {A = "Bearer {token}"}': "nothing takes {token}; name it in the take",
    LOGIN + 'paths = ["/"]\nheaders = {A = "{tokn}"}': "nothing takes {tokn}; did you mean 'token'?",
    LOGIN + 'paths = ["/{tok}"]': "/{tok}: nothing takes {tok}; did you mean 'token'?",
    LOGIN + 'paths = [{path = "/a", headers = {B = "{x}"}}]': "/a: header 'B': nothing takes {x}",
    LOGIN + f'{WS}path = "/ws?t={{tok}}"': "x] phases.w: nothing takes {tok}; did you mean 'token'?",
    LOGIN + f'{EVENTS}path = "/{{a}}"': "x] phases.e: nothing takes {a}; name it in the take",
    LOGIN + f'{VISIT}path = "/{{a}}"\nassets = ["/b"]': "x] phases.v: nothing takes {a}",
    LOGIN + f'{VISIT}path = "/a"\nassets = ["/b", "/{{b}}"]': "x] phases.v: nothing takes {b}",
    LOGIN + f'{WS}path = "/ws"\nmessage = "{{n}} {{token}}"': (
        "phases.w message: a message is sent as it stands: {token} is not filled in it"
    ),
    LOGIN + 'paths = [{path = "/", body = "a {token}"}]': (
        "paths[0] body: a body is sent as it stands: {token} is not filled in it"
    ),
    LOGIN + 'paths = [{path = "/", json = {a = [1, {b = "{token}"}]}}]': "paths[0] json: a body is sent as",
    LOGIN + 'paths = [{path = "/", json = {"{token}" = 1}}]': "paths[0] json: a body is sent as it stands",
    LOGIN + 'paths = [{path = "/", form = {a = ["{token}"]}}]': "paths[0] form: a body is sent as it stands",
    LOGIN + 'paths = [{path = "/", multipart = {a = "{token}"}}]': "paths[0] multipart: a body is sent as",
    'paths = ["/"]\nsession = {path = "/{t}", take = {t = "json:t"}}': "session path: {t}: the login's own",
    'paths = ["/"]\nsession = {path = "/l", body = "{t}", take = {t = "json:t"}}': "session body: {t}: the",
    'paths = ["/"]\nsession = 5': "session: it must be a table, not a whole number",
    'paths = ["/"]\nsession = {json = 1}': "session: it has no path",
    'paths = ["/"]\nsession = {path = "/l", weight = 2}': "session: unknown key 'weight'",
    'paths = ["/"]\nsession = {path = "/l", take = {t = "jsn:t"}}': "'jsn:t' begins with none of",
    'paths = ["/"]\nsession = {path = "/l", take = {t = "json:"}}': "take.t: 'json:' names nothing",
    'paths = ["/"]\nsession = {path = "/l", take = {t = "header:a b"}}': "names nothing",
    'paths = ["/"]\nsession = {path = "/l", take = {t = 5}}': "take.t must be text",
    'paths = ["/"]\nsession = {path = "/l", take = {"a-b" = "json:t"}}': "'a-b' is no name",
    'paths = ["/"]\nsession = {path = "/l", headers = {A = "{t}"}, take = {t = "json:t"}}': "no value yet",
}


@pytest.mark.parametrize("text", WRONG, ids=lambda text: text[-50:])
def test_a_wrong_request_is_one_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "f").write_bytes(b"")
    with pytest.raises(TableError) as caught:
        profile(tmp_path, text)
    said = str(caught.value)
    assert said.startswith(str(tmp_path / "espperf.toml"))
    assert WRONG[text] in said
    assert "\n" not in said
    assert SECRET not in said


PHASES = f"""
{WS}path = "/ws?t={{token}}"
message = '{{"id": {{n}}, "of": "{{user}}"}}'
{EVENTS}path = "/events/{{token}}"
{VISIT}path = "/p/{{token}}"
assets = ["/a/{{token}}"]
"""


@pytest.mark.parametrize("login", ["", LOGIN])
def test_placeholders_of_phases_are_taken_or_stand_for_themselves(tmp_path: Path, login: str) -> None:
    """Without a login braces in a path are its own; a message and a body keep what no login takes."""
    text = login + 'paths = ["/s/{token}", {path = "/b", json = {a = "{user}"}}]\n' + PHASES
    found = profile(tmp_path, text)
    assert [phase.stream.path for phase in found.phases if phase.stream] == [
        "/ws?t={token}",
        "/events/{token}",
    ]
    assert found.phases[2].own_paths == ("/p/{token}", "/a/{token}")
    assert found.requests[1].body == b'{"a":"{user}"}'


@pytest.mark.parametrize(
    "text",
    [
        'paths = [{path = "/", body = "{token}"}]',
        f'{WS}path = "/ws"\nmessage = "{{token}}"',
        f'{WS}path = "/{{token}}"',
    ],
)
def test_braces_without_a_login_are_plain_text(tmp_path: Path, text: str) -> None:
    assert profile(tmp_path, text).login is None


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(TableError, match="is not a regular file"):
        request(tmp_path, 'body_file = "pipe"')


def test_an_unknown_home_folder_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="there is no user 'no-such-user-here'"):
        request(tmp_path, 'body_file = "~no-such-user-here/a"')


def test_the_boundary_depends_on_the_parts_alone(tmp_path: Path) -> None:
    text = 'multipart = {a = "1"}'
    one = request(tmp_path, text)
    assert one.body is not None
    (kind,) = content_type(one)
    assert (
        hashlib.sha256(one.body).hexdigest()
        == hashlib.sha256(request(tmp_path, text).body or b"").hexdigest()
    )
    assert kind.startswith("multipart/form-data; boundary=espperf-")
