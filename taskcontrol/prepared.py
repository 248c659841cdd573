"""Queries and moves that are compiled by the ORM once and then run as plain SQL.

Compiling costs several times what the database needs for the hot statements: a claim, an
end, a dispatch pass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from django.core.exceptions import EmptyResultSet
from django.db import connections, models

from .brief import returned_bound
from .dialect import returning_clause, update_sql, update_then_select


class Param(models.Expression):
    """A place for a value of ``field``, filled in each time the statement runs."""

    def __init__(self, name: str, field: models.Field[Any, Any]) -> None:
        super().__init__(output_field=field)
        self.name, self.column = name, field

    def as_sql(self, compiler: Any, connection: Any) -> Any:
        """Leave the place open."""
        return "%s", [self]

    def fill(self, given: dict[str, Any], connection: Any) -> Any:
        """Return the value for this run as the database takes it."""
        return self.column.get_db_prep_save(given[self.name], connection)


def padded(ids: Sequence[int]) -> tuple[int, dict[str, Any]]:
    """Pad keys to a power of two, so that few statements serve every number of rows.

    Returns how many they are then, and the keys as ``id0``, ``id1`` and so on.
    """
    size = 1 << (len(ids) - 1).bit_length()
    filled = [*ids, *[ids[-1]] * (size - len(ids))]
    return size, {f"id{n}": key for n, key in enumerate(filled)}


class PreparedQuery:
    """A ``values_list`` query that is the same every time; rows come as the driver gives them."""

    def __init__(self, build: Callable[[], Any]) -> None:
        self._build = build
        self._compiled: dict[Any, tuple[str, Any]] = {}

    def rows(self, using: str, *depends_on: Any) -> list[tuple[Any, ...]]:
        """Run it; what it was built from besides the columns is named in ``depends_on``."""
        with connections[using].cursor() as cursor:
            cursor.execute(*self.sql(using, *depends_on))
            return list(cursor.fetchall())

    def sql(self, using: str, *depends_on: Any) -> tuple[str, Any]:
        """Return the statement with its parameters."""
        key = (connections[using].vendor, *depends_on)
        if key not in self._compiled:
            query = self._build().using(using).query
            self._compiled[key] = query.get_compiler(using).as_sql()
        return self._compiled[key]


class _Parametric:
    """A statement over the columns of a model, with places for values."""

    def __init__(self, model: type[models.Model], build: Callable[..., Any]) -> None:
        self.model, self._build = model, build
        self._compiled: dict[Any, tuple[str, Sequence[Any]]] = {}

    def _param(self, name: str, column: str) -> Param:
        return Param(name, self._field(column))

    def _field(self, column: str) -> models.Field[Any, Any]:
        field = self.model._meta.get_field(column)
        if not isinstance(field, models.Field):
            raise TypeError(f"{column} is no column")
        return field


def _filled(params: Sequence[Any], given: dict[str, Any], connection: Any) -> list[Any]:
    return [
        one.fill(given, connection) if isinstance(one, Param) else one for one in params
    ]


class PreparedSearch(_Parametric):
    """A ``values_list`` query with values that are given each time.

    ``build(p)`` returns it; ``p`` as of a PreparedMove.
    """

    def rows(
        self, using: str, given: dict[str, Any], *depends_on: Any
    ) -> list[tuple[Any, ...]]:
        """Run it; ``depends_on`` as of a PreparedQuery."""
        connection = connections[using]
        key = (connection.vendor, *depends_on)
        if key not in self._compiled:
            query = self._build(self._param).using(using).query
            self._compiled[key] = query.get_compiler(using).as_sql()
        sql, params = self._compiled[key]
        with connection.cursor() as cursor:
            cursor.execute(sql, _filled(params, given, connection))
            return list(cursor.fetchall())


class PreparedUpdate(_Parametric):
    """A conditional UPDATE of any rows; ``build`` as of a PreparedMove."""

    def run(self, using: str, given: dict[str, Any]) -> int:
        """Run it with the values ``given``; return how many rows it matched."""
        connection = connections[using]
        if connection.vendor not in self._compiled:
            rows, values = self._build(self._param)
            self._compiled[connection.vendor] = update_sql(rows.using(using), values)
        sql, params = self._compiled[connection.vendor]
        with connection.cursor() as cursor:
            cursor.execute(sql, _filled(params, given, connection))
            return int(cursor.rowcount)


class PreparedMove(_Parametric):
    """A conditional UPDATE of tasks that returns what it changed.

    ``build(p)`` returns the rows and the values; ``p("name", "column")`` stands for a value
    that is given at each run and is stored like that column.
    """

    def __init__(
        self,
        model: type[models.Model],
        columns: Sequence[str],
        build: Callable[[Callable[[str, str], Any]], tuple[Any, dict[str, Any]]],
    ) -> None:
        super().__init__(model, build)
        self.columns = columns

    def run(self, using: str, given: dict[str, Any]) -> list[Any]:
        """Run it with the values ``given``; return the changed rows, ``columns`` loaded."""
        connection = connections[using]
        if connection.vendor == "mysql":
            rows, values = self._build(
                lambda name, column: models.Value(given.get(name), self._field(column))
            )
            return update_then_select(rows, values, self.columns)
        try:
            sql, params = self._sql(using, connection)
        except EmptyResultSet:
            return []
        return list(
            self.model._default_manager.using(using).raw(
                sql, _filled(params, given, connection)
            )
        )

    def tuples(self, using: str, given: dict[str, Any]) -> list[tuple[Any, ...]]:
        """Run it; return what it changed as the driver gives it, in the order of ``names``.

        On MariaDB, which returns nothing from an UPDATE, the values are those of the model.
        """
        connection = connections[using]
        if connection.vendor == "mysql":
            names = self.names()
            return [
                tuple(row.__dict__[name] for name in names)
                for row in self.run(using, given)
            ]
        sql, params = self._sql(using, connection)
        with connection.cursor() as cursor:
            cursor.execute(sql, _filled(params, given, connection))
            return list(cursor.fetchall())

    def names(self) -> tuple[str, ...]:
        """Return the attributes that ``tuples`` gives, the key first."""
        meta: Any = self.model._meta
        found = (meta.get_field(name).attname for name in self.columns)
        return tuple(dict.fromkeys([meta.pk.attname, *found]))

    def _sql(self, using: str, connection: Any) -> tuple[str, Sequence[Any]]:
        bound = returned_bound(using)
        key = (connection.vendor, bound)
        if key not in self._compiled:
            rows, values = self._build(self._param)
            sql, params = update_sql(rows.using(using), values)
            returning = returning_clause(self.model, self.columns, connection)
            self._compiled[key] = (f"{sql} {returning}{bound}", params)
        return self._compiled[key]


class Thaw:
    """Makes model instances of what ``PreparedMove.tuples`` gave, in whatever process."""

    def __init__(self, model: type[models.Model], names: Sequence[str], using: str) -> None:
        connection = connections[using]
        fields = [model._meta.get_field(name) for name in names]
        compiler: Any = models.sql.Query(model).get_compiler(connection=connection)
        table = model._meta.db_table
        columns = [field.get_col(table) for field in fields]  # type: ignore[union-attr]
        by_driver = {} if connection.vendor == "mysql" else compiler.get_converters(columns)
        self._converters = [
            (at, converters, expression)
            for at, (converters, expression) in by_driver.items()
        ]
        # Django takes them in the order of the model's fields, whatever it is told.
        fields_in_order = [field.attname for field in model._meta.concrete_fields]
        self._order = [names.index(one) for one in fields_in_order if one in names]
        self._names = [names[at] for at in self._order]
        self._model, self._using = model, using

    def __call__(self, values: Sequence[Any]) -> Any:
        """Return one instance; columns that were not given are read when asked for."""
        given, connection = list(values), connections[self._using]
        for at, converters, expression in self._converters:
            for convert in converters:
                given[at] = convert(given[at], expression, connection)
        ordered = [given[at] for at in self._order]
        return self._model.from_db(self._using, self._names, ordered)
