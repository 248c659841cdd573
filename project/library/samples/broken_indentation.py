"""A line is indented for no reason."""


def area(radius):
    pi = 3.14
        return pi * radius**2
