"""Charts of what ended lately, as bars that the server draws: each leads to its tasks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _, gettext_lazy

from ..figures import Figures, Span, series, total
from ..status import Status
from ..wording import duration
from .endings import ended_url

#: Units of the drawing: one bar with the gaps beside it, and the height of all.
STEP, HEIGHT = 10, 100
#: The least height of what is there at all.
LEAST = 2.0


@dataclass(frozen=True)
class Period:
    """How far the charts reach back, and in what steps."""

    key: str
    label: Any
    #: Bars, and the minutes of each.
    count: int
    minutes: int
    each: Any
    #: How a time is told below them.
    clock: str = "H:i"

    @property
    def hours(self) -> float:
        """The hours of all of them."""
        return self.count * self.minutes / 60


PERIODS = {
    period.key: period
    for period in (
        Period("1h", gettext_lazy("1 hour"), 60, 1, gettext_lazy("each minute")),
        Period("24h", gettext_lazy("24 hours"), 48, 30, gettext_lazy("each half hour")),
        Period(
            "7d", gettext_lazy("7 days"), 56, 180, gettext_lazy("each 3 hours"), "D H:i"
        ),
    )
}
USUAL = "1h"


@dataclass(frozen=True)
class Piece:
    """A part of a bar."""

    kind: str
    y: float
    height: float


@dataclass(frozen=True)
class Bar:
    """What one span of time shows in one chart."""

    x: int
    url: str
    title: str
    pieces: list[Piece]


@dataclass(frozen=True)
class Chart:
    """One drawing, and what it says in words."""

    name: str
    title: str
    said: str
    #: What the highest bar stands for.
    top: str
    #: The colors, each with what it means.
    legend: list[tuple[str, str]]
    bars: list[Bar]


@dataclass(frozen=True)
class Line:
    """One span of time, in words."""

    label: str
    url: str
    title: str
    figures: Figures
    wait: tuple[str, str]
    run: tuple[str, str]


@dataclass(frozen=True)
class Charts:
    """All charts of one period."""

    period: Period
    spans: list[Span]
    whole: Figures
    drawn: list[Chart] = field(default_factory=list)
    #: Times below each chart: where it begins, its middle.
    ticks: list[str] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    width: int = 0


def charts_of(period: Period) -> Charts:
    """Return the charts of the last hours, read from the rollup in one query."""
    spans = series(period.count, period.minutes)
    whole = total(spans)
    middle = spans[len(spans) // 2]
    lines = [_line(period, span) for span in spans]
    return Charts(
        period=period,
        spans=spans,
        whole=whole,
        drawn=[
            _throughput(period, lines, whole),
            _failures(period, lines, whole),
            _times("wait", _("Wait"), period, lines, whole),
            _times("run", _("Run"), period, lines, whole),
        ],
        ticks=[_clock(period, spans[0].begin), _clock(period, middle.begin), _("now")],
        lines=[line for line in reversed(lines) if line.figures.ended],
        width=period.count * STEP,
    )


def _throughput(period: Period, lines: Sequence[Line], whole: Figures) -> Chart:
    kinds = ("finished", "failed", "canceled")

    def pieces(figures: Figures) -> list[tuple[str, float]]:
        return [(kind, getattr(figures, kind)) for kind in kinds]

    most = max(line.figures.ended for line in lines)
    told = _(
        "%(ended)s ended: %(finished)s finished, %(failed)s failed, %(canceled)s canceled."
    )
    return Chart(
        name="throughput",
        title=_("Ended tasks, %(each)s") % {"each": period.each},
        said=told % _counts(whole),
        top=f"{most:,}",
        legend=[(kind, str(Status(kind.capitalize()).label)) for kind in kinds],
        bars=_bars(lines, pieces, most),
    )


def _failures(period: Period, lines: Sequence[Line], whole: Figures) -> Chart:
    most = max(line.figures.failed for line in lines)
    told = _("%(failed)s failed for good, %(percent)s of those that were not canceled.")
    return Chart(
        name="failures",
        title=_("Failures, %(each)s") % {"each": period.each},
        said=told % {**_counts(whole), "percent": percent(whole)},
        top=f"{most:,}",
        legend=[("failed", str(Status.FAILED.label))],
        bars=_bars(
            lines,
            lambda figures: [("failed", figures.failed)],
            most,
            status=Status.FAILED.value,
        ),
    )


def _times(
    name: str, word: str, period: Period, lines: Sequence[Line], whole: Figures
) -> Chart:
    def pieces(figures: Figures) -> list[tuple[str, float]]:
        half, most = (getattr(figures, name)(n) or 0.0 for n in (50, 95))
        return [(f"{name}-p50", half), (f"{name}-p95", most - half)]

    most = max(getattr(line.figures, name)(95) or 0.0 for line in lines)
    half, nearly_all = times_of(whole, name)
    told = {
        "wait": _("Half began within %(half)s, 95 %% within %(most)s."),
        "run": _("Half ran up to %(half)s, 95 %% up to %(most)s."),
    }[name]
    return Chart(
        name=name,
        title=_("%(what)s, %(each)s") % {"what": word, "each": period.each},
        said=told % {"half": half, "most": nearly_all} if most else _("Nothing ran."),
        top=duration(most),
        legend=[(f"{name}-p50", "p50"), (f"{name}-p95", "p95")],
        bars=_bars(lines, pieces, most),
    )


def _bars(
    lines: Sequence[Line],
    pieces: Callable[[Figures], list[tuple[str, float]]],
    most: float,
    status: str = "",
) -> list[Bar]:
    bars = []
    narrowed = f"&status__exact={status}" if status else ""
    for number, line in enumerate(lines):
        parts = [(kind, value) for kind, value in pieces(line.figures) if value > 0]
        if parts:
            stacked = _stacked(parts, most)
            bars.append(Bar(number * STEP, line.url + narrowed, line.title, stacked))
    return bars


def _stacked(parts: Sequence[tuple[str, float]], most: float) -> list[Piece]:
    """Return the parts upon each other, the first at the bottom."""
    stacked, y = [], float(HEIGHT)
    for kind, value in parts:
        height = min(max(value / most * HEIGHT, LEAST), y)
        y -= height
        stacked.append(Piece(kind, round(y, 2), round(height, 2)))
    return stacked


def _line(period: Period, span: Span) -> Line:
    figures = span.figures
    label = f"{_clock(period, span.begin)} - {_clock(period, span.end)}"
    wait, run = times_of(figures, "wait"), times_of(figures, "run")
    told = _(
        "%(when)s: %(finished)s finished, %(failed)s failed, %(canceled)s canceled; "
        "waited %(wait)s, ran %(run)s (p50 / p95)"
    )
    words = {"when": label, "wait": " / ".join(wait), "run": " / ".join(run)}
    url = ended_url(span.begin, span.end)
    return Line(label, url, told % {**_counts(figures), **words}, figures, wait, run)


def times_of(figures: Figures, name: str) -> tuple[str, str]:
    """Return p50 and p95 of the ``wait`` or the ``run``, as texts."""
    found = (getattr(figures, name)(percentile) for percentile in (50, 95))
    half, most = ("-" if seconds is None else duration(seconds) for seconds in found)
    return half, most


def percent(figures: Figures) -> str:
    """Return the share of failures."""
    share = figures.failed_percent
    return f"{share:.1f} %" if 0 < share < 10 else f"{share:.0f} %"


def _counts(figures: Figures) -> dict[str, str]:
    names = ("ended", "finished", "failed", "canceled")
    return {name: f"{getattr(figures, name):,}" for name in names}


def _clock(period: Period, at: datetime) -> str:
    return date_format(timezone.localtime(at), period.clock)
