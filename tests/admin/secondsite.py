"""The addresses of a project that shows the same screens on a second site of admin."""

from __future__ import annotations

from django.contrib.admin import AdminSite, site as first
from django.urls import path

from tests.urls import urlpatterns as of_the_site

second = AdminSite("second")
for model, screen in first._registry.items():
    second.register(model, type(screen))

urlpatterns = [path("second/", second.urls), *of_the_site]
