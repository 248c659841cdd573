"""The addresses of the library."""

from __future__ import annotations

from django.contrib.auth.views import LoginView, LogoutView
from django.urls import path

from . import views

app_name = "library"
urlpatterns = [
    path("login/", LoginView.as_view(template_name="library/login.html"), name="login"),
    path("logout/", LogoutView.as_view(), name="logout"),
    path("", views.home, name="home"),
    path("index/", views.index_now, {"back": "library:home"}, name="index"),
    path("rank/", views.rank_now, name="rank"),
]
