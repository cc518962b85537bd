"""The ledger: every purchase and authorization, on record before the action it allows, on the disk before one leaves.

SQLite in `magic/ledger.sqlite`, mode 0600, shared by all kernels of a user. A signed header is
money, so it lives here and nowhere else, and is wiped once it can no longer be of use.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from blockrun_magic.errors import LedgerError
from blockrun_magic.payments.ledger.connection import placeholders, translate_errors
from blockrun_magic.payments.ledger.limits import DEFAULT_CAPS, Caps, Usage, check_caps
from blockrun_magic.payments.ledger.queries import LedgerReader
from blockrun_magic.payments.ledger.records import Purchase, StoredImage
from blockrun_magic.payments.ledger.states import AT_RISK, TRANSITIONS, UNSIGNED_TRANSITIONS, State
from blockrun_magic.payments.x402.protocol import PaymentPayload

__all__ = ["Ledger"]

_DAY = 86_400
_MAX_HOLD = 3600


class Ledger(LedgerReader):
    """The one writer of money's records; safe from several threads and processes.

    Every method raises LedgerError when the file cannot be read or written, and then nothing has been
    changed.
    """

    def create_purchase(
        self, realm: str, gateway: str, digest: str, take: int, request: Mapping[str, Any], *, private: bool
    ) -> Purchase:
        """Return the purchase of this request and take, begun now unless it was before."""
        with self.transaction(lasting=False) as connection:
            connection.execute(
                """INSERT INTO purchases (id, created_at, realm, gateway, digest, take, request, private)
                VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (realm, digest, take) DO NOTHING""",
                (
                    secrets.token_hex(5),
                    self.clock(),
                    realm,
                    gateway,
                    digest,
                    take,
                    json.dumps(request, sort_keys=True),
                    int(private),
                ),
            )
        purchase = self.purchase(realm, digest, take)
        assert purchase is not None  # noqa: S101  it was written two lines above
        return purchase

    def change_gateway(self, purchase_id: str, gateway: str) -> None:
        """Begin an unpaid purchase anew at `gateway`: what another one answered is forgotten."""
        with self.transaction() as connection:
            connection.execute(
                "UPDATE purchases SET gateway = ?, poll_url = NULL, answer = NULL WHERE id = ?", (gateway, purchase_id)
            )

    # -- the life of an authorization

    def hold(self, realm: str, amount: int) -> int:
        """Hold `amount` micro-USDC of the caps for a batch, and return the hold's id.

        Its parts are then reserved out of it. Raises BudgetError. A hold that nobody drops, because
        its kernel died, ends by itself after an hour.
        """
        now = self.clock()
        with self.transaction(lasting=False) as connection:
            check_caps(amount, self._committed(connection, realm, now), self._caps(connection))
            cursor = connection.execute(
                "INSERT INTO holds (session, realm, amount, expires_at) VALUES (?, ?, ?, ?)",
                (self.session, realm, amount, now + _MAX_HOLD),
            )
            return int(cursor.lastrowid or 0)

    def drop_hold(self, hold: int) -> None:
        """Give back what is left of a hold."""
        with self.transaction(lasting=False) as connection:
            connection.execute("DELETE FROM holds WHERE id = ?", (hold,))

    def reserve(
        self,
        purchase: Purchase,
        amount: int,
        hold: int | None = None,
        *,
        prepaid: bool = False,
        estimated: bool = False,
    ) -> int:
        """Reserve `amount` micro-USDC for `purchase`, out of `hold` if given; return the payment's id.

        `prepaid` says that somebody else will pay, `estimated` that the amount is a list price. One
        transaction over all kernels checks the caps. Raises BudgetError, and then nothing is reserved.
        """
        now = self.clock()
        with self.transaction(lasting=False) as connection:
            if hold is not None:
                connection.execute("UPDATE holds SET amount = max(0, amount - ?) WHERE id = ?", (amount, hold))
            check_caps(amount, self._committed(connection, purchase.realm, now), self._caps(connection))
            cursor = connection.execute(
                """INSERT INTO authorizations
                (purchase_id, session, realm, created_at, updated_at, state, amount, gateway, prepaid, estimated)
                SELECT id, ?, realm, ?, ?, ?, ?, gateway, ?, ? FROM purchases WHERE id = ?""",
                (self.session, now, now, State.RESERVED, amount, int(prepaid), int(estimated), purchase.id),
            )
            return int(cursor.lastrowid or 0)

    def sign(self, payment_id: int, network: str, signed: PaymentPayload) -> None:
        """Record a signature that has not left yet: reserved → signed."""
        authorization = signed.authorization
        self._advance(
            payment_id,
            State.SIGNED,
            lasting=False,  # `submit` is, and nothing leaves before it
            network=network,
            payer=authorization.payer,
            pay_to=authorization.pay_to,
            nonce=authorization.nonce,
            valid_before=authorization.valid_before,
            last_height=authorization.last_height,
            header_name=signed.header_name,
            header_value=signed.header_value,
        )

    def replace_signature(self, payment_id: int, amount: int, signed: PaymentPayload) -> None:
        """Record another signature in the place of a sent one that was refused, with the same nonce.

        The token contract takes one nonce once, so that only one of the two can ever be cashed (EIP-3009).
        `amount` is the new one's, in micro-USDC. Raises BudgetError where it would break a cap.
        """
        authorization = signed.authorization
        with self.transaction() as connection:
            row = connection.execute(
                "SELECT realm, amount, nonce FROM authorizations WHERE id = ?", (payment_id,)
            ).fetchone()
            assert row["nonce"] == authorization.nonce  # noqa: S101  another nonce would be a second cheque
            committed = self._committed(connection, row["realm"], self.clock())
            check_caps(max(0, amount - row["amount"]), committed, self._caps(connection))
            self._advance_in(connection, payment_id, State.UNKNOWN, note="signed again at another price")
            self._advance_in(
                connection,
                payment_id,
                State.SUBMITTED,
                amount=amount,
                valid_before=authorization.valid_before,
                header_name=signed.header_name,
                header_value=signed.header_value,
                pay_to=authorization.pay_to,
                refused=0,
            )

    def submit(self, payment_id: int) -> None:
        """Record that the signature may leave from now on: → submitted."""
        self._advance(payment_id, State.SUBMITTED)

    def poll(self, payment_id: int, purchase_id: str, poll_url: str) -> None:
        """Record the job that this authorization pays for when it completes: → polling."""
        with self.transaction() as connection:
            connection.execute("UPDATE purchases SET poll_url = ? WHERE id = ?", (poll_url, purchase_id))
            self._advance_in(connection, payment_id, State.POLLING)

    def forget_job(self, purchase_id: str) -> None:
        """Forget a job that ended without a picture, so that the request is sent anew."""
        with self.transaction() as connection:
            connection.execute("UPDATE purchases SET poll_url = NULL WHERE id = ?", (purchase_id,))

    def settle(
        self, payment_id: int, transaction: str | None, note: str | None = None, *, charged: int | None = None
    ) -> None:
        """Record that the money moved: → settled. Settling twice with one hash is one settlement.

        `charged` is what the gateway says that it took, in micro-USDC, in place of what was estimated.
        """
        stated = {} if charged is None else {"amount": charged, "estimated": 0}
        with self.transaction() as connection:
            self._advance_in(connection, payment_id, State.SETTLED, transaction_hash=transaction, note=note, **stated)
            # Until the picture is here, the header may be needed to ask for it once more.
            connection.execute(
                """UPDATE authorizations SET header_value = NULL
                WHERE id = ? AND purchase_id IN (SELECT id FROM purchases WHERE finished_at IS NOT NULL)""",
                (payment_id,),
            )

    def release(self, payment_id: int, note: str) -> None:
        """Record that the money certainly did not move and cannot any more: → released."""
        self._advance(payment_id, State.RELEASED, note=note, header_value=None)

    def mark_unknown(self, payment_id: int, note: str, *, refused: bool = False) -> None:
        """Record that the money may have moved: → unknown.

        `refused` says that the gateway answered that it did not.
        """
        self._advance(payment_id, State.UNKNOWN, note=note, refused=int(refused))

    def save_image_urls(self, purchase_id: str, items: Sequence[Mapping[str, Any]]) -> None:
        """Keep where a paid-for answer's pictures are to be fetched from."""
        with self.transaction() as connection:
            connection.execute("UPDATE purchases SET answer = ? WHERE id = ?", (json.dumps(items), purchase_id))

    def reopen(self, purchase_id: str) -> None:
        """Record that the stored images of a purchase cannot be used: it is unfinished again."""
        with self.transaction() as connection:
            connection.execute("UPDATE purchases SET finished_at = NULL WHERE id = ?", (purchase_id,))

    def finish(
        self,
        purchase_id: str,
        pictures: Sequence[StoredImage],
        seconds: float,
        answer: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        """Record the images of a purchase, which ends it; its settled headers are wiped unless an image is missing.

        `answer` says where its images can be fetched from again, and which of them are missing.
        """
        with self.transaction() as connection:
            connection.execute("DELETE FROM pictures WHERE purchase_id = ?", (purchase_id,))
            connection.executemany(
                "INSERT INTO pictures VALUES (?, ?, ?, ?, ?, ?, ?)",
                [
                    (
                        purchase_id,
                        index,
                        kept.file,
                        kept.media_type,
                        kept.width,
                        kept.height,
                        kept.revised_prompt,
                    )
                    for index, kept in enumerate(pictures)
                ],
            )
            connection.execute(
                "UPDATE purchases SET finished_at = ?, seconds = ?, answer = ? WHERE id = ?",
                (self.clock(), seconds, json.dumps(list(answer)) if answer else None, purchase_id),
            )
            if not any(entry.get("missing") for entry in answer):
                connection.execute(
                    "UPDATE authorizations SET header_value = NULL WHERE purchase_id = ? AND state = ?",
                    (purchase_id, State.SETTLED),
                )

    def log_settled(self, realm: str, write: Callable[[Sequence[sqlite3.Row]], None]) -> None:
        """Hand the settled payments of `realm` that no cost log has yet to `write`: each once, of all kernels.

        Estimated ones are left out: the log has no word for them.
        """
        query = """
            SELECT authorizations.id, updated_at, amount, payer, network, request FROM authorizations
            JOIN purchases ON purchases.id = purchase_id
            WHERE state = ? AND authorizations.realm = ? AND logged = 0 AND estimated = 0 ORDER BY updated_at"""
        if not self._read(query, (State.SETTLED, realm)):
            return
        with self.transaction(lasting=False) as connection:  # the log itself is no more lasting than that
            rows = connection.execute(query, (State.SETTLED, realm)).fetchall()
            write(rows)
            connection.executemany("UPDATE authorizations SET logged = 1 WHERE id = ?", [(row["id"],) for row in rows])

    # -- caps

    def caps(self) -> Caps:
        """Return the caps in force, which all kernels share."""
        with translate_errors(self.path), self._lock:
            return self._caps(self._connection)

    def set_caps(self, **caps: int) -> Caps:
        """Change some of the caps (`image`, `session`, `day`, micro-USDC); return all of them."""
        with self.transaction() as connection:
            for name, value in caps.items():
                connection.execute(
                    "INSERT INTO settings VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                    (f"cap.{name}", str(value)),
                )
            return self._caps(connection)

    def set_setting(self, name: str, value: str) -> None:
        """Change a setting that all kernels share."""
        with self.transaction() as connection:
            connection.execute("INSERT OR REPLACE INTO settings VALUES (?, ?)", (name, value))

    def committed(self, realm: str) -> Usage:
        """Return what this session and this UTC day have spent or put at risk, in micro-USDC."""
        with translate_errors(self.path), self._lock:
            return self._committed(self._connection, realm, self.clock())

    # -- the inside

    def _committed(self, connection: sqlite3.Connection, realm: str, now: float) -> Usage:
        counted = (*AT_RISK, State.SETTLED)
        paid = f"SELECT coalesce(sum(amount), 0) FROM authorizations WHERE state IN ({placeholders(counted)})"
        held = "SELECT coalesce(sum(amount), 0) FROM holds WHERE realm = ? AND expires_at > ?"
        session = connection.execute(
            f"SELECT ({paid} AND session = ? AND realm = ?) + ({held} AND session = ?)",
            (*counted, self.session, realm, realm, now, self.session),
        )
        day = connection.execute(
            f"SELECT ({paid} AND realm = ? AND created_at >= ?) + ({held})",
            (*counted, realm, now - now % _DAY, realm, now),
        )
        return Usage(session.fetchone()[0], day.fetchone()[0])

    def _caps(self, connection: sqlite3.Connection) -> Caps:
        rows = connection.execute("SELECT name, value FROM settings WHERE name LIKE 'cap.%'").fetchall()
        kept = {name.removeprefix("cap."): int(value) for name, value in rows}
        return Caps(
            image=kept.get("image", DEFAULT_CAPS.image),
            session=kept.get("session", DEFAULT_CAPS.session),
            day=kept.get("day", DEFAULT_CAPS.day),
        )

    def _advance(self, payment_id: int, to: State, *, lasting: bool = True, **fields: Any) -> None:
        with self.transaction(lasting=lasting) as connection:
            self._advance_in(connection, payment_id, to, **fields)

    def _advance_in(self, connection: sqlite3.Connection, payment_id: int, to: State, **fields: Any) -> None:
        row = connection.execute("SELECT state, prepaid FROM authorizations WHERE id = ?", (payment_id,)).fetchone()
        if row is None:
            raise LedgerError(
                f"The ledger knows of no payment {payment_id}.",
                "Nothing more was done. Please report this with `%blockrun jobs`.",
            )
        now_in = State(row["state"])
        if now_in is to:
            return
        if to not in (UNSIGNED_TRANSITIONS if row["prepaid"] else TRANSITIONS)[now_in]:
            raise LedgerError(
                f"The ledger holds payment {payment_id} as {now_in}, which cannot become {to}.",
                "Nothing more was done with it. Please report this with `%blockrun jobs`.",
            )
        columns = {"state": to, "updated_at": self.clock(), **fields}
        assignments = ", ".join(f"{name} = ?" for name in columns)
        connection.execute(f"UPDATE authorizations SET {assignments} WHERE id = ?", (*columns.values(), payment_id))

    @contextmanager
    def transaction(self, *, lasting: bool = True) -> Iterator[sqlite3.Connection]:
        """Return a transaction that all kernels wait for: all of it holds afterwards, or nothing was changed.

        It is on the disk then, and all before it. What is not `lasting` survives the end of the process like everything
        else, but a power cut may undo it, until the next one that is: for what allows nothing to leave the machine.
        """
        with translate_errors(self.path), self._lock:
            self._connection.execute(f"PRAGMA synchronous = {'FULL' if lasting else 'NORMAL'}")
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                # A full disk ends the transaction by itself; a second end would hide the first error.
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
