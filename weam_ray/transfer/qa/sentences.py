"""Contexts cut into sentences, roughly."""

from __future__ import annotations

import re

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|(?<=[。！？।])")


def sentences(context: str) -> list[str]:
    """The sentences of a context, roughly; at least one."""
    return [one for one in _SENTENCE_END.split(context) if one.strip()] or [context]
