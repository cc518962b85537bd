"""Sending a request in the form that its gateway takes: files as they are, or inside JSON.

A file in JSON is a third larger, and has to be built and read as one text. The gateways that we sign for take
`multipart/form-data` (gateway protocol, section 8); where one does not, that is found out once and remembered.
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
"""What a gateway answers to a body that it does not understand, among other things."""
_UNSUPPORTED = 415
_ACCEPTED = (200, 202)
_FILES, _JSON = "files", "json"


async def send(
    client: Client, ledger: Ledger, gateway: Gateway, request: ImageRequest, headers: Mapping[str, str] | None = None
) -> Response:
    """Return the gateway's answer to `request`; raises GatewayUnreachable or AnswerUnusable.

    A form that is not understood is sent again as JSON. With a payment only a 415 says so: anything else may be
    about the request itself, and a payment is not shown for another body without need.
    """
    if gateway.prepaid or not request.images:
        return await client.post(gateway, request.endpoint, request.body(), headers)
    setting = f"uploads.{gateway.name}"
    known = await run_io(ledger.setting, setting)
    if known == _JSON:
        return await client.post(gateway, request.endpoint, request.body(), headers)
    answer = await client.post_files(gateway, request, headers)
    if known is None and answer.status in _ACCEPTED:
        await run_io(ledger.set_setting, setting, _FILES)
    unreadable = answer.status == _UNSUPPORTED if headers else answer.status in UNSUPPORTED_BODY_STATUSES
    if known is None and unreadable and not _settled(answer):
        in_json = await client.post(gateway, request.endpoint, request.body(), headers)
        if in_json.status not in UNSUPPORTED_BODY_STATUSES:
            await run_io(ledger.set_setting, setting, _JSON)
        return in_json
    return answer


def _settled(answer: Response) -> bool:
    return read_settlement(answer.headers, answer.json()).transaction is not None
