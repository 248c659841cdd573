"""The addresses of the site."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("", include("project.library.urls")),
    path("admin/", admin.site.urls),
    path("taskcontrol/", include("taskcontrol.urls")),
]
