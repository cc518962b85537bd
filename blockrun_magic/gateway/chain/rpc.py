"""Calls to a chain's JSON-RPC servers over the gateways' client; two servers have to agree."""

from __future__ import annotations

from typing import Any

from blockrun_magic.errors import BlockrunError
from blockrun_magic.gateway.client import Client
from blockrun_magic.gateway.urls import Endpoint

__all__ = ["call"]


async def call(client: Client, url: str, method: str, params: list[Any]) -> Any:
    """Return the `result` of a JSON-RPC call, or None without one."""
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    try:
        answer = (await client.post(Endpoint("the RPC server", url), "", body)).json()
    except BlockrunError:
        return None
    return answer.get("result") if isinstance(answer, dict) else None
