"""The ledger of purchases and payments: each is recorded before it allows an action, and on disk before it leaves.

SQLite in `magic/ledger.sqlite`, mode 0600, shared by all kernels of a user; a class may have it in PostgreSQL. A signed
header is money: it is stored only here, and wiped when it is no longer needed.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Self

from blockrun_magic.database.engine import Connection, Database, Row
from blockrun_magic.errors import LedgerError, Money
from blockrun_magic.payments.ledger import counters
from blockrun_magic.payments.ledger.changes import REPORT, PaymentLedger
from blockrun_magic.payments.ledger.limits import DEFAULT_CAPS, NO_CAPS, Caps, check_caps
from blockrun_magic.payments.ledger.purchases import wipe_headers
from blockrun_magic.payments.ledger.records import Payment, Purchase
from blockrun_magic.payments.ledger.states import SENT, State, Witness
from blockrun_magic.payments.realm import Realm
from blockrun_magic.payments.x402.requirements import PaymentPayload

__all__ = ["Ledger"]

_LOST = "ledger.lost"
"""The setting of an empty ledger beside a store with images; it is removed when the user has read the warning."""

_TAKE_FROM_HOLD = "UPDATE holds SET amount = CASE WHEN amount > ?1 THEN amount - ?1 ELSE 0 END WHERE id = ?2"


class Ledger(PaymentLedger):
    """The only writer of payment records; safe to use from several threads and processes.

    Every method raises LedgerError when the file cannot be read or written, and then nothing has changed. Every
    change of a payment returns the payment as it is afterwards. `guards` are called with the realm before money is
    reserved; they raise where spending is forbidden.
    """

    def __init__(self, place: Path | Database, session: str, clock: Callable[[], float] | None = None) -> None:
        super().__init__(place, session, clock)
        self.guards: list[Callable[[str], None]] = []
        path = self.database.path
        if path is not None and self.database.was_empty and any(path.parent.glob("pictures/[0-9a-f][0-9a-f]/*")):
            self.set_setting(_LOST, "1")

    def for_owner(self, owner: str, subjects: Callable[[], Sequence[str]]) -> Self:
        """Return the ledger of one `owner`, which makes and finds only that owner's purchases.

        `subjects` returns, at each reservation, the subjects whose limits apply; a notebook's limits do not.
        """
        part = copy.copy(self)
        part.owner, part._subjects, part._process = owner, subjects, None  # noqa: SLF001  its own class
        part.guards = [*self.guards]
        return part

    def check_guards(self, realm: str) -> None:
        """Raise the error of a mode that forbids spending money of `realm`, or that of a lost ledger."""
        for guard in self.guards:
            guard(realm)
        if realm == Realm.REAL and self.setting(_LOST):
            self.set_setting(_LOST, "")
            raise LedgerError(
                f"The ledger {self.database.name} is empty, but images were bought before: it was lost or replaced.",
                "Restore it from a backup, or run this again to continue with the empty one.",
                Money.nothing_signed(),
            )

    def hold(self, realm: str, amount: int, defaults: Caps = DEFAULT_CAPS) -> int:
        """Hold `amount` micro-USDC of the limits for a batch, and return the hold's id.

        The batch's payments are then reserved from it. It ends with this process at the latest. Raises BudgetError. A
        member's batch has no hold: its payments are checked one by one.
        """
        self.check_guards(realm)
        now = self.clock()
        amount = 0 if self.owner else amount
        with self._reserving() as connection:
            if not self.owner:
                check_caps(amount, self._usage(connection, realm, now), counters.read_caps(connection, defaults))
            query = "INSERT INTO holds (session, realm, amount, expires_at) VALUES (?, ?, ?, ?) RETURNING id"
            return int(connection.execute(query, (self.session, realm, amount, now)).fetchone()["id"])

    def drop_hold(self, hold: int) -> None:
        """Release the rest of a hold; then the records of its batch are on disk, and its headers are wiped."""
        with self.transaction() as connection:
            connection.execute("DELETE FROM holds WHERE id = ?", (hold,))
        self._erase()

    def reserve(
        self,
        purchase: Purchase,
        amount: int,
        hold: int | None = None,
        *,
        prepaid: bool = False,
        payer: str | None = None,
        network: str | None = None,
        order: str | None = None,
        spent: bool = False,
    ) -> Payment:
        """Reserve `amount` micro-USDC for `purchase`, out of `hold` if given, within the limits of all kernels.

        `prepaid`: others will pay, from the wallet `payer` on `network` if that is known, and the amount is a list
        price unless there is an `order`: the key of one at a classroom, where our default limits do not apply. `spent`:
        it may be paid already, and counts despite limits and guards. Raises BudgetError, the error of a guard, or
        PaymentOutcomeUnknown for an open payment; then nothing is reserved.
        """
        if not spent:
            self.check_guards(purchase.realm)
        with self._reserving(purchase.id) as connection:
            caps = DEFAULT_CAPS if order is None else NO_CAPS
            asked = (int(prepaid), int(prepaid and order is None), payer, network, order)
            row = self._reserved(connection, purchase, amount, hold, asked)
            with self._counting_more(connection, row, amount, caps, new=True, spent=spent):
                return Payment.from_row(row)

    def _reserved(
        self,
        connection: Connection,
        purchase: Purchase,
        amount: int,
        hold: int | None,
        asked: tuple[int, int, str | None, str | None, str | None] = (0, 0, None, None, None),
    ) -> Row:
        """Write a reserved payment that is not counted yet, and return its row; raises PaymentOutcomeUnknown."""
        if hold is not None:
            connection.execute(_TAKE_FROM_HOLD, (amount, hold))
        now = self.clock()
        row: Row | None = connection.execute(
            """INSERT INTO authorizations (purchase_id, owner, session, realm, created_at, updated_at, state,
                amount, gateway, prepaid, estimated, payer, network, nonce)
            SELECT id, owner, ?, realm, ?, ?, ?, ?, gateway, ?, ?, ?, ?, ? FROM purchases
            WHERE id = ? AND NOT EXISTS (
                SELECT 1 FROM authorizations AS other
                WHERE other.purchase_id = purchases.id AND other.state <> 'released')
            RETURNING *""",
            (self.session, now, now, State.RESERVED, amount, *asked, purchase.id),
        ).fetchone()
        if row is None:
            self._check_no_open_payment(connection, purchase.id)
            raise LedgerError(f"The ledger has no purchase {purchase.id}.", REPORT)
        return row

    def together(self, *, durable: bool = True) -> AbstractContextManager[object]:
        """Combine the changes inside the context into one transaction: all of them apply, or none."""
        return self.transaction(durable=durable)

    def authorize(
        self, purchase: Purchase, amount: int, network: str, sign: Callable[[], PaymentPayload], hold: int | None = None
    ) -> Payment:
        """Reserve `amount` and record its signature in one transaction: other kernels see both or nothing."""
        self.check_guards(purchase.realm)
        with self._reserving(purchase.id) as connection:
            row = self._reserved(connection, purchase, amount, hold)
            with self._counting_more(connection, row, amount, DEFAULT_CAPS, new=True):
                pass  # nothing is signed beyond a limit
            return self._signed(connection, row, network, sign())

    def add_payload(self, payment_id: int, signed: PaymentPayload) -> Payment:
        """Record one more signature of a sent authorization, which may leave from now on: → submitted.

        It has the same nonce, so that the chain takes only one of them (EIP-3009). A larger amount is a new
        reservation, under the current limits. Raises BudgetError if it would exceed one, or the error of a guard.
        """
        payment = self.payment(payment_id)
        assert payment.nonce == signed.authorization.nonce  # noqa: S101  another nonce would be a second payment
        with self._reserving(payment.purchase_id) as connection:
            row = self._row(connection, payment_id)
            more = max(0, signed.authorization.value - row["amount"])
            adding = self._counting_more(connection, row, more, DEFAULT_CAPS)
            with adding if more else counters.counted(connection, payment_id):
                if row["state"] != State.UNKNOWN:
                    self._advance(connection, row, State.UNKNOWN)
                    row = self._row(connection, payment_id)
                self._advance(connection, row, State.SUBMITTED, refused=0, amount=row["amount"] + more)
                self._add_payload(connection, payment_id, signed)
        return self.payment(payment_id)

    def submit(self, payment_id: int) -> Payment:
        """Record that the payment may leave from now on: → submitted. Only a witness can undo that."""
        with self._changing(payment_id, counting=False) as (connection, row):
            self._verify(connection, row["purchase_id"])
            sent_at = self.clock() if row["sent_at"] is None else row["sent_at"]
            return self._payment(connection, self._advance(connection, row, State.SUBMITTED, sent_at=sent_at))

    def poll(self, payment_id: int, purchase_id: str, poll_url: str) -> Payment:
        """Record the job that this payment is for: → polling."""
        with self._changing(payment_id, counting=False) as (connection, row):
            connection.execute("UPDATE purchases SET poll_url = ? WHERE id = ?", (poll_url, purchase_id))
            return self._payment(connection, self._advance(connection, row, State.POLLING))

    def mark_unknown(self, payment_id: int, note: str, *, refused: bool = False, durable: bool = True) -> Payment:
        """Record that the money may have moved: → unknown. `refused`: the gateway answered that it did not."""
        with self._changing(payment_id, durable=durable, counting=False) as (connection, row):
            changed = self._advance(connection, row, State.UNKNOWN, note=note, refused=int(refused))
            return self._payment(connection, changed)

    def claim(self, payment_id: int, transaction: str) -> Payment:
        """Record the transaction that the gateway names, which proves nothing until a witness has seen it.

        It is on disk with the next durable change; until then, a witness finds the payment by its nonce.
        """
        with self.transaction(durable=False) as connection:
            row = connection.execute(
                """UPDATE authorizations SET transaction_hash = ?
                WHERE id = ? AND state NOT IN ('settled', 'released') RETURNING *""",
                (transaction, payment_id),
            ).fetchone()
            return self.payment(payment_id) if row is None else self._payment(connection, row)

    def settle(
        self,
        payment_id: int,
        transaction: str | None,
        note: str | None = None,
        *,
        witness: Witness,
        charged: int | None = None,
        durable: bool = True,
    ) -> Payment:
        """Record the word of a witness that the money moved: → settled.

        `charged` is the charge in micro-USDC, by default the reserved amount. Without `durable`, it is on disk with the
        next durable change: until then, a power cut leaves a payment whose witness is asked again.
        """
        with self.transaction(durable=durable) as connection:
            row = self._row(connection, payment_id)
            payloads = self._payloads(connection, row)
            if row["state"] != State.SETTLED:
                moved = row["amount"] if charged is None else charged
                fields: dict[str, Any] = {} if transaction is None else {"transaction_hash": transaction}
                fields |= {} if charged is None else {"estimated": 0}
                fields["cashed_payload"] = max((each.id for each in payloads if each.amount == moved), default=None)
                row = self._settled(connection, row, moved, note=note, witness=witness, **fields)
            wiped = wipe_headers(connection, row["purchase_id"])
            payment = self._payment(connection, row) if wiped else Payment.from_row(row, payloads)
        self._erase(wiped, now=durable)
        return payment

    def _settled(self, connection: Connection, row: Row, moved: int, **fields: Any) -> Row:
        # A member's payment counts in the windows in which it was reserved, settled or not.
        unchanged = row["owner"] and moved == row["amount"]
        with nullcontext() if unchanged else counters.counted(connection, row["id"]):
            if moved != row["amount"]:
                counters.set_total(connection, row["id"], moved)
            return self._advance(connection, row, State.SETTLED, amount=moved, **fields)

    def release(self, payment_id: int, note: str, *, witness: Witness | None = None) -> Payment:
        """Record that the money did not move and can no longer move: → released.

        A payment that may have left needs a witness; raises LedgerError without one.
        """
        with self._changing(payment_id) as (connection, row):
            if witness is None and row["state"] in SENT:
                raise LedgerError(f"Payment {payment_id} was sent, and no witness has released it.", REPORT)
            self._advance(connection, row, State.RELEASED, note=note, witness=witness)
            where = "WHERE header_value IS NOT NULL AND authorization_id = ?"
            wiped = connection.execute(f"UPDATE payloads SET header_value = NULL {where}", (payment_id,)).rowcount
        self._erase(wiped)
        return self.payment(payment_id)
