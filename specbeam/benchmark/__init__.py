"""Measurements: ratios within one run, interleaved, medians, with their conditions."""
