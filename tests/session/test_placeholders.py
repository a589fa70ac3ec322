"""Words in braces in a user's commands: which are replaced, which are refused, which are the shell's."""

from __future__ import annotations

import shlex
import subprocess
import sys

import pytest

from pytest_espperf.errors import UsageError
from pytest_espperf.model.workload import Target
from pytest_espperf.session.placeholders import DESCRIBES, fill, names_in, refuse_unknown

TARGET = Target(scheme="http", address="192.0.2.1", port=8080, host_header="board")
FLASH = ("dir", "commit", "ip", "port")


def test_placeholders_are_replaced_and_other_braces_are_the_shells() -> None:
    command = "for i in ${A}; do flash --host {ip}:{port} '{slot}' {other} {commit}; done"
    filled = fill(command, TARGET, slot="b")
    assert filled == "for i in ${A}; do flash --host 192.0.2.1:8080 'b' {other} {commit}; done"
    assert names_in(command) == {"ip", "port", "slot", "commit"}


@pytest.mark.skipif(sys.platform == "win32", reason="a shell's quotes")
def test_a_value_is_one_word_of_the_shell() -> None:
    assert shlex.split(fill("make -C {dir}", dir="/a b/$(x);'c'")) == ["make", "-C", "/a b/$(x);'c'"]


@pytest.mark.skipif(sys.platform == "win32", reason="the quotes of a POSIX shell")
@pytest.mark.parametrize("command", ['"{dir}/x"', "'{dir}/x'", "{dir}/x", "'a'\"{dir}/x\"", '\\"{dir}/x'])
def test_a_placeholder_may_stand_in_quotes(command: str) -> None:
    folder = "/a b/$(touch x)`y`\"';\\z$HOME"
    said = subprocess.run(
        ["/bin/sh", "-c", f"printf %s {fill(command, dir=folder)}"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert said.removeprefix("a").removeprefix('"') == f"{folder}/x"


def test_a_value_is_not_filled_in_again() -> None:
    assert "{slot}" in fill("x {dir}", TARGET, dir="{slot}", slot="b")


@pytest.mark.parametrize(
    "text",
    [
        "echo ${ip} ${VAR} ${port:-80}",
        "x ${{ ip }} {{ip}} {{ port }}",
        "awk '{print}' ; awk '{print $1}' ; awk '{ print port }'",
        """curl -d '{"slot": 1, "ip": "x"}' x""",
        "cp {a,b}.bin {1..3} x{}; find . -exec ls {} \\;",
        "git log HEAD@{upstream} stash@{0} -n1; sed -n '/x/{p}'; curl -w '%{http_code}'",
        "python -c 'print(f\"{x!r} {version} {n:>3}\")'",
        "jq '{name}' | xargs -I{file} cp {file} y; { make; } 2>&1",
        "curl -w '%{host} %{remote_ip}'; tmux display '#{host}'; ruby -e 'puts \"#{address}\"'",
        "Write-Host ${env:IP} $($ip) @{ip=1} (Get-Item x).{Name}; echo %IP% %{0}% {0} {0:x}",
        "{''ip} {''slot} '{'port'}' {\"\"dir}",
        "plain",
        "",
    ],
)
def test_braces_of_shells_and_their_like_stay(text: str) -> None:
    refuse_unknown(text, "--flash-cmd", FLASH)
    values = dict.fromkeys(DESCRIBES, "XX")
    assert fill(text, TARGET, **values) == text


@pytest.mark.skipif(sys.platform == "win32", reason="a shell of POSIX")
def test_a_variable_of_the_shell_with_the_name_of_a_placeholder_is_the_shells() -> None:
    command = fill("port=7; printf '%s %s' ${port} {port}", TARGET)
    assert (
        subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=True).stdout
        == "7 8080"
    )


@pytest.mark.skipif(sys.platform == "win32", reason="the quotes of a POSIX shell")
@pytest.mark.parametrize("command", ["printf %s {''ip}", "printf %s '{''ip}'", 'printf %s "{""ip}"'])
def test_two_quotes_make_a_placeholder_the_shells(command: str) -> None:
    refuse_unknown(command, "--flash-cmd", ())
    filled = fill(command, TARGET)
    said = subprocess.run(["/bin/sh", "-c", filled], capture_output=True, text=True, check=True).stdout
    assert said == "{ip}"


def test_a_board_behind_a_user_is_a_placeholder() -> None:
    assert fill("scp x root@{ip}:y", TARGET) == "scp x root@192.0.2.1:y"
    with pytest.raises(UsageError, match=r"\{host\} is no placeholder; did you mean \{ip\}"):
        refuse_unknown("scp x root@{host}:y", "--flash-cmd", FLASH)


def test_a_value_may_stand_in_the_braces_of_json() -> None:
    assert fill("""{"slot":{slot}}""", TARGET, slot="1") == """{"slot":1}"""


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("comit", "commit"),
        ("commmit", "commit"),
        ("COMMIT", "commit"),
        ("Dir", "dir"),
        ("dirr", "dir"),
        ("folder", "dir"),
        ("directory", "dir"),
        ("prot", "port"),
        ("ports", "port"),
        ("IP", "ip"),
        ("ipp", "ip"),
        ("host", "ip"),
        ("adress", "ip"),
        ("address", "ip"),
        ("sha", "commit"),
        ("revision", "commit"),
        ("rport", ""),
        ("sort", ""),
        ("part", ""),
        ("post", ""),
        ("zip", ""),
        ("print", ""),
        ("next", ""),
        ("p", ""),
        ("i", ""),
    ],
)
def test_a_misspelt_one_is_refused_with_the_nearest(word: str, meant: str) -> None:
    command = f"flash x/{{{word}}}/y --password s3cret"
    if not meant:
        refuse_unknown(command, "--flash-cmd", FLASH)
        return
    with pytest.raises(UsageError) as caught:
        refuse_unknown(command, "--flash-cmd", FLASH)
    assert str(caught.value) == (
        f"--flash-cmd: {{{word}}} is no placeholder; did you mean {{{meant}}}? "
        "(here {dir}, {commit}, {ip} and {port} can stand)"
    )


@pytest.mark.parametrize("word", sorted(set(DESCRIBES) - set(FLASH)))
def test_one_of_another_option_is_refused(word: str) -> None:
    with pytest.raises(UsageError, match=rf"--flash-cmd: \{{{word}\}} is known of {DESCRIBES[word]} only"):
        refuse_unknown(f"flash {{{word}}}", "--flash-cmd", FLASH)


def test_any_word_in_braces_is_meant_to_be_replaced_in_a_path() -> None:
    refuse_unknown("/ota?slot={slot}", "--switch-url", ("slot",), is_path=True)
    with pytest.raises(UsageError, match=r"\{bank\} is no placeholder \(here \{slot\} can stand\)"):
        refuse_unknown("/ota?slot={bank}", "--switch-url", ("slot",), is_path=True)
    with pytest.raises(UsageError, match=r"\{x\} is no placeholder \(none can stand here\)"):
        refuse_unknown("/ota/{x}", "--check-url", (), is_path=True)
