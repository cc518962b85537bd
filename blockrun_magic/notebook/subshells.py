"""Delivery of widget events to the kernel while a cell runs."""

from __future__ import annotations

from typing import Any

__all__ = ["route_to_subshell"]


def route_to_subshell(widget: Any) -> None:
    """Let the events of `widget` arrive on the subshell over which JupyterLab sends them.

    If the widget was made on the main shell, ipykernel 7.4 sends its events there, where they wait for the running
    cell. All inputs take the same way, so that a click never overtakes an earlier input.
    """
    if hasattr(widget.comm, "_reply_subshell_for"):
        widget.comm._reply_subshell_for = lambda _data, subshell: subshell  # noqa: SLF001
