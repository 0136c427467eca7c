"""Measuring a run against known answers, and showing it."""
