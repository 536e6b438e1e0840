"""Metrics as Prometheus reads them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from rangeserver.metrics import Metrics


@dataclass(frozen=True, slots=True)
class Scrape:
    """One reading of all series."""

    values: Mapping[tuple[str, frozenset[tuple[str, str]]], float]

    def __call__(self, name: str, **labels: str) -> float:
        """The value of one series; a series that is not there stands at 0."""
        return self.values.get((name, frozenset(labels.items())), 0.0)

    def named(self, name: str) -> dict[frozenset[tuple[str, str]], float]:
        """All series of this name, by their labels."""
        return {labels: value for (own, labels), value in self.values.items() if own == name}


def parsed(text: str) -> Scrape:
    return Scrape(
        {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }
    )


def scrape(metrics: Metrics) -> Scrape:
    """The same without the way through the text, which takes most of the time: a watched test
    scrapes a dozen times.
    """
    return Scrape(
        {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in metrics.registry.collect()
            for sample in family.samples
            if not sample.name.endswith("_created")
        }
    )
