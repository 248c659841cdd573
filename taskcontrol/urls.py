"""The addresses outside admin."""

from __future__ import annotations

from django.urls import path

from . import mine, views
from .live.addresses import addresses

app_name = "taskcontrol"
urlpatterns = [
    *addresses(),
    path("api/toggle_dispatcher", views.toggle, name="toggle_dispatcher"),
    path("mine/", mine.my_tasks, name="my_tasks"),
    path("mine/<int:task_id>/", mine.my_task, name="my_task"),
    path("mine/<int:task_id>/<slug:verb>/", mine.act_on_mine, name="my_task_act"),
]
