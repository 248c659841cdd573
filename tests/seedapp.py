"""The app that the examples of the documents call, and what they use of their framework."""

from __future__ import annotations

import time
from typing import Any

from django.db import connection

import taskcontrol
from tests.models import Order
from tests.recording import ENDED, STARTED, record

# What the examples enqueue: each says what it was called with.


def process_invoice(invoice_name: str = "", invoice: str = "") -> str:
    """Process one invoice, named in the one or in the other way."""
    return f"processed {invoice_name or invoice}"


@taskcontrol.whitelist
def sync_customer(customer_id: str) -> str:
    """Send one customer elsewhere; that of nobody is not there."""
    if customer_id == "nobody":
        raise ConnectionError("no such customer")
    return f"synced {customer_id}"


def heavy_import() -> None:
    """Take a moment."""
    record(STARTED, tag="heavy")
    time.sleep(0.3)
    record(ENDED, tag="heavy")


def process(item: Any) -> None:
    """Process one item."""
    record("processed", item=item)


def process_item(item: Any) -> str:
    """Process one item as a task."""
    return f"processed {item}"


def process_data() -> str:
    """Process it."""
    return "processed"


def send_emails(users: list[str], message: str) -> list[str]:
    """Send a message to each."""
    return [f"{user}: {message}" for user in users]


def generate_report() -> str:
    """Make a report."""
    return "report"


def my_function(**kwargs: Any) -> dict[str, Any]:
    """Return what it got."""
    return kwargs


def send_order_confirmation(order_id: str) -> str:
    """Say that the order is there, which it must be."""
    return f"confirmed {Order.objects.get(name=order_id)}"


def send_invoice_email(invoice_name: str) -> str:
    """Send the invoice, which must be there."""
    return f"sent {Order.objects.get(name=invoice_name)}"


def sync_data(customer: str) -> str:
    """Send one customer elsewhere."""
    return f"synced {customer}"


def urgent_task() -> str:
    """Be urgent."""
    return "urgent"


def interactive_task() -> str:
    """Be waited for."""
    return "interactive"


def import_data(file_path: str) -> str:
    """Import a file."""
    return f"imported {file_path}"


def send_one_email(recipient: str) -> str:
    """Send one."""
    return f"sent to {recipient}"


def monthly_aging_report() -> str:
    """Make a report."""
    return "aged"


def recompute_customer_balance(customer: str) -> str:
    """Compute it anew."""
    return f"recomputed {customer}"


def scheduled() -> str:
    """Stand for every scheduled function that the documents only name."""
    return "scheduled"


def scheduled_too() -> str:
    """Stand for the second one under the same key."""
    return "scheduled too"


# What they use of their framework beside its jobs.


class Document:
    """Calls ``on_submit`` with the document stored, in one transaction with it."""

    def __init__(self, name: str) -> None:
        self.name = name

    def submit(self) -> Any:
        """Store the document and submit it."""
        Order.objects.create(name=self.name)
        return self.on_submit()

    def on_submit(self) -> Any:
        """Do what the examples do."""


def publish_realtime(event: str, message: dict[str, Any], user: Any) -> None:
    """Write down what a browser would be told."""
    record(event, user=str(user), **message)


def log(text: str) -> None:
    """Write it down."""
    record("log", text=text)


def msgprint(text: str) -> None:
    """Show it to the person."""
    record("shown", text=text)


def sql(statement: str, values: tuple[Any, ...]) -> int:
    """Run it and return how many rows it changed."""
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return int(cursor.rowcount)
