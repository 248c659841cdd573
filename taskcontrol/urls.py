"""The addresses outside admin."""

from __future__ import annotations

from django.urls import path

from . import views

app_name = "taskcontrol"
urlpatterns = [
    path("api/toggle_dispatcher", views.toggle, name="toggle_dispatcher"),
]
