"""Every JavaScript block of the documents, and a page for each that runs it.

The blocks stand here as they stand there; where indentation had been lost, it was put back.
"""

from __future__ import annotations

import re
from textwrap import dedent

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.urls import path
from django.views.decorators.http import require_POST

from tests.live import bodies

BLOCKS = {
    "async_task_status": """
        frappe.realtime.on("async_task_status", ({ name, job_name, status, message, error, batch_id, batch_done, batch_total }) => { ... })
    """,
    "show_progress": """
        frappe.call({
            method: "myapp.api.start_import",
            callback(r) {
                frappe.async_tasks.show_progress(
                    r.message,
                    __("Importing data"),
                    ({ status }) => {
                        if (status === "Finished") frappe.show_alert(__("Import complete!"))
                    }
                )
            },
        })
    """,
    "show_batch_progress": """
        frappe.async_tasks.show_batch_progress(
            batch_id,
            __("Creating records"),
            ({ status, batch_done, batch_total }) => {
                if (status !== 'Finished' || batch_done < batch_total) return
                frappe.show_alert({
                    message: __("{0} of {1} created", [batch_done, batch_total]),
                    indicator: "green",
                })
                listview.refresh()
            },
        )
    """,
    "two_phases": """
        frappe.call({
            method: "myapp.api.bulk_create",
            callback(r) {
                const { batch_id, coordinator_task_name } = r.message
                const onBatchComplete = ({ status, batch_done, batch_total }) => {
                    if (status !== 'Finished' || batch_done < batch_total) return
                    frappe.show_alert({
                        message: __("{0} of {1} created", [batch_done, batch_total]),
                        indicator: "green",
                    })
                    listview.refresh()
                }
                frappe.async_tasks.show_progress(
                    coordinator_task_name,
                    __("Creating records"),
                    ({ status }) => {
                        if (status === "Finished")
                            frappe.async_tasks.show_batch_progress(batch_id, __("Creating records"), onBatchComplete)
                    },
                    false,
                )
            },
        })
    """,
}

#: What stands in the documents, and what it is called here.
NAMES = {
    "frappe.async_tasks": "taskcontrol",
    "frappe.realtime.on": "taskcontrol.on",
    # What they use of their framework beside its tasks: tests/static/tests/framework.js.
    "frappe.call": "call",
    "frappe.show_alert": "show_alert",
    # What the document leaves open.
    "{ ... }": "heard.push({ name, job_name, status, message, error, batch_id, batch_done, batch_total })",
}

#: What the pages call by name, as theirs do.
CALLED = {
    "myapp.api.start_import": bodies.start_import,
    "myapp.api.bulk_create": bodies.bulk_create,
}


def script_of(block: str) -> str:
    """Return a block in the names of this project."""
    longest_first = sorted(NAMES, key=len, reverse=True)
    names = re.compile("|".join(map(re.escape, longest_first)))
    return names.sub(lambda found: NAMES[found[0]], dedent(BLOCKS[block]).strip())


def page(request: HttpRequest, block: str = "") -> HttpResponse:
    """Show an empty page that runs a block, or none."""
    return render(request, "tests/seed.html", {"block": block})


def script(request: HttpRequest, block: str) -> HttpResponse:
    """Answer a block, which a strict policy lets no page hold itself."""
    return HttpResponse(script_of(block), content_type="text/javascript")


@require_POST
def call(request: HttpRequest, method: str) -> JsonResponse:
    """Call what a page names, with the items of its address, as the person who is there."""
    items = request.GET.get("items", "a,b,c").split(",")
    return JsonResponse({"message": CALLED[method](items)})


urlpatterns = [
    path("", page),
    path("<slug:block>/", page),
    path("<slug:block>.js", script, name="seed_script"),
    path("call/<str:method>", call),
]
