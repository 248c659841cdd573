"""The addresses of the site."""

from __future__ import annotations

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.urls import include, path


def no_icon(request: HttpRequest) -> HttpResponse:
    """Answer what every browser asks for, so that it is no error."""
    return HttpResponse(status=204)


urlpatterns = [
    path("favicon.ico", no_icon),
    path("", include("project.library.urls")),
    path("admin/", admin.site.urls),
    path("taskcontrol/", include("taskcontrol.urls")),
]
