"""The one form in which text is compared, counted and kept."""

from __future__ import annotations

import re
import unicodedata

# Format characters that carry no text: soft hyphen, zero-width space, directional marks and
# embeddings, word joiner, byte-order mark. The joiners U+200C and U+200D shape letters and stay.
_INVISIBLE = re.compile("[\u00ad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff]")


def normalise(text: str) -> str:
    """NFC, invisible format characters removed, runs of whitespace made one space, ends trimmed.

    Whitespace is Unicode's (no-break and ideographic spaces, line separators). Idempotent.
    """
    if not text.isascii():
        text = unicodedata.normalize("NFC", _INVISIBLE.sub("", text))
    return " ".join(text.split())
