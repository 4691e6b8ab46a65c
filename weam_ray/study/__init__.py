"""Cells → answer: the study file, its grid and plan, the ledger, statistics and the report."""
