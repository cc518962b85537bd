"""Responses to settled payments: images, price and receipt, in the forms of the real gateway."""

from __future__ import annotations

import asyncio
import base64
from typing import TYPE_CHECKING, Any

from blockrun_magic.practice.server.challenge import price_of, to_base64_json
from blockrun_magic.practice.server.triggers import Triggers

if TYPE_CHECKING:
    from blockrun_magic.gateway.request import ImageRequest
    from blockrun_magic.payments.x402.networks import EvmNetwork
    from blockrun_magic.practice.server.database import Settlement
    from blockrun_magic.practice.server.images import ImageCache

__all__ = ["receipt_headers", "result_body"]


def _form(request: ImageRequest, settlement: Settlement, triggers: Triggers) -> str:
    """Return the form of the images: "url", "data" or "b64"."""
    if triggers.form:
        return triggers.form
    if request.model.startswith("openai/gpt-image"):
        return "data"
    if request.model.startswith("google/"):
        return "data" if settlement.model_seq % 2 else "url"
    return "url"


async def result_body(
    request: ImageRequest, settlement: Settlement, images: ImageCache, origin: str, network: EvmNetwork
) -> dict[str, Any]:
    """Return the body of the 200: created, data, price and payment."""
    triggers = Triggers.read(request.prompt)
    count = 0 if "no-data" in triggers else request.n
    entries = [_entry(request, settlement, images, origin, position) for position in range(count)]
    body: dict[str, Any] = {
        "created": int(settlement.at),
        "data": list(await asyncio.gather(*entries)),
        "price": price_of(settlement.amount),
    }
    if "no-receipt" not in triggers:
        body["payment"] = {"status": "settled", "tx_hash": settlement.tx, "network": network.id}
    return body


async def _entry(
    request: ImageRequest, settlement: Settlement, images: ImageCache, origin: str, position: int
) -> dict[str, Any]:
    triggers = Triggers.read(request.prompt)
    entry: dict[str, Any] = {}
    form = _form(request, settlement, triggers)
    if "file-url" in triggers:
        entry["url"] = "file:///etc/passwd"
    elif "foreign-url" in triggers:
        entry["url"] = "http://169.254.169.254/latest/meta-data/image.png"
    elif form == "url":
        url = f"{origin}/api/media/{settlement.tx[2:]}-{position}.png"
        entry |= {"url": url, "source_url": url, "backed_up": True}
    else:
        data, media_type = await images.image(settlement, request, position)
        text = base64.b64encode(data).decode("ascii")
        entry |= {"b64_json": text} if form == "b64" else {"url": f"data:{media_type};base64,{text}"}
    if "script" in triggers:
        entry["revised_prompt"] = "<script>alert(1)</script>"
    elif request.model == "openai/dall-e-3":
        entry["revised_prompt"] = f"{request.prompt.strip().rstrip('.')}, in rich detail and warm light."
    return entry


def receipt_headers(request: ImageRequest, settlement: Settlement, network: EvmNetwork, version: int) -> dict[str, str]:
    """Return the headers that prove the payment, as this x402 version names them."""
    if "no-receipt" in Triggers.read(request.prompt):
        return {}
    proof = to_base64_json(
        {
            "success": True,
            "transaction": settlement.tx,
            "network": network.v1_name if version == 1 else network.id,
            "payer": settlement.payer,
        }
    )
    name = "X-PAYMENT-RESPONSE" if version == 1 else "PAYMENT-RESPONSE"
    return {name: proof, "X-Payment-Receipt": settlement.tx}
