"""Draws curves as SVG, in colors that are read on light and on dark pages."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape

Points = Sequence[tuple[float, float]]

WIDTH, HEIGHT = 720, 320
LEFT, RIGHT, TOP, BOTTOM = 62, 190, 40, 46
COLORS = ("#2b6cb0", "#c05621", "#2f855a", "#b83280", "#6b46c1", "#975a16", "#4a5568")
STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#2d3748}.t{font-weight:600}"
    ".g{stroke:#a0aec0;stroke-opacity:.4}polyline{fill:none;stroke-width:2}"
    "@media(prefers-color-scheme:dark){text{fill:#e2e8f0}}"
)


def chart(
    title: str, x_name: str, y_name: str, series: Mapping[str, Points], *, log: bool = False
) -> str:
    """Return an SVG of the series; ``log``: x grows by factors."""
    frame = _Frame(series, log=log)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
        f"<title>{escape(title)}</title><style>{STYLE}</style>",
        f'<text class="t" x="{LEFT}" y="18">{escape(title)}</text>',
        f'<text x="{LEFT}" y="{TOP - 8}">{escape(y_name)}</text>',
        f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 8}" text-anchor="end">{escape(x_name)}</text>',
        *frame.grid(),
        *(
            line
            for number, (name, points) in enumerate(series.items())
            for line in frame.curve(number, name, points)
        ),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


class _Frame:
    """Where a point of the series lies in the picture."""

    def __init__(self, series: Mapping[str, Points], *, log: bool) -> None:
        self.log = log
        xs = [x for points in series.values() for x, _ in points] or [0.0]
        ys = [y for points in series.values() for _, y in points] or [0.0]
        self.x_from, self.x_to = self._scale(min(xs)), self._scale(max(xs))
        self.y_step = _step(max(ys) or 1.0)
        self.y_to = self.y_step * max(1, math.ceil(max(ys) / self.y_step))
        self.xs = sorted(set(xs))

    def _scale(self, x: float) -> float:
        return math.log10(max(x, 1)) if self.log else x

    def x(self, value: float) -> float:
        """Return the place of a value along the picture."""
        part = (self._scale(value) - self.x_from) / ((self.x_to - self.x_from) or 1)
        return round(LEFT + part * (WIDTH - LEFT - RIGHT), 1)

    def y(self, value: float) -> float:
        """Return the place of a value up the picture."""
        return round(HEIGHT - BOTTOM - value / self.y_to * (HEIGHT - TOP - BOTTOM), 1)

    def grid(self) -> Iterator[str]:
        """Draw the lines behind the curves, with their numbers."""
        for number in range(round(self.y_to / self.y_step) + 1):
            value = number * self.y_step
            y = self.y(value)
            yield f'<line class="g" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>'
            yield f'<text x="{LEFT - 8}" y="{y + 4}" text-anchor="end">{value:g}</text>'
        ticks = self.xs if len(self.xs) <= 6 else [self.xs[0], self.xs[-1]]
        for value in ticks:
            x = self.x(value)
            yield f'<text x="{x}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{value:,.0f}</text>'

    def curve(self, number: int, name: str, points: Points) -> Iterator[str]:
        """Draw one series and its line in the legend."""
        color = COLORS[number % len(COLORS)]
        path = " ".join(f"{self.x(x)},{self.y(y)}" for x, y in points)
        yield f'<polyline stroke="{color}" points="{path}"/>'
        y = TOP + 18 * number
        x = WIDTH - RIGHT + 14
        yield f'<rect x="{x}" y="{y}" width="12" height="12" fill="{color}"/>'
        yield f'<text x="{x + 18}" y="{y + 10}">{escape(name)}</text>'


def _step(most: float) -> float:
    """Return a round number of which three to eight reach ``most``."""
    power = float(10 ** math.floor(math.log10(most)))
    for part in (0.2, 0.5, 1.0):
        if most / (power * part) <= 8:
            return power * part
    return power * 2
