"""Triggers: words in a prompt that make the practice gateway fail, as `practice:429` or `practice:slow=2`.

`TRIGGERS` has each name with a sentence that says what happens. A fault acts on
the *paid* call, because the unpaid one only asks for a price. "Before payment" means that nothing
is settled, "after payment" that the payment is settled. Several triggers in one prompt act together.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["FAULTS", "TRIGGERS", "Fault", "Triggers", "UnknownTrigger"]

TRIGGERS: dict[str, str] = {
    "400": "The paid call answers 400 before payment: the prompt was refused as malformed.",
    "402": "The paid call answers 402 before payment: the payment was rejected, with a fresh challenge.",
    "403": "The paid call answers 403 before payment: content policy.",
    "408": "The paid call answers 408 before payment: the model took too long.",
    "429": "The first paid call answers 429 with Retry-After 1; the same payment sent again passes.",
    "429-always": "Every paid call answers 429 with Retry-After 1, before payment.",
    "500": "The paid call answers 500 before payment.",
    "502": "The paid call answers 502 before payment.",
    "503": "The paid call answers 503 before payment.",
    "504": "The paid call answers 504 before payment.",
    "500-once": "The first paid call answers 500 before payment; the same payment sent again passes.",
    "500-charged": "Settles, then answers 500 with the transaction; the same payment sent again delivers.",
    "500-charged-always": "Settles, then answers 500 with the transaction, every time.",
    "lost": "Settles, then drops the connection; the same payment sent again delivers.",
    "lost-always": "Settles, then drops the connection, every time.",
    "lost-unpaid": "Drops the connection before payment, the first time only.",
    "slow": "`practice:slow=2` answers 202, and the job is ready after that many seconds (1 without a number).",
    "fail-job": "Answers 202, and the job fails: nothing is charged.",
    "poll-504": "Answers 202, and the first poll answers 504.",
    "price-up": "The challenge asks ten times the list price.",
    "url": "The images come as URLs.",
    "data": "The images come as data URIs.",
    "b64": "The images come as `b64_json`.",
    "html": "After payment, the image's bytes are an HTML page.",
    "html-error": "The paid call answers 502 with an HTML page instead of JSON, before payment.",
    "truncated": "After payment, the image is a PNG cut off in the middle.",
    "bomb": "After payment, the image is a tiny PNG that claims 60000x60000 pixels.",
    "svg": "After payment, the image's bytes are an SVG with a script in it.",
    "script": "`revised_prompt` is `<script>alert(1)</script>`.",
    "file-url": "After payment, the image's URL is `file:///etc/passwd`.",
    "foreign-url": "After payment, the image's URL points to a private address.",
    "no-data": "After payment, the answer holds no images.",
    "no-receipt": "After payment, the answer names no transaction anywhere.",
}

_WORD = re.compile(r"(?<![\w:])practice:([a-z0-9][a-z0-9-]*)(?:=(\d{1,5}(?:\.\d{1,3})?))?", re.IGNORECASE)
_LONG_JOBS = frozenset({"slow", "fail-job", "poll-504"})


class UnknownTrigger(ValueError):
    """An unknown `practice:` word."""


@dataclass(frozen=True, slots=True)
class Fault:
    """An error response before payment: its status and body, and whether the second request succeeds."""

    status: int
    body: dict[str, object]
    once: bool = False


def _typed(message: str, kind: str, code: str) -> dict[str, object]:
    return {"error": {"message": message, "type": kind, "code": code}}


_LIMITED: dict[str, object] = {
    "error": "Rate limit exceeded",
    "message": "The model behind this gateway takes no more requests for now.",
    "retry_after_seconds": 1,
}
_MODEL_FAILED = _typed("The model failed while it was painting (practice).", "server_error", "internal_error")
FAULTS: dict[str, Fault] = {
    "400": Fault(400, _typed("The prompt is not acceptable (practice).", "invalid_request_error", "bad_prompt")),
    "403": Fault(403, {"error": "Content policy violation", "details": "The prompt was refused (practice)."}),
    "408": Fault(408, {"error": "Request timeout", "message": "The model took too long (practice)."}),
    "429": Fault(429, _LIMITED, once=True),
    "429-always": Fault(429, _LIMITED),
    "500": Fault(500, _MODEL_FAILED),
    "500-once": Fault(500, _MODEL_FAILED, once=True),
    "502": Fault(502, {"error": "Bad gateway", "details": "The model's host did not answer (practice)."}),
    "503": Fault(503, _typed("The model is not available (practice).", "server_error", "unavailable")),
    "504": Fault(504, {"error": "Gateway timeout", "details": "The model's host was too slow (practice)."}),
}
_FREE = frozenset({"402", "fail-job", "html-error"} | {name for name, fault in FAULTS.items() if not fault.once})


@dataclass(frozen=True, slots=True)
class Triggers:
    """The triggers of one prompt, in their order."""

    names: tuple[str, ...]
    seconds: float | None
    """The seconds of a forced job, or None if the model decides."""

    @classmethod
    def read(cls, prompt: str) -> Triggers:
        """Return the triggers in `prompt`; raises UnknownTrigger for another `practice:` word."""
        names: list[str] = []
        seconds: float | None = None
        for match in _WORD.finditer(prompt):
            name = match[1].lower().rstrip("-")
            if name not in TRIGGERS:
                raise UnknownTrigger(f"practice:{name} is not a trigger. Use one of: {', '.join(TRIGGERS)}")
            names.append(name)
            if name in _LONG_JOBS:
                seconds = float(match[2]) if match[2] else (seconds or 1.0)
        return cls(tuple(names), seconds)

    def __contains__(self, name: str) -> bool:
        return name in self.names

    @property
    def faults(self) -> tuple[tuple[str, Fault], ...]:
        """The error responses before payment, by name."""
        return tuple((name, FAULTS[name]) for name in self.names if name in FAULTS)

    @property
    def free(self) -> bool:
        """True if the request ends before anything is paid."""
        return not _FREE.isdisjoint(self.names)

    @property
    def form(self) -> str | None:
        """The requested form of the result ("url", "data" or "b64"), or None."""
        return next((name for name in self.names if name in {"url", "data", "b64"}), None)
