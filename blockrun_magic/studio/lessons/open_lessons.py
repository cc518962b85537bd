"""The open lessons of a session, which answer requests before anything is bought."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from blockrun_magic.errors import LessonError, Money
from blockrun_magic.studio.lessons.lesson import Lesson, answer_from, check_strict, lessons_in

if TYPE_CHECKING:
    from blockrun_magic.studio.results.result import ImageResult

__all__ = ["OpenLessons"]


class OpenLessons:
    """The open lessons, and the delivered results, which an export packs.

    The lessons in the working folder are opened at the first use, once.
    """

    def __init__(self) -> None:
        self._lessons: list[Lesson] = []
        self.found = False
        """Whether the lessons in the working folder were opened, or closed by the user."""
        self.delivered: dict[tuple[str, str, int], None] = {}
        """Realm, digest and take of every delivered result, in order, newly bought or stored."""

    def __iter__(self) -> Iterator[Lesson]:
        return iter(self._lessons)

    def __len__(self) -> int:
        return len(self._lessons)

    def find(self) -> None:
        """Open the lessons in the working folder, once; raises LessonError while one of them cannot be read."""
        if self.found:
            return
        try:
            names = {lesson.name for lesson in self._lessons}
            self._lessons += [lesson for lesson in lessons_in(Path()) if lesson.name not in names]
        except LessonError as error:
            raise error.with_money(Money.nothing_signed()) from None
        self.found = True

    def open(self, lesson: Lesson) -> None:
        """Let `lesson` answer first, in place of an open one of its name."""
        self._lessons = [lesson, *(each for each in self._lessons if each.name != lesson.name)]

    def close(self) -> list[str]:
        """Close every lesson, including one that cannot be read, and return the names of those that were open."""
        names = [lesson.name for lesson in self._lessons]
        self._lessons, self.found = [], True
        return names

    def copy(self) -> OpenLessons:
        """Return the same open lessons for a forked process, without the delivered results."""
        other = OpenLessons()
        other._lessons, other.found = list(self._lessons), self.found
        return other

    def check(self, _realm: str) -> None:
        """Raise LessonError if a lesson forbids purchases: a strict one, or one that cannot be read."""
        self.find()
        check_strict(self._lessons)

    def has(self, digest: str, take: int | None) -> bool:
        """Return whether a lesson has this take of a request, or its first one."""
        return any(lesson.take_of(digest, take) for lesson in self._lessons)

    def answer(self, digest: str, take: int | None, *, fresh: bool) -> ImageResult | None:
        """Return a lesson's answer to a request, or None; raises LessonError if a strict one has no answer."""
        return answer_from(self._lessons, digest, take, fresh=fresh)

    def note(self, result: ImageResult) -> None:
        """Note that a result was delivered."""
        self.delivered[result.receipt.realm, result.receipt.request_digest, result.receipt.take] = None
