"""The addresses outside admin."""

from __future__ import annotations

from django.urls import path

from . import views
from .live.addresses import addresses

app_name = "taskcontrol"
urlpatterns = [
    *addresses(),
    path("api/toggle_dispatcher", views.toggle, name="toggle_dispatcher"),
]
