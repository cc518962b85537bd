"""Erasure of prompts, uploads and images, by name or by age; amounts stay."""

from __future__ import annotations

from contextlib import suppress

from blockrun_magic.classroom.storage.actions import Actions
from blockrun_magic.classroom.storage.members import Member
from blockrun_magic.classroom.storage.order_records import Order
from blockrun_magic.classroom.storage.records import Records

__all__ = ["erase_old", "forget_member"]

_DAY = 86_400.0


def forget_member(records: Records, actions: Actions, member: Member) -> int:
    """Erase a person's name, prompts, uploads and images; return the number of orders still in progress.

    When those have ended, `erase_old` erases their contents.
    """
    actions.forget(member)
    return _erase(records, records.orders.with_content(member_id=member.id))


def erase_old(records: Records) -> int:
    """Erase content older than `keep_days` and of forgotten people; return the number of orders in progress."""
    before = records.database.now() - records.policies.of().keep_days * _DAY
    return _erase(records, records.orders.with_content(before=before))


def _erase(records: Records, orders: list[Order]) -> int:
    """Erase ended orders and their purchases; return the number of orders that have not ended."""
    left = 0
    for order in orders:
        if not order.is_final or not _erase_purchase(records, order):
            left += 1
            continue
        files = records.orders.erase(order.id)
        for file, media_type in files:
            if not records.orders.is_file_used(file) and not records.ledger.is_stored_file_used(file):
                with suppress(OSError):
                    records.store.path(file, media_type).unlink()
    return left


def _erase_purchase(records: Records, order: Order) -> bool:
    """Erase the purchase of an order, unless another order still shows it; False while its payment is open."""
    if order.purchase_id is None or records.orders.shares_purchase(order):
        return True
    return records.ledger.erase(order.purchase_id)
