"""Readers of the exports: parsers that are not ours, and the rules of tools that no package has."""

from __future__ import annotations

import csv
import io
import json
import re
from typing import Any

import jsonschema
import pytest
import xmlschema
from prometheus_client.openmetrics import parser as openmetrics
from support.paths import DATA

SCHEMA = DATA / "junit-10.xsd"
ENDPOINT = json.loads((DATA / "schemas" / "shields-endpoint.json").read_text(encoding="utf-8"))
"""What shields documents of the JSON that its endpoint badge reads."""


def benchmark_results(text: str) -> list[dict[str, Any]]:
    """The tool's extractCustomBenchmarkResult and BenchmarkResult, put into Python: there is no package."""
    found = json.loads(text)
    if not found:
        raise ValueError("No benchmark result was found")
    for entry in found:
        assert isinstance(entry["name"], str)
        assert isinstance(entry["unit"], str)
        assert isinstance(entry["value"], (int, float))
        assert isinstance(entry.get("range", ""), str)
        assert isinstance(entry.get("extra", ""), str)
        assert set(entry) <= {"name", "value", "unit", "range", "extra"}
    assert len({entry["name"] for entry in found}) == len(found), "it finds the previous value by name"
    return list(found)


def bmf(text: str) -> dict[str, dict[str, dict[str, float]]]:
    """Bencher's published JSON schema of its format and its rules for names, put into Python: no package."""
    document = json.loads(text)
    assert isinstance(document, dict)
    for benchmark, measures in document.items():
        assert 0 < len(benchmark) <= 1024
        assert isinstance(measures, dict)
        for measure, metric in measures.items():
            assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", measure), "a slug stays what it is"
            assert len(measure) <= 64
            assert set(metric) <= {"value", "lower_value", "upper_value"}
            assert all(type(value) in (int, float) for value in metric.values())
            assert metric["lower_value"] <= metric["value"] <= metric["upper_value"]
    return dict(document)


def badge(text: str) -> dict[str, Any]:
    """The response of an endpoint, as shields takes it; its colour is one that the page names."""
    document = json.loads(text)
    jsonschema.Draft7Validator(ENDPOINT).validate(document)
    assert document["color"] in ENDPOINT["definitions"]["namedColor"]["enum"]
    return dict(document)


def families(text: str) -> dict[str, Any]:
    parse: Any = openmetrics.text_string_to_metric_families  # it has no types
    return {family.name: family for family in parse(text)}


def read(name: str, behind: str, text: str, schema: xmlschema.XMLSchema) -> None:
    """Let the format's reader take a text, as far as it takes one without a file."""
    if name == "openmetrics":
        families(text)
    elif name == "junit":
        schema.validate(text)
    elif name == "csv":
        table = list(csv.reader(io.StringIO(text, newline="")))
        assert {len(row) for row in table} == {len(table[0])}
    elif name == "badge":
        badge(text)
    elif name == "bencher":
        json.loads(text, parse_constant=pytest.fail)
    elif name == "hdrlog":
        for line in text.split("\n"):
            if line and not line.startswith(('"StartTimestamp"', "#")):
                assert re.fullmatch(r"Tag=[^, ]+,\d+\.\d+,\d+\.\d+,\d+\.\d+,[^,\s]+", line)
    else:
        document = json.loads(text, parse_constant=pytest.fail)
        assert isinstance(document, dict if name == "pytest-benchmark" else list)
