"""The addresses of the site, and the pages that run the JavaScript of the documents."""

from __future__ import annotations

from django.urls import include, path

from project.urls import urlpatterns as of_the_site

urlpatterns = [path("seeds/", include("tests.live.seedpages")), *of_the_site]
