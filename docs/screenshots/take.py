"""Takes the pictures of all screens from a running `up`: light and dark, wide and on a phone.

    python docs/screenshots/take.py http://127.0.0.1:7340 --password ...

It presses what a person would press to have something to show: indexes the library, ranks the
names twice, makes a schedule, suspends the dispatcher and resumes it. Needs Playwright and a
Chromium (as the tests do), and Pillow if the pictures are to be small.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

FOLDER = Path(__file__).parent
ADMIN = "/admin/taskcontrol"
#: Height up to which a page is shown, in pixels; it may be shorter.
TALLEST = {"wide": 1000, "phone": 1100}
WIDTHS = {"wide": 1280, "phone": 390}
#: No more of a list than one sees at a glance.
FIRST = "#result_list th a >> nth=0"

Open = Callable[[Page], object]


def listed(model: str, query: str = "") -> Open:
    """Return how to open a list."""
    return lambda page: page.goto(f"{ADMIN}/{model}/{query}")


def first_of(model: str, query: str = "", then: str = "") -> Open:
    """Return how to open the page of the first row of a list, and what to click there."""

    def go(page: Page) -> None:
        page.goto(f"{ADMIN}/{model}/{query}")
        page.click(FIRST)
        if then:
            page.click(then)

    return go


def named(model: str, name: str, then: str = "") -> Open:
    """Return how to open the page of a row by its name, and what to click there."""

    def go(page: Page) -> None:
        page.goto(f"{ADMIN}/{model}/")
        page.click(f"#result_list th a:has-text('{name}')")
        if then:
            page.click(then)

    return go


def confirmation(page: Page) -> None:
    """Ask for an act on all that failed."""
    page.goto(f"{ADMIN}/tasklog/?status__exact=Failed")
    for box in page.locator("#result_list .action-select").all():
        box.check()
    page.select_option("select[name=action]", label="Retry selected tasks…")
    page.click("#changelist-form button:has-text('Go')")


SCREENS: dict[str, Open] = {
    "batch": first_of("taskbatch"),
    "batches": listed("taskbatch"),
    "running": lambda page: page.goto(f"{ADMIN}/worker/running/"),
    "waiting": first_of(
        "tasklog", "?method=project.library.tasks.rank_names&status__exact=Pending"
    ),
    "front": lambda page: page.goto("/"),
    "overview": lambda page: page.goto(f"{ADMIN}/"),
    "tasks": listed("tasklog", '?status__exact=Failed&q=error:"never closed"'),
    "task": first_of("tasklog", "?status__exact=Failed"),
    "edit": first_of("tasklog", "?status__exact=Failed", "text=Retry with edited"),
    "confirm": confirmation,
    "types": listed("tasktype"),
    "type": named("tasktype", "rank_names"),
    "run": named("tasktype", "rank_names", "a:has-text('Run…')"),
    "queues": listed("queuestate"),
    "queue": named("queuestate", "short"),
    "workers": listed("worker"),
    "worker": first_of("worker"),
    "schedules": listed("schedule"),
    "schedule": first_of("schedule"),
    "audit": listed("taskevent"),
    "mine": lambda page: page.goto("/taskcontrol/mine/"),
}


def main() -> None:
    """Take them all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url", help="what `up` names as its site")
    parser.add_argument("--user", default="admin")
    parser.add_argument("--password", required=True)
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    parser.add_argument("--only", nargs="*", default=[], choices=[*SCREENS, "suspended"])
    given = parser.parse_args()
    with sync_playwright() as play:
        browser = play.chromium.launch(
            executable_path=given.chromium, args=["--no-sandbox"]
        )
        looks = list(pages(browser, given.url, given.user, given.password))
        if not given.only:
            prepare(looks[0][1])
        for name in given.only or SCREENS:
            if name in SCREENS:
                take(name, SCREENS[name], looks)
        if not given.only or "suspended" in given.only:
            while_suspended(looks)
        browser.close()


def pages(
    browser: Browser, url: str, user: str, password: str
) -> Iterator[tuple[str, Page]]:
    """Yield a page for each way to look, logged in."""
    for width, pixels in WIDTHS.items():
        for scheme in ("light", "dark"):
            context = browser.new_context(
                base_url=url,
                color_scheme=scheme,  # type: ignore[arg-type]
                viewport={"width": pixels, "height": 800},
            )
            context.add_init_script(
                "localStorage.setItem('django.admin.navSidebarIsOpen', 'false')"
            )
            page = context.new_page()
            page.goto("/login/?next=/")
            page.fill("[name=username]", user)
            page.fill("[name=password]", password)
            page.click("button")
            page.wait_for_url("**/")
            yield f"{width}-{scheme}", page


def prepare(page: Page) -> None:
    """Press what makes something to look at."""
    page.goto(f"{ADMIN}/schedule/")
    if not page.locator(FIRST).count():
        page.goto(f"{ADMIN}/schedule/add/")
        page.fill("#id_name", "nightly ranking")
        page.fill("#id_method", "project.library.tasks.rank_names")
        page.fill("#id_cron", "30 3 * * mon-fri")
        page.click("input[name=_save]")
        page.click("#result_list th a")
        page.click("button:has-text('Run now')")
        page.wait_for_load_state()
    for button in ("Rank the names", "Rank the names", "Index the library"):
        page.goto("/")
        page.click(f"button:has-text('{button}')")
    page.get_by_text("Failed").first.wait_for(timeout=300_000)


def while_suspended(looks: list[tuple[str, Page]]) -> None:
    """Show the banner, and let go on."""
    page = looks[0][1]
    page.goto(f"{ADMIN}/")
    page.click("summary:has-text('Suspend')")
    page.fill(".tc-ask[open] input[name=reason]", "moving the index to another disk")
    page.click(".tc-ask[open] button")
    take("suspended", listed("tasktype"), looks)
    page.goto(f"{ADMIN}/")
    page.click("button:has-text('Resume')")
    page.wait_for_load_state()


def take(name: str, show: Open, looks: list[tuple[str, Page]]) -> None:
    """Take one screen in every way to look."""
    for look, page in looks:
        show(page)
        page.wait_for_load_state()
        width = look.partition("-")[0]
        height = page.evaluate("document.documentElement.scrollHeight")
        clip = {
            "x": 0,
            "y": 0,
            "width": WIDTHS[width],
            "height": min(height, TALLEST[width]),
        }
        picture = page.screenshot(full_page=True, clip=clip)  # type: ignore[arg-type]
        marks = [mark for mark in look.split("-") if mark not in {"wide", "light"}]
        file = FOLDER / ("-".join([name, *marks]) + ".png")
        file.write_bytes(small(picture))
        sys.stdout.write(f"{file.name}: {file.stat().st_size // 1024} KB\n")


def small(picture: bytes) -> bytes:
    """Return a picture with fewer colors; as it is without Pillow."""
    try:
        from PIL import Image
    except ImportError:
        return picture
    made = io.BytesIO()
    Image.open(io.BytesIO(picture)).convert("RGB").quantize(96).save(
        made, "PNG", optimize=True
    )
    return made.getvalue()


if __name__ == "__main__":
    main()
