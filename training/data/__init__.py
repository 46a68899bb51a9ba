"""Scans, films and targets in memory, checked before the first step."""
