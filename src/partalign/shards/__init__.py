"""Descriptors of more crops than one file or machine takes: lists, shards, workers, and scoring them where they lie.

Knows neither networks nor pictures: `bulk` makes the descriptors.
"""
