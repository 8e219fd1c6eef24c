"""Verdicts and tables as text, JSON and pages."""
