"""The ledger: every purchase and payment, on record before the action that it allows, on disk before one leaves.

SQLite in `magic/ledger.sqlite`, mode 0600, shared by all kernels of a user. A signed header is money: it is stored
here and nowhere else, and wiped once it is of no use.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from blockrun_magic.errors import LedgerError, Money, PaymentOutcomeUnknown
from blockrun_magic.payments.ledger import counters
from blockrun_magic.payments.ledger.limits import DEFAULT_CAPS, NO_CAPS, Caps, check_caps
from blockrun_magic.payments.ledger.purchases import PurchaseLedger, wipe_headers
from blockrun_magic.payments.ledger.records import Payment, Purchase
from blockrun_magic.payments.ledger.states import SENT, TRANSITIONS, UNSIGNED_TRANSITIONS, State, Witness
from blockrun_magic.payments.realm import Realm
from blockrun_magic.payments.x402.requirements import PaymentPayload

__all__ = ["Ledger"]

_LOST = "ledger.lost"
"""The setting that says that the ledger was empty beside a store with images, until a user has read that."""
_REPORT = "Nothing more was done with it. Please report this with `%blockrun jobs`."


class Ledger(PurchaseLedger):
    """The one writer of money's records; safe from several threads and processes.

    Every method raises LedgerError when the file cannot be read or written, and then nothing has changed. Every
    change of a payment returns the payment as it is afterwards. `guards` are called with the realm before money is
    reserved; they raise where spending is forbidden.
    """

    def __init__(self, path: Path, session: str, clock: Callable[[], float] = time.time) -> None:
        super().__init__(path, session, clock)
        self.guards: list[Callable[[str], None]] = []
        if self.was_empty and any(path.parent.glob("pictures/[0-9a-f][0-9a-f]/*")):
            self.set_setting(_LOST, "1")

    def check_guards(self, realm: str) -> None:
        """Raise the error of a mode that forbids spending money of `realm`, or that of a lost ledger."""
        for guard in self.guards:
            guard(realm)
        if realm == Realm.REAL and self.setting(_LOST):
            self.set_setting(_LOST, "")
            raise LedgerError(
                f"The ledger {self.path} is empty, but images were bought before: it was lost or replaced.",
                "Restore it from a backup, or run this again to continue with the empty one.",
                Money.nothing_signed(),
            )

    def hold(self, realm: str, amount: int, defaults: Caps = DEFAULT_CAPS) -> int:
        """Hold `amount` micro-USDC of the limits for a batch, and return the hold's id.

        The batch's payments are then reserved out of it. It ends with this process at the latest. Raises BudgetError.
        """
        self.check_guards(realm)
        now = self.clock()
        with self._reserving() as connection:
            check_caps(amount, self._usage(connection, realm, now), counters.read_caps(connection, defaults))
            cursor = connection.execute(
                "INSERT INTO holds (session, realm, amount, expires_at) VALUES (?, ?, ?, ?)",
                (self.session, realm, amount, now),
            )
            return int(cursor.lastrowid or 0)

    def drop_hold(self, hold: int) -> None:
        """Give back what is left of a hold."""
        with self.transaction(durable=False) as connection:
            connection.execute("DELETE FROM holds WHERE id = ?", (hold,))

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
    ) -> Payment:
        """Reserve `amount` micro-USDC for `purchase`, out of `hold` if given.

        `prepaid`: somebody else will pay, from the wallet `payer` on `network` if that is known, and the amount is a
        list price unless there is an `order`: the key of one at a classroom, where our default limits do not apply. One
        transaction over all kernels looks for an open payment of the purchase and checks the limits. Raises
        PaymentOutcomeUnknown for an open payment, BudgetError, or what a guard raises; then nothing is reserved.
        """
        self.check_guards(purchase.realm)
        now = self.clock()
        with self._reserving() as connection:
            self._check_no_open_payment(connection, purchase.id)
            if hold is not None:
                connection.execute("UPDATE holds SET amount = max(0, amount - ?) WHERE id = ?", (amount, hold))
            caps = counters.read_caps(connection, DEFAULT_CAPS if order is None else NO_CAPS)
            check_caps(amount, self._usage(connection, purchase.realm, now), caps)
            cursor = connection.execute(
                """INSERT INTO authorizations (purchase_id, session, realm, created_at, updated_at, state, amount,
                    gateway, prepaid, estimated, payer, network, nonce)
                SELECT id, ?, realm, ?, ?, ?, ?, gateway, ?, ?, ?, ?, ? FROM purchases WHERE id = ?""",
                (
                    *(self.session, now, now, State.RELEASED, amount),  # until it is counted
                    *(int(prepaid), int(prepaid and order is None), payer, network, order, purchase.id),
                ),
            )
            payment_id = int(cursor.lastrowid or 0)
            with counters.counted(connection, payment_id):
                counters.add_reservation(connection, payment_id, self.session, now, amount)
                connection.execute("UPDATE authorizations SET state = ? WHERE id = ?", (State.RESERVED, payment_id))
        return self.payment(payment_id)

    def sign(self, payment_id: int, network: str, signed: PaymentPayload) -> Payment:
        """Record a signature that has not left yet: reserved → signed."""
        with self._changing(payment_id, durable=False) as connection:  # `submit` is durable, and nothing leaves before
            if self._row(connection, payment_id)["state"] != State.SIGNED:
                self._advance(connection, payment_id, State.SIGNED)
                authorization = signed.authorization
                connection.execute(
                    "UPDATE authorizations SET network = ?, payer = ?, nonce = ? WHERE id = ?",
                    (network, authorization.payer, authorization.nonce, payment_id),
                )
                self._add_payload(connection, payment_id, signed)
        return self.payment(payment_id)

    def add_payload(self, payment_id: int, signed: PaymentPayload) -> Payment:
        """Record one more signature of a sent authorization, which may leave from now on: → submitted.

        It has the same nonce, so that the chain takes only one of them (EIP-3009). A larger amount is a reservation of
        its own, in the limits of now. Raises BudgetError where it would pass one, or what a guard raises.
        """
        payment = self.payment(payment_id)
        assert payment.nonce == signed.authorization.nonce  # noqa: S101  another nonce would be a second payment
        with self._reserving() as connection, counters.counted(connection, payment_id):
            row = self._row(connection, payment_id)
            more = max(0, signed.authorization.value - row["amount"])
            now = self.clock()
            if more:
                check_caps(more, self._usage(connection, row["realm"], now), counters.read_caps(connection))
                counters.add_reservation(connection, payment_id, self.session, now, more)
            if State(row["state"]) is not State.UNKNOWN:
                self._advance(connection, payment_id, State.UNKNOWN)
            self._advance(connection, payment_id, State.SUBMITTED, refused=0, amount=row["amount"] + more)
            self._add_payload(connection, payment_id, signed)
        return self.payment(payment_id)

    def submit(self, payment_id: int) -> Payment:
        """Record that the payment may leave from now on: → submitted. Only a witness takes that back."""
        with self._changing(payment_id) as connection:
            self._file.verify()
            self._advance(connection, payment_id, State.SUBMITTED)
            connection.execute(
                "UPDATE authorizations SET sent_at = coalesce(sent_at, ?) WHERE id = ?", (self.clock(), payment_id)
            )
        return self.payment(payment_id)

    def poll(self, payment_id: int, purchase_id: str, poll_url: str) -> Payment:
        """Record the job that this payment is for: → polling."""
        with self._changing(payment_id) as connection:
            connection.execute("UPDATE purchases SET poll_url = ? WHERE id = ?", (poll_url, purchase_id))
            self._advance(connection, payment_id, State.POLLING)
        return self.payment(payment_id)

    def mark_unknown(self, payment_id: int, note: str, *, refused: bool = False, durable: bool = True) -> Payment:
        """Record that the money may have moved: → unknown. `refused`: the gateway answered that it did not."""
        with self._changing(payment_id, durable=durable) as connection:
            self._advance(connection, payment_id, State.UNKNOWN, note=note, refused=int(refused))
        return self.payment(payment_id)

    def claim(self, payment_id: int, transaction: str) -> Payment:
        """Record the transaction that the gateway names; it proves nothing until a witness has seen it.

        It is on the disk with the next durable change: a witness finds the payment by its nonce, which is there.
        """
        with self.transaction(durable=False) as connection:
            connection.execute(
                "UPDATE authorizations SET transaction_hash = ? WHERE id = ? AND state NOT IN (?, ?)",
                (transaction, payment_id, State.SETTLED, State.RELEASED),
            )
        return self.payment(payment_id)

    def settle(
        self,
        payment_id: int,
        transaction: str | None,
        note: str | None = None,
        *,
        witness: Witness,
        charged: int | None = None,
    ) -> Payment:
        """Record the word of a witness that the money moved: → settled.

        `charged` is how much, in micro-USDC; without it, what was reserved.
        """
        with self._changing(payment_id) as connection:
            row = self._row(connection, payment_id)
            if row["state"] != State.SETTLED:
                moved = row["amount"] if charged is None else charged
                known = {} if charged is None else {"estimated": 0}
                self._advance(connection, payment_id, State.SETTLED, note=note, witness=witness, **known)
                if transaction is not None:
                    connection.execute(
                        "UPDATE authorizations SET transaction_hash = ? WHERE id = ?", (transaction, payment_id)
                    )
                counters.set_total(connection, payment_id, moved)
                connection.execute(
                    """UPDATE authorizations SET cashed_payload = (
                        SELECT max(id) FROM payloads WHERE authorization_id = ?1 AND amount = ?2) WHERE id = ?1""",
                    (payment_id, moved),
                )
            wiped = wipe_headers(connection, row["purchase_id"])
        self._empty_log(wiped)
        return self.payment(payment_id)

    def release(self, payment_id: int, note: str, *, witness: Witness | None = None) -> Payment:
        """Record that the money did not move and cannot any more: → released.

        Once the payment may have left, that takes a witness; raises LedgerError without one.
        """
        with self._changing(payment_id) as connection:
            row = self._row(connection, payment_id)
            if witness is None and row["state"] in SENT:
                raise LedgerError(f"Payment {payment_id} was sent, and no witness has released it.", _REPORT)
            self._advance(connection, payment_id, State.RELEASED, note=note, witness=witness)
            where = "WHERE header_value IS NOT NULL AND authorization_id = ?"
            wiped = connection.execute(f"UPDATE payloads SET header_value = NULL {where}", (payment_id,)).rowcount
        self._empty_log(wiped)
        return self.payment(payment_id)

    # -- the inside

    @contextmanager
    def _reserving(self) -> Iterator[sqlite3.Connection]:
        """Yield a transaction that may reserve money: in the file at its path, by a process that others see live."""
        with self.transaction(durable=False) as connection:
            self._file.verify()
            self._alive.acquire()
            counters.drop_dead_holds(connection, self.path, self.session)
            yield connection

    def _check_no_open_payment(self, connection: sqlite3.Connection, purchase_id: str) -> None:
        row = connection.execute(
            "SELECT amount, gateway FROM authorizations WHERE purchase_id = ? AND state <> ?",
            (purchase_id, State.RELEASED),
        ).fetchone()
        if row is not None:
            raise PaymentOutcomeUnknown(
                f"A payment for this image is open already, at {row['gateway']}.",
                "Another kernel may be working on it: wait for it, then run the cell again.",
                Money.unknown(row["amount"]),
            )

    @contextmanager
    def _changing(self, payment_id: int, *, durable: bool = True) -> Iterator[sqlite3.Connection]:
        with self.transaction(durable=durable) as connection, counters.counted(connection, payment_id):
            yield connection

    def _row(self, connection: sqlite3.Connection, payment_id: int) -> sqlite3.Row:
        row: sqlite3.Row | None = connection.execute(
            "SELECT * FROM authorizations WHERE id = ?", (payment_id,)
        ).fetchone()
        if row is None:
            raise LedgerError(f"The ledger has no payment {payment_id}.", _REPORT)
        return row

    def _advance(self, connection: sqlite3.Connection, payment_id: int, to: State, **fields: Any) -> None:
        """Change the state of a payment, and `fields`, which never hold a secret."""
        row = self._row(connection, payment_id)
        state = State(row["state"])
        if state is to:
            return
        if to not in (UNSIGNED_TRANSITIONS if row["prepaid"] else TRANSITIONS)[state]:
            raise LedgerError(f"Payment {payment_id} is {state} in the ledger, and cannot become {to}.", _REPORT)
        columns = {"state": to, "updated_at": self.clock(), **fields}
        assignments = ", ".join(f"{name} = ?" for name in columns)
        connection.execute(f"UPDATE authorizations SET {assignments} WHERE id = ?", (*columns.values(), payment_id))

    def _add_payload(self, connection: sqlite3.Connection, payment_id: int, signed: PaymentPayload) -> None:
        authorization = signed.authorization
        connection.execute(
            """INSERT INTO payloads (authorization_id, session, signed_at, amount, pay_to, valid_after, valid_before,
                last_height, header_name, header_value) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)""",
            (
                *(payment_id, self.session, self.clock(), authorization.value, authorization.pay_to),
                *(authorization.valid_after, authorization.valid_before, authorization.last_height),
                *(signed.header_name, signed.header_value),
            ),
        )
        connection.execute(
            """UPDATE authorizations SET pay_to = ?2, header_name = ?3, (valid_before, last_height) = (
                SELECT max(valid_before), max(last_height) FROM payloads WHERE authorization_id = ?1) WHERE id = ?1""",
            (payment_id, authorization.pay_to, signed.header_name),
        )
