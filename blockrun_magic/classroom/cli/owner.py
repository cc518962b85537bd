"""The owner's commands: limits, invitations, the report, revoking, pausing and forgetting."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import TYPE_CHECKING

from blockrun_magic.classroom.cli.credentials import with_credentials
from blockrun_magic.classroom.cli.serve import gateway_of
from blockrun_magic.classroom.cli.settings import LimitSetting, moment_of, read_setting, rule_texts
from blockrun_magic.classroom.storage.actions import Actions
from blockrun_magic.classroom.storage.forgetting import forget_member
from blockrun_magic.classroom.storage.members import STUDENT, TEACHER
from blockrun_magic.classroom.storage.reports import report_rows, write_report
from blockrun_magic.errors import UsageError
from blockrun_magic.gateway.gateways import Payer
from blockrun_magic.payments.ledger.windows import find_zone
from blockrun_magic.payments.money import format_usd
from blockrun_magic.wiring import wallet_for

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator

    from blockrun_magic.classroom.storage.records import Records

__all__ = ["change_limits", "doctor", "forget", "invite", "link", "pause", "report", "resume", "revoke"]

_TIMEZONE = "timezone="
_WIDEST_FIRST = ("all", "class", "group", "each", "member")


def change_limits(records: Records, options: argparse.Namespace) -> int:
    """Set limits and rules, all of them or none, and print the current ones."""
    actions = Actions(records)
    texts = [text for text in options.settings if not text.startswith(_TIMEZONE)]
    zones = [text.removeprefix(_TIMEZONE) for text in options.settings if text.startswith(_TIMEZONE)]
    zone = find_zone(zones[-1] if zones else records.ledger.setting("class.timezone"))
    settings = [read_setting(text, zone) for text in texts]
    numbered = [(subject, setting) for setting in settings for subject in _subjects(actions, setting.subject)]
    for name in zones:
        actions.set_timezone(name)
    for subject, setting in numbered:
        if isinstance(setting, LimitSetting):
            actions.set_limit(subject, setting.period, setting.micros)
        else:
            actions.set_policy(subject, **{setting.name: setting.value})
    _print(_limit_lines(records))
    zone = find_zone(records.ledger.setting("class.timezone"))
    rules = sorted(records.policies.all().items(), key=lambda item: _order(item[0]))
    _print(line for scope, policy in rules for line in rule_texts(_named(records, scope), policy, zone))
    return 0


def _limit_lines(records: Records) -> Iterator[str]:
    """Yield the limits, the widest first, as they are set: a member by name."""
    for (subject, period), micros in sorted(
        records.ledger.limits().items(), key=lambda item: (*_order(item[0][0]), item)
    ):
        yield f"{_named(records, subject)}/{period}={format_usd(micros)}"


def _order(subject: str) -> tuple[int, str]:
    kind = subject.partition(":")[0]
    return _WIDEST_FIRST.index(kind), subject


def _named(records: Records, subject: str) -> str:
    """Return a subject, a member by their name if they have one."""
    kind, _, number = subject.partition(":")
    member = records.members.by_id(int(number)) if kind == "member" else None
    return subject if member is None or member.name is None else f"member:{member.name}"


def _subjects(actions: Actions, subject: str) -> list[str]:
    """Return the ledger's subjects for one on the command line, which names a member instead of numbering them."""
    kind, _, name = subject.partition(":")
    return [member.subject for member in actions.people_named(name)] if kind == "member" else [subject]


def invite(records: Records, options: argparse.Namespace) -> int:
    """Print a join code and nothing else."""
    if (options.name is None) == (options.people is None):
        raise UsageError("An invitation is for one name or for a number of people.", "Give a NAME, or --people N.")
    actions = Actions(records)
    role = TEACHER if options.teacher else STUDENT
    expires_at = moment_of(options.expires, records.database.now())
    if options.people is None:
        code = actions.invite(options.name, role=role, groups=options.group, expires_at=expires_at)
    else:
        code = actions.invite_people(options.people, role=role, groups=options.group, expires_at=expires_at)
    _print([code])
    return 0


def report(records: Records, options: argparse.Namespace) -> int:
    """Print each person's spend, or write it to a CSV file."""
    rows = report_rows(records)
    if options.csv is None:
        _print(
            f"{row.name}  {format_usd(row.spent)} spent, {format_usd(row.at_risk)} at risk, {row.orders} orders"
            for row in rows
        )
        return 0
    try:
        with options.csv.open("w", encoding="utf-8", newline="") as file:
            write_report(rows, file)
    except OSError as error:
        raise UsageError(
            f"{options.csv} cannot be written: {error.strerror}.", "Name another file with --csv."
        ) from None
    return 0


def revoke(records: Records, options: argparse.Namespace) -> int:
    """Revoke the access of a person."""
    actions = Actions(records)
    for member in actions.people_named(options.name):
        actions.revoke(member)
    return 0


def forget(records: Records, options: argparse.Namespace) -> int:
    """Erase the name, the prompts and the images of a person."""
    actions = Actions(records)
    for member in actions.people_named(options.name):
        forget_member(records, actions, member)
    return 0


def pause(records: Records, _: argparse.Namespace) -> int:
    """Refuse new orders of the class."""
    Actions(records).pause(paused=True)
    return 0


def resume(records: Records, _: argparse.Namespace) -> int:
    """Let the class continue."""
    Actions(records).pause(paused=False)
    return 0


def link(records: Records, _: argparse.Namespace) -> int:
    """Print a link that opens the teacher's page once, and nothing else."""
    from blockrun_magic.classroom.page.sessions import new_ticket

    try:
        ready = json.loads((records.home / "classroom" / "ready.json").read_bytes())
        address = str(ready["url"])
    except (OSError, ValueError, KeyError, TypeError):
        raise UsageError("The service has not run here yet.", "Start it with `serve`, which prints a link.") from None
    _print([f"{address}/teacher?ticket={new_ticket(records.database)}"])
    return 0


def doctor(records: Records, options: argparse.Namespace) -> int:
    """Check the counters of the limits against the payments, and the settings of a hub; return 1 if one is wrong."""
    from blockrun_magic.classroom.hub_doctor import check_config, check_live, read_config

    wrong = records.ledger.check()
    ceiling = records.ledger.limits().get(("all", "total"))
    _print(
        [
            f"database: {records.database.name}",
            f"counters: {'agree with the payments' if not wrong else f'{len(wrong)} differ from the payments'}",
            f"people: {len(records.members.all())}, orders in progress: {len(records.orders.unfinished())}",
            f"ceiling: {'none; set one with `limits all=100`' if ceiling is None else format_usd(ceiling)}",
        ]
    )
    if options.gateway is not None:
        _print([_wallet_line(options.gateway)])
    checks = [] if options.hub_config is None else check_config(read_config(options.hub_config))
    settings = {check.setting for check in checks}
    live = asyncio.run(check_live(with_credentials(os.environ)))
    checks += [check for check in live if check.good is not None or check.setting not in settings]
    _print(map(str, checks))
    return 1 if wrong or any(check.good is False for check in checks) else 0


def _wallet_line(name: str) -> str:
    """Return a line about the wallet that pays at a gateway; raises WalletError if none can."""
    gateway, close_gateway = gateway_of(name)
    close_gateway()
    if gateway.paid_by is not Payer.SIGNATURE:
        return f"wallet: none; {gateway.label} is paid from {gateway.money}"
    wallet = wallet_for(gateway)
    wallet.unlock()
    return f"wallet: {wallet.address} pays {gateway.money} at {gateway.label}"


def _print(lines: Iterable[str]) -> None:
    sys.stdout.writelines(f"{line}\n" for line in lines)
