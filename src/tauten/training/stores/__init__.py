"""Samples of a training wherever they lie: in memory, in shards, in videos."""
