"""The head of the panel in a classroom: the student's name, and the limits as the class counts them."""

from __future__ import annotations

import asyncio
from html import escape
from typing import TYPE_CHECKING

from blockrun_magic.errors import BlockrunError, GatewayUnreachable
from blockrun_magic.gateway.classroom.protocol import NOTICE
from blockrun_magic.gateway.gateways import Payer
from blockrun_magic.notebook.commands.classroom.card import limit_spends, own_limits
from blockrun_magic.notebook.panel.hints import panel_lines
from blockrun_magic.threads import run_io

if TYPE_CHECKING:
    from blockrun_magic.notebook.display.overview import Spend
    from blockrun_magic.notebook.session import Session

__all__ = ["SENTENCE", "class_parts"]

SENTENCE = f"CLASSROOM: your class pays, within your limits. {NOTICE}"
_TIMEOUT = 5.0


async def class_parts(session: Session) -> tuple[str, list[Spend]] | None:
    """Return the student's name, as HTML, and the limits; None if the gateway is not a classroom."""
    gateway = session.gateway
    if gateway.paid_by is not Payer.CLASSROOM:
        return None
    try:
        async with asyncio.timeout(_TIMEOUT):
            membership = await session.studio.wallets.account().membership(gateway)
    except TimeoutError:
        error: BlockrunError = GatewayUnreachable("The classroom does not answer.", "Press ↻ to try again.")
    except BlockrunError as refused:
        error = refused
    else:
        groups = f" ({', '.join(membership.groups)})" if membership.groups else ""
        who = f"<div><b>{escape(membership.name + groups)}</b>"
        paused = '<span class="brm-quiet" role="status"> paused by your teacher</span>' if membership.paused else ""
        own = await run_io(own_limits, session.studio.records, gateway)
        return f"{who}{paused}</div>", limit_spends(membership) + own
    message, advice = panel_lines(error)
    return f'<div class="brm-error"><b>{escape(message)}</b><br>{escape(advice)}</div>', []
