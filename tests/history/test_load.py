from __future__ import annotations

import contextlib
import json
import os
import random
import time
import tracemalloc
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.history_samples import DATA, json_values, session, sessions

from pytest_espperf.errors import ArtifactError, NewerSchemaError
from pytest_espperf.history import decode_session, encode_session, load, load_session, migrate
from pytest_espperf.model.artifact import SCHEMA_VERSION, SessionArtifact

SEEDED = settings(
    derandomize=True,
    max_examples=60,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
SCHEMA_0 = sorted((DATA / "schema0").glob("*.json"))
SCHEMA_1 = sorted((DATA / "schema1").glob("*.json"))


def changed(**values: Any) -> bytes:
    data = json.loads(encode_session(session()))
    data.update(values)
    return json.dumps(data).encode()


def test_the_original_s_session_loads_without_guesses() -> None:
    artifact = load_session(DATA / "schema0" / "perf_20260212T101503Z_baseline_isolated_v1.json")
    assert artifact.schema_version == SCHEMA_VERSION
    assert artifact.comparability is None
    assert artifact.gate is None
    assert artifact.tag == "baseline_isolated_v1"
    assert artifact.session_id.startswith("s0-")
    assert artifact.profiles == ["c_static_only", "python_light", "python_heavy"]
    assert len(list(artifact.results())) == 12
    cell = artifact.aggregated["python_heavy:burst"]
    assert cell.p95_ms.median is not None
    assert cell.path_metrics["/template"].p95_ms.median is not None
    assert artifact.comparison_to_previous["python_heavy:burst"]["p95_ms_median_delta"] is not None
    assert artifact.thresholds["max_error_rate"] == 2.0
    first = next(result for _, result in artifact.results())
    assert first.report.mem_before["heap"]["psram_total"] == 8_388_608
    assert first.report.stats_after["ipc"]["ring_size"] == 65536


def test_a_phase_without_answers_has_no_latency() -> None:
    artifact = load_session(DATA / "schema0" / "perf_20260213T074410Z_ipc_ring_try.json")
    failed = [result for _, result in artifact.results() if not result.passed]
    assert len(failed) == 1
    report = failed[0].report
    assert (report.p50_ms, report.p95_ms, report.p99_ms, report.p95_tail_ms, report.mean_ms) == (None,) * 5
    assert report.error_rate == 100.0
    assert report.path_metrics["/template"].p95_ms is None
    cell = artifact.aggregated["python_heavy:burst"]
    answered = [
        r.report.p95_ms for _, r in artifact.results() if (r.profile, r.phase) == ("python_heavy", "burst")
    ]
    assert [cell.p95_ms.median, None] == answered  # not the mean of 191 ms and 99,999 ms
    assert cell.rps_ok.worst == 0.0  # that was measured
    whole = artifact.aggregated["c_static_only:burst"]
    raw = json.loads((DATA / "schema0" / "perf_20260213T074410Z_ipc_ring_try.json").read_text())
    assert whole.p95_ms.median == raw["aggregated"]["c_static_only:burst"]["p95_ms"]["median"]


def test_the_original_s_partial_file_loads() -> None:
    artifact = load_session(DATA / "schema0" / "latest.partial.json")
    assert artifact.partial
    assert not artifact.overall_pass  # so far is not to the end
    assert artifact.aggregated == {}
    assert len(artifact.raw_runs) == 3


@pytest.mark.parametrize("path", SCHEMA_0 + SCHEMA_1, ids=lambda path: path.name)
def test_samples_survive_being_written_again(path: Path) -> None:
    artifact = load_session(path)
    again = decode_session(encode_session(artifact))
    assert again == artifact


def test_schema_1_is_frozen() -> None:
    (path,) = SCHEMA_1
    raw = json.loads(path.read_text(encoding="utf-8"))
    written = json.loads(encode_session(load_session(path)))

    def missing(old: Any, new: Any, at: str) -> list[str]:
        if isinstance(old, dict):
            lost = [f"{at}.{key}" for key in old if key not in new]
            return lost + [
                one for key in old if key in new for one in missing(old[key], new[key], f"{at}.{key}")
            ]
        if isinstance(old, list):
            return [one for i, item in enumerate(old) for one in missing(item, new[i], f"{at}[{i}]")]
        return [] if old == new else [at]

    assert missing(raw, written, "$") == []


def test_each_old_schema_has_its_step() -> None:
    assert set(migrate.MIGRATIONS) == set(range(SCHEMA_VERSION))


def test_migration_leaves_its_input_alone() -> None:
    raw = json.loads(SCHEMA_0[-1].read_text(encoding="utf-8"))
    before = json.dumps(raw)
    migrate.migrate(raw, 0)
    assert json.dumps(raw) == before


def test_a_newer_schema_is_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "perf.json"
    path.write_bytes(changed(schema_version=SCHEMA_VERSION + 1, raw_runs="all different"))
    with pytest.raises(NewerSchemaError) as caught:
        load_session(path)
    assert caught.value.path == path
    assert caught.value.field == "$.schema_version"
    assert f"schema {SCHEMA_VERSION + 1}" in str(caught.value)


@pytest.mark.parametrize(
    ("data", "field", "reason"),
    [
        (b"", "", "is empty"),
        (b" \n", "", "is empty"),
        (b"[]", "", "valid session"),
        (b"{}", "", "not a session"),
        (b'{"name": "package", "version": 1}', "", "not a session"),
        (b'{"schema_version": 1}', "$.timestamp_utc", "not a session"),
        (b'{"schema_version": 1, "timestamp_utc": "20260101T000000Z"}', "$.raw_runs", "not a session"),
        (changed(schema_version=0), "$.schema_version", "impossible"),
        (changed(schema_version=-1), "$.schema_version", "impossible"),
        (changed(schema_version="1"), "$.schema_version", "Expected"),
        (changed(schema_version=True), "$.schema_version", "Expected"),
        (changed(schema_version=10**30), "$.schema_version", "more than 64 bits"),
        (changed(timestamp_utc="yesterday"), "$.timestamp_utc", "no UTC time"),
        (changed(raw_runs=[{"profile": "p"}]), "$.raw_runs[0]", "run_index"),
        (changed(raw_runs=[{"profile": 7, "run_index": 1}]), "$.raw_runs[0].profile", "Expected `str`"),
        (changed(overall_pass=None), "$.overall_pass", "Expected `bool`"),
        (changed(gate={"verdict": "great"}), "$.gate.verdict", "Invalid enum"),
        (changed(runs_per_profile=10**40), "", "64 bits"),
        (changed(settings={"deep": [{"er": 10**25}]}), "", "64 bits"),
        (encode_session(session())[:-40], "", "not JSON"),
        (encode_session(session()) + b"}", "", "not JSON"),
        (encode_session(session()).replace(b"30.0", b"NaN"), "", "not JSON"),
        (encode_session(session()).replace(b"30.0", b"Infinity"), "", "not JSON"),
        (encode_session(session()).replace(b"30.0", b"1e999"), "*", ""),
        (encode_session(session()).replace(b"bench-1", b"\xff\xfe"), "*", ""),
        (encode_session(session()).decode().encode("utf-16")[:-1], "", "save it as UTF-8"),
        (b"\x00" * 100, "", "not JSON"),
        (b"[" * 1_000_000, "*", ""),
        (b'{"a":' * 200_000, "*", ""),
        (b'{"timestamp_utc": "20260101T000000Z", "raw_runs": [3], "profiles": []}', "", "schema 0"),
        (b'{"timestamp_utc": "20260101T000000Z", "raw_runs": [], "profiles": 3}', "$.profiles", "Expected"),
    ],
)  # fmt: skip
def test_bad_files_are_refused_with_the_field(tmp_path: Path, data: bytes, field: str, reason: str) -> None:
    path = tmp_path / "perf_x.json"
    path.write_bytes(data)
    with pytest.raises(ArtifactError) as caught:
        load_session(path)
    assert caught.value.path == path
    if field != "*":
        assert caught.value.field.removeprefix("$") == field.removeprefix("$")
    assert reason in str(caught.value)
    assert str(path) in str(caught.value)


def test_free_parts_cannot_be_nested_too_deeply() -> None:
    deep: Any = 1
    for _ in range(load.MAX_DEPTH + 1):
        deep = [deep]
    with pytest.raises(ArtifactError, match=r"levels deep at \$\.settings"):
        decode_session(changed(settings={"a": deep}))
    in_report = session()
    raw = json.loads(encode_session(in_report))
    raw["raw_runs"][0]["results"][0]["report"]["stats_after"] = {"a": deep}
    with pytest.raises(ArtifactError, match=r"\$\.raw_runs\[0\]\.results\[0\]\.report"):
        decode_session(json.dumps(raw).encode())


def test_size_and_values_are_bounded(tmp_path: Path) -> None:
    path = tmp_path / "big.json"
    with path.open("wb") as stream:
        stream.truncate(load.MAX_BYTES + 1)  # sparse: a large string costs no disk
    tracemalloc.start()
    try:
        with pytest.raises(ArtifactError, match="larger than"):
            load_session(path)
        bomb = b"[" + b"[]," * (load.MAX_VALUES // 2 + 1) + b"0]"
        with pytest.raises(ArtifactError, match="values"):
            decode_session(b'{"schema_version": 1, "settings": ' + bomb + b"}")
        assert tracemalloc.get_traced_memory()[1] < 64e6
    finally:
        tracemalloc.stop()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_or_folder_is_no_session_and_never_blocks(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "perf_20260101T000000Z.json")
    before = time.monotonic()
    for path in (tmp_path / "perf_20260101T000000Z.json", tmp_path):
        with pytest.raises(ArtifactError, match="not a regular file"):
            load_session(path)
    assert time.monotonic() - before < 60


def test_a_missing_file_is_an_artifact_error(tmp_path: Path) -> None:
    for path in (tmp_path / "none.json", tmp_path / "a\0b"):
        with pytest.raises(ArtifactError, match="cannot be read"):
            load_session(path)


def test_what_could_not_be_read_again_is_not_written() -> None:
    run = session().raw_runs[0]
    report = msgspec.structs.replace(run.results[0].report, error_rate=float("nan"))
    result = msgspec.structs.replace(run.results[0], report=report)
    broken = msgspec.structs.replace(session(), raw_runs=[msgspec.structs.replace(run, results=[result])])
    with pytest.raises(ArtifactError, match="error_rate"):
        encode_session(broken)
    for hostile in ({"a": object()}, {"a": 10**30}, {"a": 10**5000}):
        with pytest.raises(ArtifactError):
            encode_session(msgspec.structs.replace(session(), settings=hostile))
    loop: dict[str, Any] = {}
    loop["loop"] = loop
    with pytest.raises(ArtifactError):
        encode_session(msgspec.structs.replace(session(), settings=loop))


def test_console_bytes_that_are_no_text_are_kept_readable() -> None:
    artifact = msgspec.structs.replace(session(), device={"serial": ["ok \udcff\ud800 line"]})
    (line,) = decode_session(encode_session(artifact)).device["serial"]
    assert line.startswith("ok \ufffd")
    assert line.endswith("\ufffd line")


@SEEDED
@given(sessions)
def test_any_session_round_trips(artifact: SessionArtifact) -> None:
    assert decode_session(encode_session(artifact)) == artifact


@SEEDED
@given(st.binary(max_size=200) | json_values.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(ArtifactError):
        decode_session(data)


@settings(SEEDED, max_examples=150)
@given(st.sampled_from(SCHEMA_0 + SCHEMA_1), st.integers(0, 2**32), json_values)
def test_any_damage_is_an_artifact_error_or_harmless(path: Path, seed: int, value: Any) -> None:
    raw = json.loads(path.read_text(encoding="utf-8"))
    source = random.Random(seed)
    at: Any = raw
    while True:
        key = source.choice(list(at) if isinstance(at, dict) else range(len(at)))
        if not isinstance(at[key], (dict, list)) or not at[key] or source.random() < 0.2:
            break
        at = at[key]
    at[key] = value
    try:
        artifact = decode_session(json.dumps(raw).encode())
    except ArtifactError:
        return
    assert decode_session(encode_session(artifact)) == artifact


@SEEDED
@given(st.sampled_from(SCHEMA_1), st.integers(0, 2**32))
def test_any_damaged_byte_is_an_artifact_error_or_harmless(path: Path, seed: int) -> None:
    data = bytearray(path.read_bytes())
    source = random.Random(seed)
    for _ in range(source.randrange(1, 4)):
        data[source.randrange(len(data))] = source.randrange(256)
    with contextlib.suppress(ArtifactError):
        decode_session(bytes(data))
