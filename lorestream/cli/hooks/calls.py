"""The verbs of `lorestream hooks`, carried out through the HTTP client."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lorestream.cli import terminal
from lorestream.cli.memories.calls import connect, count
from lorestream.client.webhooks import Webhook
from lorestream.errors import Misconfigured, OperationRefused


def create(
    url: str, address: str, wanted: Mapping[str, Any], secret_file: str | None, *, as_json: bool
) -> None:
    """Make a webhook; print its id, and its secret if that was made."""
    secret = None if secret_file is None else _secret(secret_file)
    with connect(url) as memories:
        made = memories.create_webhook(address, filter=wanted or None, secret=secret)
    if as_json:
        terminal.print_json(made)
        return
    terminal.print_line(made.id)
    if made.secret is not None:
        terminal.print_line(f"secret: {made.secret}")
        terminal.print_note(
            "the secret is not shown again: give it to the receiver, which checks the signatures with it"
        )
    terminal.print_note(f"try it out: lorestream hooks test {made.id}")


def ls(url: str, *, as_json: bool) -> None:
    """Print the webhooks."""
    with connect(url) as memories:
        found = memories.webhooks()
    if as_json:
        terminal.print_json({"webhooks": found})
        return
    if found:
        terminal.print_table(
            {"id": "", "state": "", "delivered": "right", "address": "", "last error": ""},
            [(one.id, one.state, f"{one.delivered:,}", one.url, one.last_error or "-") for one in found],
        )
    terminal.print_note(count(len(found), "webhook", "webhooks"))


def rm(url: str, webhook_id: str, *, yes: bool, dry_run: bool, as_json: bool) -> None:
    """Remove a webhook."""
    with connect(url) as memories:
        found = next((one for one in memories.webhooks() if one.id == webhook_id), None)
        if found is not None and not dry_run:
            terminal.confirm(f"Remove the webhook to {found.url}?", yes=yes)
            memories.delete_webhook(webhook_id)
    if as_json:
        terminal.print_json(
            {"id": webhook_id, "found": found is not None, "removed": found is not None and not dry_run}
        )
    elif found is None:
        terminal.print_note("there is no such webhook")
    else:
        terminal.print_line(f"{'would be removed' if dry_run else 'removed'}: {found.url}")


def resume(url: str, webhook_id: str, *, as_json: bool) -> None:
    """Resume a webhook; print its state."""
    with connect(url) as memories:
        found = memories.resume_webhook(webhook_id)
    _print_state(found, as_json=as_json)


def attempt(url: str, webhook_id: str, *, as_json: bool) -> None:
    """Try a webhook out; raises OperationRefused when it does not answer with success."""
    with connect(url) as memories:
        tried = memories.try_webhook(webhook_id)
    if as_json:
        terminal.print_json(tried)
    elif tried.ok:
        terminal.print_line(f"answered with {tried.status} in {tried.took_ms:.0f} ms")
    if not tried.ok:
        raise OperationRefused(
            f"the receiver did not accept the request: {tried.error}. Nothing is lost: memories wait until it does"
        )


def _print_state(webhook: Webhook, *, as_json: bool) -> None:
    if as_json:
        terminal.print_json(webhook)
    else:
        terminal.print_line(f"{webhook.id}: {webhook.state}")


def _secret(file: str) -> str:
    try:
        text = terminal.read_stdin() if file == "-" else Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Misconfigured(f"--secret-file {file} cannot be read: {error}") from error
    return text.strip()
