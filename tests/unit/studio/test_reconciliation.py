"""Open payments are looked up concurrently, a few at a time."""

from __future__ import annotations

import asyncio
from pathlib import Path
from unittest import mock

from blockrun_magic.gateway.gateways import Gateway, practice_at
from blockrun_magic.payments.ledger.records import Payment
from blockrun_magic.studio.reconciliation import Reconciler
from fakes.gateway import studio_over

COUNT = 30


def test_a_few_at_a_time(tmp_path: Path) -> None:
    """Each payment is looked up once, and several but fewer than ten lookups run at the same time."""
    running, most, asked = 0, 0, set[int]()

    async def decide(_: Reconciler, payment: Payment, _gateway: Gateway) -> bool:
        nonlocal running, most
        running += 1
        most = max(most, running)
        asked.add(payment.id)
        await asyncio.sleep(0.01)
        running -= 1
        return True

    async def run() -> int:
        async with studio_over(tmp_path) as studio:
            for number in range(COUNT):
                purchase = studio.ledger.create_purchase("practice", "practice", f"{number}", 1, {}, private=False)
                studio.ledger.submit(studio.ledger.reserve(purchase, 1, prepaid=True).id)
            with mock.patch.object(Reconciler, "_decide", decide):
                return await studio.reconcile(practice_at("http://127.0.0.1:9"))

    assert COUNT == asyncio.run(run())
    assert COUNT == len(asked)
    assert 1 < most < 10
