"""The one error hierarchy. A message names the value, the place and the cure."""

from __future__ import annotations

from typing import Any


class WeamError(Exception):
    """Something a person can mend. Commands print it without a traceback and exit with status 2.

    Args:
        what: what is wrong, with the offending value in it.
        place: where it is: ``file:line``, a key path of a study file, a pair_id.
        cure: what to do about it, as an instruction.
    """

    def __init__(self, what: str, *, place: str | None = None, cure: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.place = place
        self.cure = cure

    def __str__(self) -> str:
        where = f"{self.place}: " if self.place else ""
        if not self.cure:
            return f"{where}{self.what}"
        stop = "" if self.what.endswith((".", "?", "!", ":", ";")) else "."
        return f"{where}{self.what}{stop} {self.cure}"

    def __reduce__(self) -> tuple[Any, ...]:
        # Exceptions with keyword-only arguments don't pickle by themselves, and these cross Ray.
        return (_rebuild, (type(self), self.what, self.place, self.cure))


def _rebuild(kind: type[WeamError], what: str, place: str | None, cure: str | None) -> WeamError:
    return kind(what, place=place, cure=cure)


class ConfigError(WeamError):
    """A study file, setting or command line that can't mean anything."""


class DataError(WeamError):
    """Input text, labels or an artifact that is missing, malformed or inconsistent."""


class AlignerError(WeamError):
    """Word alignment can't go on (memory, malformed links, a model that doesn't fit the text)."""


class ResourceError(WeamError):
    """The machine or cluster lacks what the plan needs: memory, disk, CPUs, GPUs, a server."""
