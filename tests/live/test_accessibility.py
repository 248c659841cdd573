"""Every screen in a real browser: readable by all, by keyboard, in the dark, on a phone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urljoin

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.urls import reverse

from tests.live.furniture import furnish

# What the database is makes no difference here.
pytestmark = [pytest.mark.integration, pytest.mark.only_on("sqlite")]

ADMIN = "/admin/taskcontrol/"
PHONE = {"width": 390, "height": 844}
WIDE = {"width": 1280, "height": 900}


def of(name: str, page: str = "change") -> Callable[[Any], str]:
    """Return the address of a page of the row with this name."""

    def address(rows: Any) -> str:
        row = rows[name]
        view = f"admin:taskcontrol_{row._meta.model_name}_{page}"
        return reverse(view, args=[row.pk])

    return address


SCREENS: dict[str, Callable[[Any], str]] = {
    "front page": lambda _: "/",
    "overview": lambda _: ADMIN,
    "running": lambda _: f"{ADMIN}worker/running/",
    "tasks": lambda _: f"{ADMIN}tasklog/",
    "no tasks": lambda _: f"{ADMIN}tasklog/?q=shop:7",
    "pending": of("pending"),
    "later": of("later"),
    "paused": of("paused"),
    "queued": of("queued"),
    "started": of("started"),
    "finished": of("finished"),
    "failed": of("failed"),
    "retrying": of("retrying"),
    "canceled": of("canceled"),
    "stopping": of("stopping"),
    "edited retry": of("failed", "edit_and_retry"),
    "history": of("failed", "history"),
    "delete": of("finished", "delete"),
    "batches": lambda _: f"{ADMIN}taskbatch/",
    "batch": of("batch"),
    "types": lambda _: f"{ADMIN}tasktype/",
    "type": of("tasktype"),
    "run form": of("tasktype", "run"),
    "queues": lambda _: f"{ADMIN}queuestate/",
    "queue": of("queue"),
    "workers": lambda _: f"{ADMIN}worker/",
    "worker": of("worker"),
    "lost worker": of("lost"),
    "worker that left": of("left"),
    "schedules": lambda _: f"{ADMIN}schedule/",
    "schedule": of("schedule"),
    "new schedule": lambda _: f"{ADMIN}schedule/add/",
    "dispatcher": lambda _: f"{ADMIN}dispatcherstate/",
    "audit": lambda _: f"{ADMIN}taskevent/",
    "incidents": lambda _: f"{ADMIN}incident/",
    "my tasks": lambda _: "/taskcontrol/mine/",
    "my task": lambda rows: f"/taskcontrol/mine/{rows['started'].pk}/",
    "my failed task": lambda rows: f"/taskcontrol/mine/{rows['failed'].pk}/",
}
#: What stock admin shows around our parts, and is not ours to change.
STOCK = (
    ".breadcrumbs",  # links without an underline
    "#changelist-search",  # a box whose label is a picture, and such a link
)
#: What of our parts does something.
BUTTONS = ".tc-button, .tc-card, .button"
#: What has the focus, and whether a person sees that it has.
FOCUS = """(buttons) => {
    const one = document.activeElement, style = getComputedStyle(one);
    const shown = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0;
    return { ours: one.matches(buttons), shown, html: one.outerHTML.slice(0, 200) };
}"""
#: How far the page scrolls sideways, and what reaches out.
TOO_WIDE = """(() => {
    const page = document.documentElement, width = page.clientWidth;
    if (page.scrollWidth <= width) return [];
    const out = [...document.querySelectorAll("body *")]
        .filter((one) => one.getBoundingClientRect().right > width)
        .map((one) => one.outerHTML.slice(0, 200));
    return [`${page.scrollWidth} of ${width} pixels`, ...out];
})()"""
#: Screens with buttons of each kind.
PRESSED = (
    "front page",
    "overview",
    "running",
    "pending",
    "failed",
    "edited retry",
    "batch",
    "type",
    "run form",
    "queue",
    "worker",
    "schedule",
    "my failed task",
)
MOST_STEPS = 200
#: Colors that fade would be measured on their way.
AT_ONCE = "document.getAnimations().forEach((one) => one.finish())"
#: Without ``preload`` it makes no style element, which the policy would forbid.
OPTIONS = {"resultTypes": ["violations"], "preload": False}
#: The rules that the dark may break.
OF_COLORS = ("color-contrast", "link-in-text-block")
OPEN_ALL = """document.querySelectorAll("details").forEach((one) => {
    one.removeAttribute("name");
    one.open = true;
})"""


@pytest.fixture
def rows(web, boss):
    """A site in the middle of its work."""
    return furnish(boss.user)


def findings_of(page: Any, *rules: str) -> list[str]:
    """Return what axe finds by all rules or by these, one line for each element."""
    page.evaluate(AT_ONCE)
    context = {"exclude": [[selector] for selector in STOCK]}
    only = {"runOnly": list(rules)} if rules else {}
    found = Axe().run(page, context, {**OPTIONS, **only}).response
    return [
        f"{one['id']}: {node['target']}: {node['html'][:200]}: {node['failureSummary']}"
        for one in found["violations"]
        for node in one["nodes"]
    ]


def faults_of(page: Any) -> list[str]:
    """Return what is wrong with a page: wide in the light, narrow in the dark."""
    page.set_viewport_size(WIDE)
    page.emulate_media(color_scheme="light")
    page.evaluate(OPEN_ALL)
    found = findings_of(page)
    page.emulate_media(color_scheme="dark")
    page.set_viewport_size(PHONE)
    found += findings_of(page, *OF_COLORS)
    return [*found, *page.evaluate(TOO_WIDE)]


def test_no_screen_has_a_fault_in_the_light_or_in_the_dark_or_is_too_wide_for_a_phone(
    rows, boss, visit
):
    page = visit(boss, "/")
    found: dict[str, Any] = {}
    for name, address in SCREENS.items():
        page.goto(urljoin(page.url, address(rows)))
        found[name] = faults_of(page)
    assert {name: faults for name, faults in found.items() if faults} == {}


@pytest.mark.parametrize(
    ("screen", "action"), [("tasks", "cancel_tasks"), ("batches", "cancel_batches")]
)
def test_the_question_before_an_act_on_many_has_no_fault(rows, boss, visit, screen, action):
    page = visit(boss, SCREENS[screen](rows))
    page.locator("#action-toggle").check()
    page.locator("select[name=action]").select_option(action)
    page.locator("button[name=index]").click()

    page.locator("[name=confirmed]").wait_for(state="attached")

    assert faults_of(page) == []


def test_tab_reaches_every_button_and_shows_it(rows, boss, visit):
    page = visit(boss, "/")
    missed = {}
    for name in PRESSED:
        page.goto(urljoin(page.url, SCREENS[name](rows)))
        wanted = page.locator(f"{BUTTONS} >> visible=true").count()
        reached = 0
        for _ in range(MOST_STEPS):
            page.keyboard.press("Tab")
            focus = page.evaluate(FOCUS, BUTTONS)
            reached += focus["ours"]
            assert focus["shown"] or not focus["ours"], focus["html"]
            if reached == wanted:
                break
        missed[name] = wanted - reached
    assert missed == dict.fromkeys(PRESSED, 0)
