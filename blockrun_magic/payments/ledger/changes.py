"""Transactions that change a payment: its state, its counters and its limits, together or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from blockrun_magic.database.engine import Connection, Database, Row
from blockrun_magic.errors import LedgerError, Money, PaymentOutcomeUnknown
from blockrun_magic.payments.ledger import counters
from blockrun_magic.payments.ledger.limits import Caps, check_caps
from blockrun_magic.payments.ledger.purchases import PurchaseLedger
from blockrun_magic.payments.ledger.records import Payload, Payment, Purchase
from blockrun_magic.payments.ledger.states import TRANSITIONS, UNSIGNED_TRANSITIONS, State
from blockrun_magic.payments.ledger.windows import EACH, in_order
from blockrun_magic.payments.x402.requirements import PaymentPayload

__all__ = ["REPORT", "PaymentLedger"]

REPORT = "Nothing more was done with it. Please report this with `%blockrun jobs`."


class PaymentLedger(PurchaseLedger):
    """The part of the ledger in which a payment changes."""

    def __init__(self, place: Path | Database, session: str, clock: Callable[[], float] | None = None) -> None:
        super().__init__(place, session, clock)
        self._subjects: Callable[[], Sequence[str]] = list

    @contextmanager
    def _reserving(self, purchase_id: str = "") -> Iterator[Connection]:
        """Yield a transaction that may reserve money, if other processes see this database and this process."""
        with self.transaction(durable=False, new_ids=True) as connection:
            self._verify(connection, purchase_id)
            if not self._alive.is_held and not self._alive.try_acquire():
                raise LedgerError(f"Another process has the name of this session, {self.session}.", REPORT)
            if not self.owner:
                self.database.serialize(connection, "reservations of notebooks")
                counters.drop_dead_holds(connection, self.database, self.session)
            yield connection

    def _verify(self, connection: Connection, purchase_id: str) -> None:
        """Raise LedgerError unless all processes see this database, and no other one has taken the purchase over."""
        self.database.verify()
        self._check_lock(connection, purchase_id)

    def _check_lock(self, connection: Connection, purchase_id: str) -> None:
        """Raise LedgerError if another process now has this process's lock of the purchase.

        The state of the payment, which changes only once, is the real fence; this check only saves the attempt.
        """
        if self.database.lost_locks:
            query = "SELECT * FROM purchases WHERE id = ?"
            for row in connection.execute(query, (purchase_id,)).fetchall():
                if Purchase.from_row(row).lock in self.database.lost_locks:
                    raise LedgerError(
                        "The connection to the database broke, and another process has taken this purchase over.",
                        "Run it again: it uses what that process has bought.",
                        Money.nothing_sent(),
                    )

    @contextmanager
    def _counting_more(
        self, connection: Connection, row: Row, amount: int, defaults: Caps, *, new: bool = False, spent: bool = False
    ) -> Iterator[None]:
        """Reserve `amount` more for the payment in `row` within every limit that applies; raises BudgetError.

        A `new` payment is counted for the first time. An amount that may be `spent` already counts even beyond the
        limits.
        """
        now, payment_id, realm = self.clock(), row["id"], row["realm"]
        if not self.owner:
            if not spent:
                check_caps(amount, self._usage(connection, realm, now), counters.read_caps(connection, defaults))
            counts = counters.counts_of_new(realm, amount, self.session, None) if new else None
            with counters.counted(connection, payment_id, counts):
                counters.add_reservation(connection, payment_id, self.session, now, amount)
                yield
            return
        subjects = in_order(self._subjects())
        # Read before the counters are locked, so that the lock is short.
        limits, windows = self._limits_and_windows(connection, [*subjects, EACH], now)
        counts = counters.counts_of_new(realm, amount, self.session, subjects, windows) if new else None
        within = {} if spent else limits
        with counters.counted_within(connection, payment_id, amount, within, subjects, windows, counts):
            counters.add_reservation(connection, payment_id, self.session, now, amount, subjects, windows)
            yield

    def _check_no_open_payment(self, connection: Connection, purchase_id: str) -> None:
        row = connection.execute(
            "SELECT amount, gateway FROM authorizations WHERE purchase_id = ? AND state <> 'released'",
            (purchase_id,),
        ).fetchone()
        if row is not None:
            raise PaymentOutcomeUnknown(
                f"A payment for this image is open already, at {row['gateway']}.",
                "Another kernel may be working on it: wait for it, then run the cell again.",
                Money.unknown(row["amount"]),
            )

    @contextmanager
    def _changing(
        self, payment_id: int, *, durable: bool = True, counting: bool = True
    ) -> Iterator[tuple[Connection, Row]]:
        """Yield a transaction in which no other process changes a payment, and the payment's row.

        Without `counting`, its counters stay the same: it is at risk before and afterwards, with the same amount.
        """
        with self.transaction(durable=durable) as connection:
            row = self._row(connection, payment_id)
            with counters.counted(connection, payment_id) if counting else nullcontext():
                yield connection, row

    def _row(self, connection: Connection, payment_id: int) -> Row:
        query = f"SELECT * FROM authorizations WHERE id = ?{self.database.row_lock}"
        row: Row | None = connection.execute(query, (payment_id,)).fetchone()
        if row is None:
            raise LedgerError(f"The ledger has no payment {payment_id}.", REPORT)
        return row

    def _advance(self, connection: Connection, row: Row, to: State, **fields: Any) -> Row:
        """Change the state of a payment, and `fields`, which never hold a secret; return its new row."""
        state, payment_id = State(row["state"]), row["id"]
        if state is to:
            return row
        if to not in (UNSIGNED_TRANSITIONS if row["prepaid"] else TRANSITIONS)[state]:
            raise LedgerError(f"Payment {payment_id} is {state} in the ledger, and cannot become {to}.", REPORT)
        columns = {"state": to, "updated_at": self.clock(), **fields}
        assignments = ", ".join(f"{name} = ?" for name in columns)
        # A literal state: SQLite plans a statement again whenever a parameter in an index's WHERE is bound.
        query = f"UPDATE authorizations SET {assignments} WHERE id = ? AND state = '{state}' RETURNING *"
        changed: Row | None = connection.execute(query, (*columns.values(), payment_id)).fetchone()
        if changed is None:
            raise LedgerError(f"Payment {payment_id} is no longer {state} in the ledger.", REPORT)
        return changed

    def _signed(self, connection: Connection, row: Row, network: str, signed: PaymentPayload) -> Payment:
        """Record the first signature of a payment: reserved → signed."""
        authorization = signed.authorization
        changed = self._advance(
            connection,
            row,
            State.SIGNED,
            network=network,
            payer=authorization.payer,
            nonce=authorization.nonce,
            pay_to=authorization.pay_to,
            header_name=signed.header_name,
            valid_before=authorization.valid_before,
            last_height=authorization.last_height,
        )
        return Payment.from_row(changed, [Payload.from_row(self._insert_payload(connection, row["id"], signed))])

    def _payment(self, connection: Connection, row: Row) -> Payment:
        """Return the payment in `row`, with its payloads."""
        return Payment.from_row(row, self._payloads(connection, row))

    def _payloads(self, connection: Connection, row: Row) -> list[Payload]:
        """Return the signatures of the payment in `row`, oldest first; payments by others have none."""
        query = "SELECT * FROM payloads WHERE authorization_id = ? ORDER BY id"
        rows = () if row["prepaid"] else connection.execute(query, (row["id"],)).fetchall()
        return [Payload.from_row(payload) for payload in rows]

    def _add_payload(self, connection: Connection, payment_id: int, signed: PaymentPayload) -> None:
        """Record one more signature of a payment."""
        self._insert_payload(connection, payment_id, signed)
        connection.execute(
            """UPDATE authorizations SET pay_to = ?2, header_name = ?3, (valid_before, last_height) = (
                SELECT max(valid_before), max(last_height) FROM payloads WHERE authorization_id = ?1) WHERE id = ?1""",
            (payment_id, signed.authorization.pay_to, signed.header_name),
        )

    def _insert_payload(self, connection: Connection, payment_id: int, signed: PaymentPayload) -> Row:
        authorization = signed.authorization
        row: Row = connection.execute(
            """INSERT INTO payloads (authorization_id, session, signed_at, amount, pay_to, valid_after, valid_before,
                last_height, header_name, header_value) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING *""",
            (
                *(payment_id, self.session, self.clock(), authorization.value, authorization.pay_to),
                *(authorization.valid_after, authorization.valid_before, authorization.last_height),
                *(signed.header_name, signed.header_value),
            ),
        ).fetchone()
        return row
