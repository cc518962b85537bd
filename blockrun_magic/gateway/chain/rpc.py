"""JSON-RPC servers of a chain: asked over the same client as a gateway; two have to agree."""

from __future__ import annotations

from typing import Any

from blockrun_magic.errors import BlockrunError
from blockrun_magic.gateway.client import Client
from blockrun_magic.gateway.urls import Endpoint

__all__ = ["call"]


async def call(client: Client, url: str, method: str, params: list[Any]) -> Any:
    """Return the `result` of a JSON-RPC call, or None when there is none."""
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    try:
        answer = (await client.post(Endpoint("the RPC server", url), "", body)).json()
    except BlockrunError:
        return None
    return answer.get("result") if isinstance(answer, dict) else None
