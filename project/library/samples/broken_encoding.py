# -*- coding: utf-nine -*-
"""Declares an encoding that does not exist."""

CITY = "Paris"
