"""`/metrics` as a scraper reads it: each answer is parsed in both formats, by the parsers of prometheus_client."""

from collections.abc import Mapping
from dataclasses import dataclass

import prometheus_client.openmetrics.parser as open_metrics
import prometheus_client.parser as plain

from machine import request

OPEN_METRICS = "application/openmetrics-text;version=1.0.0"


@dataclass
class Scrape:
    """What one answer said."""

    samples: dict[tuple[str, frozenset[tuple[str, str]]], float]
    types: dict[str, str]
    text: str

    def of(self, name: str, **labels: str) -> dict[frozenset[tuple[str, str]], float]:
        """The samples of a name that have these labels."""
        wanted = set(labels.items())
        return {found: value for (known, found), value in self.samples.items() if known == name and wanted <= found}

    def sum(self, name: str, **labels: str) -> float:
        return sum(self.of(name, **labels).values())


def parse(text: str, content_type: str) -> Scrape:
    """The answer, read by the parser that fits its type; no sample may come twice."""
    parser = open_metrics if "openmetrics" in content_type else plain
    samples: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
    types = {}
    for family in parser.text_string_to_metric_families(text):
        types[family.name] = family.type
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in samples, f"{key} comes twice"
            samples[key] = sample.value
    return Scrape(samples, types, text)


def scrape(address: str, headers: Mapping[str, str] | None = None) -> Scrape:
    """Asks without a token, first for plain text and then as Prometheus does, and returns the latter."""
    for accept in ("text/plain", OPEN_METRICS):
        answer = request("GET", address + "/metrics", headers={"Accept": accept, **(headers or {})})
        assert answer.status == 200, answer.text
        found = parse(answer.text, answer.headers["content-type"])
    return found
