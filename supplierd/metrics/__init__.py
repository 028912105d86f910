"""Prometheus metrics: families built from one snapshot when somebody scrapes. Nothing is kept between scrapes."""

from supplierd.metrics.collector import SnapshotCollector, families

__all__ = ["SnapshotCollector", "families"]
