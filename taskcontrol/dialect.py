"""What differs between PostgreSQL, SQLite and MariaDB, hidden in one room."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, TypeVar

from django.core.exceptions import EmptyResultSet
from django.db import connections, models, transaction
from django.db.models.sql import UpdateQuery
from django.utils.deconstruct import deconstructible

from .brief import bounds, returned_bound

M = TypeVar("M", bound=models.Model)


@deconstructible(path="taskcontrol.dialect.DatabaseNow")
class DatabaseNow(models.Func):
    """The database's clock in UTC: the only one that two machines may compare."""

    template = "STATEMENT_TIMESTAMP()"
    allowed_default = True

    def __init__(self) -> None:
        super().__init__(output_field=models.DateTimeField())

    def as_sqlite(self, compiler: Any, connection: Any, **extra: Any) -> Any:
        return self.as_sql(
            compiler,
            connection,
            # Six digits, since SQLite compares times as text.
            template="STRFTIME('%%%%Y-%%%%m-%%%%d %%%%H:%%%%M:%%%%f', 'NOW') || '000'",
            **extra,
        )

    def as_mysql(self, compiler: Any, connection: Any, **extra: Any) -> Any:
        return self.as_sql(compiler, connection, template="UTC_TIMESTAMP(6)", **extra)


@deconstructible(path="taskcontrol.dialect.DatabaseMicroseconds")
class DatabaseMicroseconds(models.Func):
    """The database's clock as microseconds since 1970: a row's place in the line."""

    template = "(EXTRACT(EPOCH FROM CLOCK_TIMESTAMP()) * 1000000)::bigint"
    allowed_default = True

    def __init__(self) -> None:
        super().__init__(output_field=models.BigIntegerField())

    def as_sqlite(self, compiler: Any, connection: Any, **extra: Any) -> Any:
        return self.as_sql(
            compiler,
            connection,
            template="CAST((JULIANDAY('NOW') - 2440587.5) * 86400000000 AS INTEGER)",
            **extra,
        )

    def as_mysql(self, compiler: Any, connection: Any, **extra: Any) -> Any:
        return self.as_sql(
            compiler,
            connection,
            # Not UNIX_TIMESTAMP(NOW()): local time is ambiguous when clocks go back.
            template="TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6))",
            **extra,
        )


class SecondsOf(models.Func):
    """A duration in seconds."""

    template = "EXTRACT(EPOCH FROM %(expressions)s)::double precision"

    def __init__(self, duration: Any) -> None:
        super().__init__(duration, output_field=models.FloatField())

    def as_sqlite(self, compiler: Any, connection: Any, **extra: Any) -> Any:
        return self.as_sql(compiler, connection, template=_MICROSECONDS, **extra)

    def as_mysql(self, compiler: Any, connection: Any, **extra: Any) -> Any:
        return self.as_sql(compiler, connection, template=_MICROSECONDS, **extra)


#: What a duration is where the database has no type for it.
_MICROSECONDS = "(%(expressions)s / 1000000.0)"


class SecondsBetween(models.Func):
    """The seconds from one time to a later one, to the millisecond."""

    template = "EXTRACT(EPOCH FROM (%(expressions)s))::double precision"
    arg_joiner = " - "

    def __init__(self, begin: Any, end: Any) -> None:
        super().__init__(end, begin, output_field=models.FloatField())

    def as_sqlite(self, compiler: Any, connection: Any, **extra: Any) -> Any:
        # Django's own difference of times calls Python for each row.
        return self.as_sql(
            compiler,
            connection,
            template="((JULIANDAY(%(expressions)s)) * 86400.0)",
            arg_joiner=") - JULIANDAY(",
            **extra,
        )

    def as_mysql(self, compiler: Any, connection: Any, **extra: Any) -> Any:
        return self.as_sql(
            compiler,
            connection,
            template="(-TIMESTAMPDIFF(MICROSECOND, %(expressions)s) / 1000000.0)",
            arg_joiner=", ",
            **extra,
        )


class ExactCharField(models.CharField):
    """A name that is compared as written: MariaDB takes "A", "a" and "a " for the same."""

    def db_type(self, connection: Any) -> str | None:
        """Return the type of the column."""
        kind = super().db_type(connection)
        exact = "CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin"
        return f"{kind} {exact}" if kind and connection.vendor == "mysql" else kind


class PartialIndex(models.Index):
    """An index with a condition, which becomes a full one where the database lacks those.

    Django leaves a conditional index out on MariaDB, and every query that it serves
    would then read the whole table.
    """

    def create_sql(
        self, model: Any, schema_editor: Any, using: str = "", **kwargs: Any
    ) -> Any:
        if schema_editor.connection.features.supports_partial_indexes:
            return super().create_sql(model, schema_editor, using, **kwargs)
        full = models.Index(fields=self.fields, name=self.name)
        return full.create_sql(model, schema_editor, using, **kwargs)


def now(using: str) -> Any:
    """Return the time by the database's clock."""
    return _evaluate(DatabaseNow(), using)


def microseconds_now(using: str) -> int:
    """Return the database's clock as microseconds since 1970."""
    return int(_evaluate(DatabaseMicroseconds(), using))


def frequent_cursor(using: str) -> Any:
    """Return a cursor for a statement that comes again and again.

    PostgreSQL keeps such a statement parsed where the connection allows it: with
    ``"prepare_threshold"`` in the ``OPTIONS`` of the database. Django leaves it out, since
    behind a pooler the next statement may meet a session that has never heard of it.
    """
    connection: Any = connections[using]
    connection.ensure_connection()
    driver = connection.connection
    if getattr(driver, "prepare_threshold", None) is None:
        return connection.cursor()
    from django.db.backends.postgresql.base import ServerBindingCursor

    usual, driver.cursor_factory = driver.cursor_factory, ServerBindingCursor
    try:
        return connection.cursor()
    finally:
        driver.cursor_factory = usual


def by_index(
    rows: models.QuerySet[M], column: str, value: Any, *then: str
) -> models.QuerySet[M]:
    """Return those of ``rows`` with this value, in the order of an index by column and key.

    ``then``: what stands between the two in that index.

    PostgreSQL would read the table for the first few of many, wherever in it they stand;
    it does not where only that index has the order, which a plain equality would hide.
    """
    same = {column: value}
    if connections[rows.db].vendor == "postgresql":
        same = {f"{column}__gte": value, f"{column}__lte": value}
    return rows.filter(**same).order_by(column, *then, "pk")


def counts(using: str, queries: Sequence[models.QuerySet[Any]]) -> list[int]:
    """Return how many rows each query has, which may be cut: one statement for all."""
    if not queries:
        return []
    parts, given = [], []
    for query in queries:
        sql, params = query.query.get_compiler(using).as_sql()
        parts.append(f"(SELECT COUNT(*) FROM ({sql}) counted)")  # noqa: S608 - made by Django
        given += params
    with connections[using].cursor() as cursor:
        cursor.execute(f"SELECT {', '.join(parts)}", given)
        return list(cursor.fetchone())


def together(
    using: str, statements: Sequence[tuple[str, Any]]
) -> list[list[tuple[Any, ...]]]:
    """Return the rows of several SELECTs, which PostgreSQL is asked for in one statement.

    A round trip costs it, and us, as much as such a read itself. Each column has a name of
    its own, and holds what JSON can tell.
    """
    if connections[using].vendor != "postgresql":
        return [_rows(using, *one) for one in statements]
    parts, given = [], []
    for sql, params in statements:
        parts.append(f"(SELECT JSON_AGG(part) FROM ({sql}) part)::text")  # noqa: S608 - ours
        given += params
    ((*found,),) = _rows(using, f"SELECT {', '.join(parts)}", given)
    return [
        [tuple(row.values()) for row in json.loads(one)] if one else [] for one in found
    ]


def _rows(using: str, sql: str, params: Any) -> list[tuple[Any, ...]]:
    with connections[using].cursor() as cursor:
        cursor.execute(sql, params)
        return list(cursor.fetchall())


def compile_sql(expression: Any, using: str) -> tuple[str, Any]:
    """Return an expression without columns as SQL with its parameters."""
    connection = connections[using]
    compiler = models.sql.Query(None).get_compiler(connection=connection)
    return compiler.compile(expression)  # type: ignore[no-any-return]


def _evaluate(expression: Any, using: str) -> Any:
    connection = connections[using]
    sql, params = compile_sql(expression, using)
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {sql}", params)
        value = cursor.fetchone()[0]
    output = expression.output_field
    for convert in [
        *connection.ops.get_db_converters(expression),
        *output.get_db_converters(connection),
    ]:
        value = convert(value, expression, connection)
    return value


def skip_locked(rows: models.QuerySet[M]) -> models.QuerySet[M]:
    """Lock ``rows``, leaving out those that another transaction holds.

    Waiting for them would let any caller's open transaction stop the dispatcher.
    """
    features = connections[rows.db].features
    if not features.has_select_for_update:
        return rows
    return rows.select_for_update(skip_locked=features.has_select_for_update_skip_locked)


def unless_locked(rows: models.QuerySet[M]) -> models.QuerySet[M]:
    """Narrow an UPDATE of ``rows``, named by their keys, to those that nobody else holds.

    On MariaDB, which cannot read the table that it updates, nothing is narrowed, and they
    are to be locked by ``free_keys`` before.
    """
    if connections[rows.db].vendor != "postgresql":
        return rows
    return rows.filter(pk__in=skip_locked(rows.order_by("pk")).values("pk"))


def locks_in_updates(using: str) -> bool:
    """Return whether ``unless_locked`` does what it says; SQLite has no locks of rows."""
    return connections[using].vendor != "mysql"


def free_keys(rows: models.QuerySet[Any]) -> list[Any]:
    """Lock ``rows`` as ``skip_locked`` does, and return the keys of those that are free."""
    found = skip_locked(rows).values_list("pk", *bounds(rows.db))
    return [row[0] for row in found]


def locked_keys(rows: models.QuerySet[Any]) -> list[Any]:
    """Lock ``rows``, which are named by their keys, and return these in order.

    MariaDB locks what it reads: by an index of another column it would hold entries of it
    while it waits for a row, whose holder has to change one of them.
    """
    connection = connections[rows.db]
    keys = rows.order_by("pk").values_list("pk", flat=True)
    if not connection.features.has_select_for_update:
        return list(keys)
    keys = keys.select_for_update()
    if connection.vendor != "mysql":
        return [row[0] for row in keys.values_list("pk", *bounds(rows.db))]
    try:
        sql, params = keys.query.get_compiler(rows.db).as_sql()
    except EmptyResultSet:
        return []
    table = f"FROM {connection.ops.quote_name(rows.model._meta.db_table)}"
    by_key = sql.replace(table, f"{table} FORCE INDEX (PRIMARY)", 1)
    with connection.cursor() as cursor:
        cursor.execute(by_key, params)
        return [key for (key,) in cursor.fetchall()]


def update_returning(
    rows: models.QuerySet[M], values: dict[str, Any], columns: Sequence[str]
) -> list[M]:
    """Update ``rows`` and return what was changed, with ``columns`` loaded.

    One statement where the database can return from an UPDATE; elsewhere a short
    transaction that locks, updates and reads.
    """
    connection = connections[rows.db]
    if connection.vendor == "mysql":
        return update_then_select(rows, values, columns)
    try:
        sql, params = update_sql(rows, values)
    except EmptyResultSet:
        return []
    home = rows.model._default_manager.using(rows.db)
    returning = returning_clause(rows.model, columns, connection)
    return list(home.raw(f"{sql} {returning}{returned_bound(rows.db)}", params))


def returning_clause(
    model: type[models.Model], columns: Sequence[str], connection: Any
) -> str:
    """Return the clause that lets an UPDATE return the key and ``columns``."""
    meta: Any = model._meta
    names = dict.fromkeys([meta.pk.attname, *columns])
    quote = connection.ops.quote_name
    return "RETURNING " + ", ".join(quote(meta.get_field(name).column) for name in names)


def update_sql(rows: models.QuerySet[M], values: dict[str, Any]) -> tuple[str, Any]:
    """Return the UPDATE as SQL with its parameters; EmptyResultSet when it can match nothing."""
    query: Any = rows.query.chain(UpdateQuery)
    query.add_update_values(values)
    return query.get_compiler(rows.db).as_sql()  # type: ignore[no-any-return]


#: By itself MariaDB lets a later value of an UPDATE see what an earlier one has written.
_AT_ONCE = "SET STATEMENT sql_mode = CONCAT(@@sql_mode, ',SIMULTANEOUS_ASSIGNMENT') FOR "


def update_then_select(
    rows: models.QuerySet[M], values: dict[str, Any], columns: Sequence[str]
) -> list[M]:
    """Lock, update and read, for a database that cannot return from an UPDATE."""
    with transaction.atomic(using=rows.db):
        ids = locked_keys(rows)
        if not ids:
            return []
        same = rows.model._default_manager.using(rows.db).filter(pk__in=ids)
        sql, params = update_sql(same, values)
        with connections[rows.db].cursor() as cursor:
            cursor.execute(_AT_ONCE + sql, params)
        return list(same.only(*columns))


def predecessors(
    using: str, tasks: str, *, past: int, count: int
) -> list[tuple[int, bool]]:
    """Return the next ``count`` tasks past a key for which others wait, and which are over.

    Jumps from one to the next in the index, so that many who wait for the same task cost
    no more than one. Over is what has ended, and its body too, or what is gone.
    """
    waits = (
        "SELECT MIN(t.after_id) FROM {tasks} t WHERE t.status = 'Pending' AND t.after_id"
    )
    waits = waits.format(tasks=tasks)
    sql = f"""
        WITH RECURSIVE firsts (id, number) AS (
            SELECT ({waits} > %s), 1
            UNION ALL
            SELECT ({waits} > firsts.id), firsts.number + 1
            FROM firsts WHERE firsts.id IS NOT NULL AND firsts.number < %s
        )
        SELECT firsts.id, CASE WHEN task.id IS NULL OR (
            task.ended_at IS NOT NULL AND task.retry_at IS NULL AND NOT task.occupies
        ) THEN 1 ELSE 0 END
        FROM firsts LEFT JOIN {tasks} task ON task.id = firsts.id
        WHERE firsts.id IS NOT NULL ORDER BY firsts.id
    """  # noqa: S608 - table names come from our models
    with connections[using].cursor() as cursor:
        cursor.execute(sql, [past, count])
        return [(task_id, bool(over)) for task_id, over in cursor.fetchall()]
