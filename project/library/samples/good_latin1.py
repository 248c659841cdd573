# -*- coding: latin-1 -*-
"""Declares its encoding (PEP 263) and uses it."""

CITIES = ["Köln", "Málaga", "Besançon"]
