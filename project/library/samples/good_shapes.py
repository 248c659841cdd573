"""Two classes, three functions, two imports."""

import math
from dataclasses import dataclass


@dataclass
class Circle:
    radius: float

    def area(self):
        return math.pi * self.radius**2


@dataclass
class Square:
    side: float

    def area(self):
        return self.side**2


def total_area(shapes):
    return sum(shape.area() for shape in shapes)
