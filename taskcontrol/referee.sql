-- The referee of taskcontrol: what may become of a task, said a second time and by hand, so
-- that an error in the program, its table of moves included, does not go unseen.
-- `manage.py taskcontrol referee install` fills in {schema} and {mode} and runs this.
--
-- SET LOCAL taskcontrol.referee = 'off' lets one transaction do what it likes.

-- What a limit was before it was lowered: a pass that began before goes by the old one.
CREATE TABLE IF NOT EXISTS {schema}.taskcontrol_referee_limit (
    method text NOT NULL,
    was bigint NOT NULL,
    until timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX IF NOT EXISTS taskcontrol_referee_limit_until
    ON {schema}.taskcontrol_referee_limit (until);


-- Says what was wrong: refuses it, or writes it down as an incident.
CREATE OR REPLACE FUNCTION {schema}.taskcontrol_referee_says(
    task bigint, number integer, arrow text, what text
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    sentence text := format('task %s, %s in attempt %s: %s', task, arrow, number, what);
BEGIN
    IF '{mode}' = 'raise' THEN
        RAISE EXCEPTION USING
            ERRCODE = 'TCREF', MESSAGE = 'The referee of taskcontrol refuses: ' || sentence;
    END IF;
    INSERT INTO {schema}.taskcontrol_incident AS known (kind, task_id, attempt, key, found)
    VALUES ('illegal', task, number, arrow, left(format('%s (backend %s, %s)',
        sentence, pg_backend_pid(), current_setting('application_name')), 500))
    ON CONFLICT (task_id, attempt, kind, key) DO UPDATE SET
        count = known.count + 1, last_at = excluded.last_at, found = excluded.found,
        resolved_at = NULL;
END $$;


CREATE OR REPLACE FUNCTION {schema}.taskcontrol_referee_insert()
RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    {try}
    IF current_setting('taskcontrol.referee', true) = 'off' THEN
        RETURN NEW;
    END IF;
    IF NEW.status NOT IN ('Pending', 'Paused') THEN
        PERFORM {schema}.taskcontrol_referee_says(NEW.id, NEW.attempt,
            'inserted as ' || NEW.status, 'a task begins as Pending or Paused');
    ELSIF NEW.attempt <> 0 OR NEW.retry_count <> 0 OR NEW.rev <> 0 OR NEW.occupies
        OR NEW.celery_task_id IS NOT NULL OR NEW.queued_at IS NOT NULL
        OR NEW.started_at IS NOT NULL OR NEW.worker_id IS NOT NULL
    THEN
        PERFORM {schema}.taskcontrol_referee_says(NEW.id, NEW.attempt,
            'inserted as ' || NEW.status, format('it begins with a past (%s retries, rev %s)',
                NEW.retry_count, NEW.rev));
    END IF;
    {catch}
    RETURN NEW;
END $$;


CREATE OR REPLACE FUNCTION {schema}.taskcontrol_referee_update()
RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    wrong text;
    promoted boolean := OLD.status = 'Pending' AND NEW.status = 'Queued';
    retried boolean := OLD.status IN ('Failed', 'Canceled') AND NEW.status = 'Pending';
BEGIN
    {try}
    IF current_setting('taskcontrol.referee', true) = 'off' THEN
        RETURN NEW;
    END IF;

    -- Whatever is written
    wrong := CASE
        WHEN OLD.status <> NEW.status AND (OLD.status, NEW.status) NOT IN (
            ('Pending', 'Queued'), ('Pending', 'Paused'), ('Pending', 'Canceled'),
            ('Paused', 'Pending'), ('Paused', 'Canceled'),
            ('Queued', 'Started'), ('Queued', 'Pending'), ('Queued', 'Canceled'),
            ('Queued', 'Finished'), ('Started', 'Finished'), ('Started', 'Failed'), ('Started', 'Canceled'),
            ('Started', 'Pending'),
            ('Failed', 'Pending'), ('Failed', 'Canceled'),
            ('Canceled', 'Pending'))
            THEN 'there is no such move'
        WHEN NEW.rev <> OLD.rev + 1
            THEN format('rev goes from %s to %s; each UPDATE adds 1', OLD.rev, NEW.rev)
        WHEN NEW.attempt <> OLD.attempt + promoted::int
            THEN format('attempt goes from %s to %s; Pending -> Queued adds 1 and nothing else does',
                OLD.attempt, NEW.attempt)
        WHEN NEW.retry_count <> OLD.retry_count + retried::int
            THEN format('retry_count goes from %s to %s; a retry adds 1 and nothing else does',
                OLD.retry_count, NEW.retry_count)
        WHEN NEW.id <> OLD.id OR NEW.method <> OLD.method OR NEW.created_at <> OLD.created_at
            OR NEW.created_by_id IS DISTINCT FROM OLD.created_by_id
            OR NEW.max_retries <> OLD.max_retries
            THEN 'what it is, whose, or how often it may be retried changes'
        WHEN NEW.occupies AND NOT OLD.occupies AND NOT promoted
            THEN 'it takes a place; only Pending -> Queued does'
        WHEN OLD.occupies AND promoted
            THEN 'it is sent while the body of an earlier attempt may still run'
        WHEN OLD.occupies AND NOT NEW.occupies AND (OLD.status, NEW.status) NOT IN (
            ('Queued', 'Pending'), ('Queued', 'Canceled'), ('Queued', 'Finished'),
            ('Started', 'Pending'), ('Started', 'Finished'), ('Started', 'Failed'), ('Pending', 'Pending'),
            ('Paused', 'Paused'), ('Finished', 'Finished'), ('Failed', 'Failed'),
            ('Canceled', 'Canceled'))
            THEN 'its place is given up while its body may still run'
        WHEN OLD.status = 'Queued' AND OLD.worker_id IS NOT NULL AND NEW.status = 'Canceled'
            AND NOT NEW.occupies
            THEN 'its place is given up while a worker that has claimed it may run it'
    END;

    IF wrong IS NULL AND OLD.status = NEW.status THEN
        -- What stands still
        wrong := CASE
            WHEN NEW.status IN ('Queued', 'Started') AND (
                NEW.celery_task_id, NEW.queued_at, NEW.started_at, NEW.worker_id, NEW.pid
            ) IS DISTINCT FROM (
                OLD.celery_task_id, OLD.queued_at, OLD.started_at, OLD.worker_id, OLD.pid
            ) THEN 'the identity of an attempt changes after it was sent'
            WHEN (NEW.status = 'Started' OR (NEW.ended_at IS NOT NULL AND NEW.retry_at IS NULL))
                AND NEW.arguments IS DISTINCT FROM OLD.arguments
                THEN 'the arguments change while the body runs, or after the end'
            WHEN NEW.status IN ('Finished', 'Failed', 'Canceled') AND (
                NEW.error_message, NEW.ended_at, NEW.ended_reason, NEW.queued_at, NEW.started_at,
                NEW.retry_at, NEW.celery_task_id, NEW.worker_id, NEW.pid, NEW.canceled_by_id
            ) IS DISTINCT FROM (
                OLD.error_message, OLD.ended_at, OLD.ended_reason, OLD.queued_at, OLD.started_at,
                OLD.retry_at, OLD.celery_task_id, OLD.worker_id, OLD.pid, OLD.canceled_by_id
            ) THEN 'an end is final, and what it wrote changes'
            -- A body that goes on behind fenced() tells what it printed and returned since,
            -- as it gives up its place.
            WHEN NEW.status IN ('Finished', 'Failed', 'Canceled')
                AND NOT (NEW.status = 'Finished' AND OLD.occupies AND NOT NEW.occupies)
                AND (NEW.result, NEW.debug_log, NEW.time_taken)
                    IS DISTINCT FROM (OLD.result, OLD.debug_log, OLD.time_taken)
                THEN 'an end is final, and what it told changes'
        END;
    ELSIF wrong IS NULL THEN
        -- What moves
        wrong := CASE
            -- Who enqueues with now=True sends what he has just inserted, past every line.
            WHEN promoted AND OLD.ready_lane IS NULL
                AND (OLD.attempt > 0 OR OLD.created_at < transaction_timestamp())
                THEN 'it stands in no lane: its time has not come, or something is before it'
            WHEN promoted AND (NEW.celery_task_id IS NULL OR NEW.started_at IS NOT NULL
                OR NEW.pid IS NOT NULL
                OR (NEW.worker_id IS NOT NULL AND NOT EXISTS (
                    SELECT FROM {schema}.taskcontrol_worker here WHERE here.id = NEW.worker_id
                        AND here.left_at IS NULL AND here.lost_at IS NULL)))
                THEN 'an attempt begins without a message of its own, or with an old one''s past'
            WHEN NEW.status = 'Started'
                AND (NEW.celery_task_id, NEW.queued_at)
                    IS DISTINCT FROM (OLD.celery_task_id, OLD.queued_at)
                THEN 'it is claimed by another message than the one that was sent'
            WHEN NEW.status = 'Started' AND OLD.expires_at <= statement_timestamp()
                THEN 'it is claimed after it has expired'
            WHEN OLD.status = 'Queued' AND OLD.worker_id <> NEW.worker_id
                THEN 'another worker than the one that has claimed it begins it'
            WHEN OLD.status = 'Queued' AND NEW.status = 'Finished'
                AND (OLD.worker_id IS NULL OR NEW.started_at IS NULL OR NEW.pid IS NULL
                    OR OLD.expires_at IS NOT NULL OR (NEW.celery_task_id, NEW.queued_at)
                        IS DISTINCT FROM (OLD.celery_task_id, OLD.queued_at))
                THEN 'it has ended, and no worker had claimed it as it was sent, or began it'
            WHEN OLD.status = 'Started' AND NEW.status <> 'Pending' AND (
                NEW.celery_task_id, NEW.queued_at, NEW.started_at, NEW.worker_id, NEW.pid
            ) IS DISTINCT FROM (
                OLD.celery_task_id, OLD.queued_at, OLD.started_at, OLD.worker_id, OLD.pid
            ) THEN 'an end changes who ran it, or since when'
            WHEN NEW.retry_at IS NOT NULL
                AND (NEW.status <> 'Failed' OR OLD.retry_count >= OLD.max_retries)
                THEN format('an automatic retry is due after %s of %s',
                    OLD.retry_count, OLD.max_retries)
            WHEN OLD.status = 'Failed' AND NEW.status = 'Canceled' AND OLD.retry_at IS NULL
                THEN 'it has failed for good; there is nothing to cancel'
            WHEN NEW.status IN ('Pending', 'Paused') AND (NEW.started_at IS NOT NULL
                OR NEW.queued_at IS NOT NULL OR NEW.celery_task_id IS NOT NULL)
                THEN 'it waits again, and keeps what an earlier attempt wrote'
        END;
        IF wrong IS NULL AND OLD.started_at IS NOT NULL AND NEW.status = 'Pending'
            AND NOT EXISTS (SELECT FROM {schema}.taskcontrol_taskattempt past
                WHERE past.task_id = OLD.id AND past.attempt = OLD.attempt)
        THEN
            wrong := 'it runs again, and nothing is kept of the attempt that ended';
        END IF;
    END IF;

    IF wrong IS NOT NULL THEN
        PERFORM {schema}.taskcontrol_referee_says(OLD.id, OLD.attempt,
            OLD.status || ' -> ' || NEW.status, wrong);
    END IF;
    {catch}
    RETURN NEW;
END $$;


-- At the commit: a task that had ended runs again because somebody asked, and that is on record.
CREATE OR REPLACE FUNCTION {schema}.taskcontrol_referee_again()
RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    {try}
    IF NOT EXISTS (SELECT FROM {schema}.taskcontrol_taskevent told
        WHERE told.task_id = NEW.id AND told.kind = 'retried'
            AND told.attempt = NEW.attempt AND told.at >= transaction_timestamp())
        -- Its events go with the task, which may have ended again in this transaction.
        AND EXISTS (SELECT FROM {schema}.taskcontrol_tasklog task WHERE task.id = NEW.id)
    THEN
        PERFORM {schema}.taskcontrol_referee_says(NEW.id, OLD.attempt,
            OLD.status || ' -> Pending', format(
                'it had ended (retry %s of %s), and nobody is on record who asked for another run',
                OLD.retry_count, OLD.max_retries));
    END IF;
    {catch}
    RETURN NULL;
END $$;


-- After a statement that sends tasks: nothing is sent while the dispatcher is suspended, and
-- no type has more places than its limit. What ran at once (now=True) is under no limit.
CREATE OR REPLACE FUNCTION {schema}.taskcontrol_referee_limits()
RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    one record;
BEGIN
    {try}
    IF current_setting('taskcontrol.referee', true) = 'off'
        OR NOT EXISTS (SELECT FROM after_it WHERE status = 'Queued')
    THEN
        RETURN NULL;
    END IF;
    -- Two who send tasks of one type at once do not see each other's: the second counts after
    -- the commit of the first, whatever lock the program has or forgets.
    PERFORM pg_advisory_xact_lock(hashtext('taskcontrol_referee'), kind.number) FROM (
        SELECT DISTINCT hashtext(now.method) AS number
        FROM after_it now JOIN before_it was ON was.id = now.id
        WHERE was.status = 'Pending' AND now.status = 'Queued' AND was.ready_lane IS NOT NULL
        ORDER BY 1
    ) kind;
    FOR one IN
        WITH sent AS (
            SELECT now.method, min(now.id) AS task, max(now.attempt) AS attempt
            FROM after_it now JOIN before_it was ON was.id = now.id
            WHERE was.status = 'Pending' AND now.status = 'Queued'
                AND was.ready_lane IS NOT NULL
            GROUP BY now.method
        )
        SELECT sent.*, held.places, most.places AS most,
            (SELECT suspended FROM {schema}.taskcontrol_dispatcherstate) AS suspended
        FROM sent
        CROSS JOIN LATERAL (
            SELECT count(*) AS places FROM {schema}.taskcontrol_tasklog task
            WHERE task.occupies AND task.method = sent.method
                AND (task.worker_id IS NOT NULL OR task.status = 'Queued')
        ) held
        CROSS JOIN LATERAL (
            SELECT max(places) AS places FROM (
                SELECT {schema}.taskcontrol_referee_places(kind.concurrency_limit, kind.declared)
                FROM {schema}.taskcontrol_tasktype kind WHERE kind.method = sent.method
                UNION ALL
                SELECT was FROM {schema}.taskcontrol_referee_limit earlier
                WHERE earlier.method = sent.method
                    AND earlier.until > transaction_timestamp() - interval '10 seconds'
            ) limits (places)
        ) most
    LOOP
        IF one.places > one.most THEN
            PERFORM {schema}.taskcontrol_referee_says(one.task, one.attempt, 'Pending -> Queued',
                format('%s tasks of %s hold places, and its limit is %s',
                    one.places, one.method, one.most));
        ELSIF one.suspended THEN
            PERFORM {schema}.taskcontrol_referee_says(one.task, one.attempt, 'Pending -> Queued',
                'the dispatcher is suspended');
        END IF;
    END LOOP;
    {catch}
    RETURN NULL;
END $$;


-- The most places that a type may have: 0 is no limit, and one that nobody has confirmed has 1.
CREATE OR REPLACE FUNCTION {schema}.taskcontrol_referee_places(concurrency integer, declared jsonb)
RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN declared IS NULL THEN 1 WHEN concurrency = 0 THEN 9223372036854775807
        ELSE concurrency END
$$;


CREATE OR REPLACE FUNCTION {schema}.taskcontrol_referee_lowered()
RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    {try}
    INSERT INTO {schema}.taskcontrol_referee_limit (method, was) VALUES (
        OLD.method,
        {schema}.taskcontrol_referee_places(OLD.concurrency_limit, OLD.declared));
    {catch}
    RETURN NULL;
END $$;


CREATE OR REPLACE FUNCTION {schema}.taskcontrol_referee_delete()
RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    {try}
    IF current_setting('taskcontrol.referee', true) = 'off' THEN
        RETURN OLD;
    END IF;
    IF OLD.ended_at IS NULL OR OLD.retry_at IS NOT NULL OR OLD.occupies THEN
        PERFORM {schema}.taskcontrol_referee_says(OLD.id, OLD.attempt,
            'deleted as ' || OLD.status, 'it has not ended, or its body is not gone');
    END IF;
    {catch}
    RETURN OLD;
END $$;


CREATE OR REPLACE TRIGGER taskcontrol_referee_insert
    BEFORE INSERT ON {schema}.taskcontrol_tasklog
    FOR EACH ROW EXECUTE FUNCTION {schema}.taskcontrol_referee_insert();

CREATE OR REPLACE TRIGGER taskcontrol_referee_update
    BEFORE UPDATE ON {schema}.taskcontrol_tasklog
    FOR EACH ROW EXECUTE FUNCTION {schema}.taskcontrol_referee_update();

CREATE OR REPLACE TRIGGER taskcontrol_referee_limits
    AFTER UPDATE ON {schema}.taskcontrol_tasklog
    REFERENCING OLD TABLE AS before_it NEW TABLE AS after_it
    FOR EACH STATEMENT EXECUTE FUNCTION {schema}.taskcontrol_referee_limits();

CREATE OR REPLACE TRIGGER taskcontrol_referee_delete
    BEFORE DELETE ON {schema}.taskcontrol_tasklog
    FOR EACH ROW EXECUTE FUNCTION {schema}.taskcontrol_referee_delete();

CREATE OR REPLACE TRIGGER taskcontrol_referee_lowered
    AFTER DELETE OR UPDATE OF method, concurrency_limit, declared
    ON {schema}.taskcontrol_tasktype
    FOR EACH ROW EXECUTE FUNCTION {schema}.taskcontrol_referee_lowered();

-- Constraint triggers cannot be replaced.
DROP TRIGGER IF EXISTS taskcontrol_referee_again ON {schema}.taskcontrol_tasklog;
CREATE CONSTRAINT TRIGGER taskcontrol_referee_again
    AFTER UPDATE ON {schema}.taskcontrol_tasklog
    DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (
        OLD.status IN ('Failed', 'Canceled') AND NEW.status = 'Pending'
        AND (OLD.retry_at IS NULL OR OLD.retry_at > statement_timestamp()
            OR OLD.retry_count >= OLD.max_retries)
        AND current_setting('taskcontrol.referee', true) IS DISTINCT FROM 'off'
    ) EXECUTE FUNCTION {schema}.taskcontrol_referee_again();
