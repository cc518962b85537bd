"""Delivery of widget events to the kernel while a cell runs."""

from __future__ import annotations

from typing import Any

__all__ = ["route_to_subshell"]


def route_to_subshell(widget: Any) -> None:
    """Let what the user does with `widget` arrive on the subshell that JupyterLab sends it over.

    ipykernel 7.4 sends it to the main shell instead, where it waits for the running cell, if the widget was made
    there. All inputs go the same way, so that a click never overtakes what was done before it.
    """
    if hasattr(widget.comm, "_reply_subshell_for"):
        widget.comm._reply_subshell_for = lambda _data, subshell: subshell  # noqa: SLF001
