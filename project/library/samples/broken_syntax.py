"""A parenthesis is never closed."""


def area(radius:
    return 3.14 * radius**2
