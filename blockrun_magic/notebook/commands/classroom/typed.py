"""Removal of a secret that was typed on a line: from IPython's history and, where possible, from the cell."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from blockrun_magic.notebook.display.output import is_terminal
from blockrun_magic.payments.secrets import Secret

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

__all__ = ["forget_typed"]


def forget_typed(shell: InteractiveShell, secret: Secret) -> tuple[str, ...]:
    """Remove `secret` from the recorded input of this session; return a note about the cell, if it was there."""
    text = str(secret.reveal())
    if not text:
        return ()
    history = shell.history_manager
    cell = str(history.input_hist_raw[-1]) if history is not None and history.input_hist_raw else ""
    _forget_in_memory(shell, history, text)
    with suppress(Exception):  # if the history cannot be changed, the class is joined all the same
        _forget_on_disk(history, text)
    if text not in cell or is_terminal(shell):
        return ()
    with suppress(Exception):  # only notebooks can replace a cell
        shell.set_next_input("\n".join(line.rstrip() for line in cell.replace(text, "").split("\n")), replace=True)
    return ("The code was removed from this cell; `%blockrun join URL` asks for it at a hidden prompt.",)


def _forget_in_memory(shell: InteractiveShell, history: Any, text: str) -> None:
    if history is not None:
        for lines in (history.input_hist_parsed, history.input_hist_raw):
            lines[:] = [line.replace(text, "") for line in lines]
        for name in ("_i", "_ii", "_iii", "_i00"):
            setattr(history, name, str(getattr(history, name, "")).replace(text, ""))
    for name, value in list(shell.user_ns.items()):
        if name.startswith("_i") and isinstance(value, str) and text in value:
            shell.user_ns[name] = value.replace(text, "")


def _forget_on_disk(history: Any, text: str) -> None:
    """Remove `text` from the rows of this session, including those not yet written."""
    with history.db_input_cache_lock:
        history.db_input_cache[:] = [
            (line, parsed.replace(text, ""), raw.replace(text, "")) for line, parsed, raw in history.db_input_cache
        ]
    history.writeout_cache()
    change = "source = replace(source, :text, ''), source_raw = replace(source_raw, :text, '')"
    with history.db:
        history.db.execute(
            f"UPDATE history SET {change} WHERE session = :session",  # noqa: S608  constants of ours
            {"text": text, "session": history.session_number},
        )
