"""The addresses of the library."""

from __future__ import annotations

from django.urls import path

from . import views

app_name = "library"
urlpatterns = [
    path("", views.home, name="home"),
    path("index/", views.index_now, {"back": "library:home"}, name="index"),
    path("rank/", views.rank_now, name="rank"),
]
