"""Uploads of images, as form files or inside JSON, depending on the gateway.

In JSON, a file is a third larger, and has to be built and parsed as one text. The gateways that we sign for accept
`multipart/form-data` (gateway protocol, section 8). A gateway that does not is detected once and remembered.
"""

from __future__ import annotations

from collections.abc import Mapping

from blockrun_magic.gateway.client import Client
from blockrun_magic.gateway.gateways import Gateway
from blockrun_magic.gateway.request import ImageRequest
from blockrun_magic.gateway.responses import Response
from blockrun_magic.payments.ledger.ledger import Ledger
from blockrun_magic.payments.x402.protocol import read_settlement
from blockrun_magic.threads import run_io

__all__ = ["UNSUPPORTED_BODY_STATUSES", "send"]

UNSUPPORTED_BODY_STATUSES = frozenset({400, 413, 415, 422})
"""Statuses with which a gateway may refuse a body that it does not understand."""
_UNSUPPORTED = 415
_ACCEPTED = (200, 202)
_FILES, _JSON = "files", "json"


async def send(
    client: Client, ledger: Ledger, gateway: Gateway, request: ImageRequest, headers: Mapping[str, str] | None = None
) -> Response:
    """Send `request` and return the gateway's response; raises GatewayUnreachable or InvalidResponse.

    A form that the gateway does not understand is sent again as JSON. With a payment, only a 415 counts as that:
    another status may concern the request itself, and a payment is not sent twice without need.
    """
    if gateway.prepaid or not request.images:
        return await client.post(gateway, request.endpoint, request.body(), headers)
    setting = f"uploads.{gateway.name}"
    body_format = await run_io(ledger.setting, setting)
    if body_format == _JSON:
        return await client.post(gateway, request.endpoint, request.body(), headers)
    answer = await client.post_files(gateway, request, headers)
    if body_format is None and answer.status in _ACCEPTED:
        await run_io(ledger.set_setting, setting, _FILES)
    unreadable = answer.status == _UNSUPPORTED if headers else answer.status in UNSUPPORTED_BODY_STATUSES
    if body_format is None and unreadable and not _settled(answer):
        in_json = await client.post(gateway, request.endpoint, request.body(), headers)
        if in_json.status not in UNSUPPORTED_BODY_STATUSES:
            await run_io(ledger.set_setting, setting, _JSON)
        return in_json
    return answer


def _settled(answer: Response) -> bool:
    return read_settlement(answer.headers, answer.json()).transaction is not None
