"""Unpaid requests that were answered with images: a server may have paid, as ClawRouter does."""

from __future__ import annotations

from blockrun_magic.errors import GatewayError, InvalidResponse, Money
from blockrun_magic.gateway.bodies import Response
from blockrun_magic.gateway.responses import CompletedJob, ImagePayload, read_answer
from blockrun_magic.payments.ledger.records import Payment

__all__ = ["AnsweredUnasked"]


class AnsweredUnasked(InvalidResponse):
    """An unpaid request was answered: `answer` may hold images, and `payment` is the possible charge, once booked."""

    def __init__(self, message: str, hint: str, money: Money, answer: Response) -> None:
        super().__init__(message, hint, money)
        self.answer = answer
        self.payment: Payment | None = None

    @property
    def items(self) -> list[ImagePayload]:
        """The images in the answer, if any."""
        try:
            completed = read_answer(self.answer)
        except GatewayError:
            return []
        return list(completed.items) if isinstance(completed, CompletedJob) else []
