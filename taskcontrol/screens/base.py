"""What every screen of taskcontrol in admin shares: the looks, cheap counts, the buttons."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.contrib.admin.utils import quote, unquote
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import redirect
from django.urls import URLPattern, path, reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.module_loading import import_string
from django.utils.text import capfirst
from django.utils.translation import gettext as _

from ..brief import brief
from ..conf import conf
from .addresses import staying_on
from .presentation import visible
from .pressing import outcome_of
from .searching import too_much
from .tasklists import CappedPaginator

Press = Callable[[HttpRequest, Any], str | None]


def screen_base() -> Any:
    """Return the class that the setting names; it holds until the process ends."""
    return import_string(conf.ADMIN_BASE)


if TYPE_CHECKING:
    ScreenBase = admin.ModelAdmin
else:
    ScreenBase = screen_base()


class Screen(ScreenBase):
    """A screen that extends stock templates and never counts a big table to its end."""

    paginator = CappedPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    list_per_page = 50
    list_max_show_all = 50

    class Media:
        css = {"all": ("taskcontrol/admin.css",)}

    def lookup_allowed(
        self, lookup: str, value: Any, request: HttpRequest | None = None
    ) -> bool:
        """Allow what the filters ask for.

        Anything more would let a person ask, letter by letter, for what is masked:
        ``?callbacks__key__startswith=a``.
        """
        name = lookup.removesuffix("__exact").removesuffix("__isnull")
        known = {getattr(one, "parameter_name", one) for one in self.list_filter}
        return name in known and "\0" not in str(value)

    def get_search_results(
        self, request: HttpRequest, queryset: Any, search_term: str
    ) -> tuple[Any, bool]:
        """Return what the words find; a search that no database takes finds nothing."""
        refused = too_much(search_term)
        if refused:
            self.message_user(request, refused, messages.WARNING)
            return queryset.none(), False
        return super().get_search_results(request, queryset, search_term)

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show the list under its plain name."""
        title = {"title": capfirst(self.opts.verbose_name_plural)}
        return super().changelist_view(request, {**title, **(extra_context or {})})

    def changeform_view(self, request: HttpRequest, *given: Any, **options: Any) -> Any:
        """Show or save the page of one row; who is lost over that keeps no lock for long."""
        with brief() if request.method == "POST" else nullcontext():
            return super().changeform_view(request, *given, **options)

    def render_change_form(
        self,
        request: HttpRequest,
        context: dict[str, Any],
        add: bool = False,  # noqa: FBT001, FBT002
        change: bool = False,  # noqa: FBT001, FBT002
        form_url: str = "",
        obj: Any = None,
    ) -> HttpResponse:
        """Show the page of one row with what ``page_of`` says of it."""
        if obj is not None:
            context |= self.page_of(obj, request)
        return super().render_change_form(request, context, add, change, form_url, obj)

    def page_of(self, row: Any, request: HttpRequest) -> dict[str, Any]:
        """Return what the page of ``row`` shows beside its columns."""
        return {"title": visible(row), "subtitle": None}

    def button(self, verb: str, press: Press) -> URLPattern:
        """Return the address of a button: POST to ``<key>/<verb>/`` does ``press``.

        ``press`` does and records the act, and returns what the person reads of it.
        """

        def pressed(request: HttpRequest, object_id: str) -> HttpResponse:
            if request.method != "POST":
                return HttpResponseNotAllowed(["POST"])
            row = self.get_object(request, unquote(object_id))
            if row is None:
                raise Http404
            self._press(request, row, press)
            return redirect(self._next(request) or self.url_of("change", quote(row.pk)))

        name = f"{self.opts.app_label}_{self.opts.model_name}_{verb}"
        view = self.admin_site.admin_view(pressed)
        return path(f"<path:object_id>/{verb}/", view, name=name)

    def _press(self, request: HttpRequest, row: Any, press: Press) -> None:
        told, level = outcome_of(lambda: press(request, row))
        self.message_user(request, visible(told or _("Nothing was to be done.")), level)

    @staticmethod
    def _next(request: HttpRequest) -> str | None:
        """Return the page of this site that the form wants to come back to."""
        url = request.POST.get("next", "")
        # Anything but a path might be taken for the name of a view.
        safe = url.startswith("/") and url_has_allowed_host_and_scheme(
            url, {request.get_host()}, request.is_secure()
        )
        return url if safe else None

    def url_of(self, page: str, *args: Any) -> str:
        """Return the address of one of this screen's pages: changelist, change, a button."""
        name = f"{self.admin_site.name}:{self.opts.app_label}_{self.opts.model_name}_{page}"
        return reverse(name, args=args)

    @property
    def urls(self) -> list[URLPattern]:
        """Return the addresses; what they lead to is on the same site, if there are several."""
        return staying_on(self.admin_site.name, self.get_urls())


class ReadOnlyScreen(Screen):
    """A screen to look at: what it shows is written by the rooms alone."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Nobody adds a row by hand."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody changes a row by hand."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody deletes a row by hand."""
        return False
