"""Stores rows of a model by INSERT or COPY, without what the ORM does for each row.

Django names and sends every column of every row; for a wide table that is most of what the
statement costs, in the caller and in the database.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

from django.db import connections, models, transaction
from django.db.models.expressions import DatabaseDefault
from django.db.models.signals import post_save, pre_save

from .dialect import frequent_cursor


class PreparedInsert:
    """An INSERT that sends only what is unusual, and reads what the database computed."""

    def __init__(self, model: type[models.Model]) -> None:
        self.model = model
        meta: Any = model._meta
        #: What the database computes: the key and what has a default there alone.
        self._computed = [
            one
            for one in meta.concrete_fields
            if one.primary_key or (one.has_db_default() and not one.has_default())
        ]
        self._given = [one for one in meta.concrete_fields if one not in self._computed]
        #: What stands in the statement itself where the row has this value.
        self._literals = {
            one.attname: literal
            for one in self._given
            if (literal := _literal(one.get_default())) is not None
        }
        self._usual = [
            (one, one.attname, one.get_default() if one.attname in self._literals else None)
            for one in self._given
        ]
        self._settable = [one for one in meta.concrete_fields if not one.primary_key]
        self._compiled: dict[Any, str] = {}

    def run(self, using: str, row: models.Model) -> None:
        """Store an unsaved ``row``, which is then as it is stored."""
        connection = connections[using]
        stands = row.__dict__
        sent = {
            field: value
            for field, name, usual in self._usual
            if (value := stands[name]) is not None and value != usual
        }
        if self._needs_the_orm(row, sent, connection):
            self._save(using, row, sent)
            return
        sql = self._statement(sent, connection)
        values = [field.get_db_prep_save(sent[field], connection) for field in sent]
        with (
            transaction.mark_for_rollback_on_error(using),
            frequent_cursor(using) as cursor,
        ):
            cursor.execute(sql, values)
            (computed,) = cursor.fetchall()
        for field, value in zip(self._computed, computed, strict=True):
            setattr(row, field.attname, _as_python(field, value, connection))
        state = row._state  # noqa: SLF001 - as Django leaves what it has stored
        state.adding, state.db = False, using

    def run_many(self, using: str, rows: Sequence[models.Model]) -> None:
        """Store unsaved ``rows``, which do not learn their keys; no receiver is told.

        A column that the database can compute is given in all rows or in none.
        PostgreSQL takes them by COPY, which neither parses nor plans them.
        """
        connection: Any = connections[using]
        stands = [row.__dict__ for row in rows]
        fields = [one for one in self._settable if self._differs(one, stands)]
        if connection.vendor == "mysql":
            # Its drivers join rows to one statement only where every value is sent.
            fields += self._left_out(fields)
        values = self._values(fields, stands, connection)
        with (
            transaction.atomic(using=using, savepoint=False),
            connection.cursor() as cursor,
        ):
            if hasattr(cursor, "copy"):
                self._copy(cursor, fields, values, connection)
            elif rows:
                sql = self._insert(fields, connection.ops.quote_name)
                cursor.executemany(sql, list(values))

    def _differs(self, field: Any, stands: Sequence[dict[str, Any]]) -> bool:
        """Return whether a column has to be sent for some of the rows."""
        name = field.attname
        usual = field.get_default() if name in self._literals else None
        return any(
            (value := row[name]) is not usual
            and value is not None
            and value != usual
            and not isinstance(value, DatabaseDefault)
            for row in stands
        )

    def _values(
        self, fields: Sequence[Any], stands: Sequence[dict[str, Any]], connection: Any
    ) -> Iterator[list[Any]]:
        """Return the values of each row as the driver takes them."""
        columns = [(one.attname, *_writing(one, connection)) for one in fields]
        for row in stands:
            yield [
                value
                if (value := row[name]) is None or type(value) in plain
                else write(value)
                for name, plain, write in columns
            ]

    def _copy(
        self,
        cursor: Any,
        fields: Sequence[Any],
        values: Iterable[list[Any]],
        connection: Any,
    ) -> None:
        quote = connection.ops.quote_name
        left = self._left_out(fields)
        same = [self._literals[one.attname].strip("'") for one in left]
        columns = ", ".join(quote(one.column) for one in (*fields, *left))
        sql = f"COPY {quote(self.model._meta.db_table)} ({columns}) FROM STDIN"
        with connection.wrap_database_errors, cursor.copy(sql) as copy:
            for one in values:
                copy.write_row(one + same)

    def _needs_the_orm(
        self, row: models.Model, sent: dict[Any, Any], connection: Any
    ) -> bool:
        """Return whether there are expressions, receivers, or a database that tells less."""
        return (
            any(hasattr(value, "as_sql") for value in sent.values())
            or not all(_is_open(getattr(row, one.attname)) for one in self._computed)
            or pre_save.has_listeners(self.model)
            or post_save.has_listeners(self.model)
            or not connection.features.can_return_columns_from_insert
        )

    def _save(self, using: str, row: models.Model, sent: dict[Any, Any]) -> None:
        expressions = [
            one.attname for one, value in sent.items() if hasattr(value, "as_sql")
        ]
        with transaction.atomic(using=using, savepoint=False):
            row.save(force_insert=True, using=using)
            if expressions:
                row.refresh_from_db(using=using, fields=expressions)

    def _statement(self, sent: dict[Any, Any], connection: Any) -> str:
        key = (connection.vendor, *(field.attname for field in sent))
        if key not in self._compiled:
            self._compiled[key] = self._compile(list(sent), connection.ops.quote_name)
        return self._compiled[key]

    def _compile(self, sent: Sequence[Any], quote: Callable[[str], str]) -> str:
        returned = ", ".join(quote(one.column) for one in self._computed)
        return f"{self._insert(sent, quote)} RETURNING {returned}"

    def _insert(self, sent: Sequence[Any], quote: Callable[[str], str]) -> str:
        left = self._left_out(sent)
        literals = [self._literals[one.attname] for one in left]
        columns = ", ".join(quote(one.column) for one in (*sent, *left))
        places = ", ".join([*["%s"] * len(sent), *literals])
        into = f"{quote(self.model._meta.db_table)} ({columns})"
        return f"INSERT INTO {into} VALUES ({places})"  # noqa: S608 - names of the model

    def _left_out(self, sent: Sequence[Any]) -> list[Any]:
        """Return the columns that have a value other than NULL without being sent."""
        return [
            one for one in self._given if one.attname in self._literals and one not in sent
        ]


#: What drivers take as it is, other than in a column of JSON.
_PLAIN = frozenset({bool, int, float, str})


def _writing(field: Any, connection: Any) -> tuple[frozenset[type], Callable[[Any], Any]]:
    """Return the types that a driver takes as they are for a column, and what writes others."""
    if isinstance(field, models.JSONField) and field.encoder is None:
        return frozenset(), json.dumps
    return _PLAIN, partial(field.get_db_prep_save, connection=connection)


def _literal(default: Any) -> str | None:
    """Return a column's default as every database reads it; None if it has to be sent."""
    if isinstance(default, bool | int):
        return str(default).upper()
    if isinstance(default, str) and (not default or default.isalnum()):
        return f"'{default}'"
    return "'{}'" if default == {} else None


def _as_python(field: Any, value: Any, connection: Any) -> Any:
    column = field.cached_col
    for convert in (
        *connection.ops.get_db_converters(column),
        *column.get_db_converters(connection),
    ):
        value = convert(value, column, connection)
    return value


def _is_open(value: Any) -> bool:
    """Return whether the database is to compute it."""
    return value is None or isinstance(value, DatabaseDefault)
