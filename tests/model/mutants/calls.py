"""Guards on the road of a call: forms, drafts, inserts, one transaction for what needs it."""

from __future__ import annotations

from tests.model.mutants.making import POSTGRESQL, mutant

OWN_OPTION = "forms: an option of the call alone that is also a parameter is refused too"
LOOKED_AT = "forms: times rights rows and lists are looked at in each call"
SHARED = "forms: calls that say the same share a form"
APART = "forms: rows of one form share nothing that can be changed"
REFUSED = "inserts: an insert that is refused breaks the transaction round it as ever"

MUTANTS = [
    mutant(
        "form: of the types that hold",
        "forms.py",
        ("is_fresh", "self._types is known_types()\n            and ", ""),
        by="forms: a changed type is seen at once",
    ),
    mutant(
        "form: of the settings that hold",
        "forms.py",
        ("is_fresh", "and self._settings is _settings()", ""),
        by="forms: a changed setting is seen at once",
    ),
    mutant(
        "form: of the declaration that holds",
        "forms.py",
        (
            "is_fresh",
            "and self._declared is registry.declarations.get(self.method)",
            "",
        ),
        by="forms: a changed declaration is seen at once",
    ),
    mutant(
        "form: asked whether it still holds",
        "forms.py",
        ("form_of", " or not form.is_fresh", ""),
        by="forms: a changed type is seen at once",
    ),
    mutant(
        "form: of one method",
        "forms.py",
        ("_key_of", "[method]", "[]"),
        by="forms: each method has forms of its own",
    ),
    mutant(
        "form: equal values of other kinds are others",
        "forms.py",
        ("_key_of", "(name, type(value), value)", "(name, value)"),
        by="forms: what equals a good value is not taken for it",
    ),
    mutant(
        "form: not of what a call says of itself alone",
        "forms.py",
        ("_key_of", "name not in OWN and ", ""),
        by="forms: what a call says of itself alone makes no other form",
    ),
    mutant(
        "form: not of what is not said",
        "forms.py",
        ("_key_of", " and is_given(name, value)", ""),
        by=SHARED,
    ),
    mutant(
        "form: times, rights and rows are looked at in each call",
        "forms.py",
        ("_key_of", "if name in LOOKED_AT:", "if False:"),
        by=LOOKED_AT,
    ),
    mutant(
        "form: lists are looked at in each call",
        "forms.py",
        ("_hashable", "except TypeError:", "except ZeroDivisionError:"),
        by=LOOKED_AT,
    ),
    mutant(
        "form: so many are remembered",
        "forms.py",
        ("form_of", "if len(_forms) >= MOST_FORMS:", "if False:"),
        by="forms: a process remembers so many forms and no more",
    ),
    mutant(
        "form: so many sets of names are remembered",
        "forms.py",
        ("check_names", "if len(self._names) < MOST_NAMES:", "if True:"),
        by="forms: a form remembers so many names and no more",
    ),
    mutant(
        "form: names that were good are",
        "forms.py",
        ("check_names", "names in self._names and ", ""),
        by="forms: arguments are checked in each call",
    ),
    mutant(
        "form: an option that is also a parameter is looked at in each call",
        "forms.py",
        ("check_names", " and not self._ambiguous", ""),
        by=OWN_OPTION,
    ),
    mutant(
        "form: names beside the options are others than those among the arguments",
        "forms.py",
        ("check_names", "(*given, None, *keywords)", "(*given,)"),
        by="forms: names that are good among the arguments may be bad beside the options",
    ),
    mutant(
        "form: who is told when a row is made is told",
        "forms.py",
        ("row", "one.receivers and one.has_listeners(TaskLog)", "False"),
        by="forms: receivers of the models making are told",
    ),
    mutant(
        "form: each row has a state of its own",
        "forms.py",
        ("row", "_state=ModelState(), ", ""),
        by=APART,
    ),
    mutant(
        "draft: each row has policies of its own",
        "drafts.py",
        (
            "_policies",
            "deepcopy(self.form.policies) if self.form.policies",
            "self.form.policies",
        ),
        ("_policies", "self.form.policies else {}", "self.form.policies"),
        by=APART,
    ),
    mutant(
        "draft: a full queue may refuse it",
        "drafts.py",
        ("may_be_refused", "self.form.is_limited or ", ""),
        by="test_backlog.py",
    ),
    mutant(
        "draft: a batch may refuse it",
        "drafts.py",
        ("may_be_refused", "or joins ", ""),
        by="batches: nobody adds to the batch of another p8",
    ),
    mutant(
        "draft: a key may refuse it",
        "drafts.py",
        ("may_be_refused", "self.wish is not None or ", ""),
        by="deduplication: of many calls at once one makes a task",
    ),
    mutant(
        "draft: arguments of a size",
        "drafts.py",
        ("_checked_arguments", "if size > self.form.most_bytes:", "if False:"),
        by="enqueueing: arguments over the limit are refused",
    ),
    mutant(
        "draft: a creator who is stored",
        "drafts.py",
        ("creator_of", 'if getattr(user, "pk", None) is None:', "if False:"),
        by="enqueueing: a creator that is no saved user is refused",
    ),
    mutant(
        "draft: nobody is not the system",
        "drafts.py",
        ("_policies", "if is_anonymous(self.creator):", "if False:"),
        by="safecalls: the worker knows an anonymous visitor p8",
    ),
    mutant(
        "insert: a key or a place that was given is kept",
        "inserts.py",
        (
            "_needs_the_orm",
            "or not all(_is_open(getattr(row, one.attname)) for one in self._computed)",
            "",
        ),
        by="inserts: an insert keeps a key and a place that were given",
    ),
    mutant(
        "insert: expressions go by the ORM",
        "inserts.py",
        (
            "_needs_the_orm",
            'any(hasattr(value, "as_sql") for value in sent.values())',
            "False",
        ),
        by="inserts: an insert with an expression is read back",
    ),
    mutant(
        "insert: receivers are told",
        "inserts.py",
        ("_needs_the_orm", "or post_save.has_listeners(self.model)", ""),
        by="inserts: receivers of the model are told of an insert or refuse it",
    ),
    mutant(
        "insert: where nothing is returned",
        "inserts.py",
        (
            "_needs_the_orm",
            "or not connection.features.can_return_columns_from_insert",
            "",
        ),
        by="inserts: where an insert returns nothing the orm stores the row",
    ),
    mutant(
        "insert: one that is refused breaks the transaction",
        "inserts.py",
        ("run", "transaction.mark_for_rollback_on_error(using),", ""),
        by=REFUSED,
    ),
    mutant(
        "insert: many are all or none",
        "inserts.py",
        ("run_many", "transaction.atomic(using=using, savepoint=False),", ""),
        by="inserts: without a transaction too many of which one is refused are none",
    ),
    mutant(
        "insert: errors of a copy are Django's",
        "inserts.py",
        ("_copy", "connection.wrap_database_errors, ", ""),
        by="inserts: many of which one is refused are none",
        on=POSTGRESQL,
    ),
    mutant(
        "enqueue: one transaction with what may refuse it",
        "enqueueing.py",
        ("_together", "not draft.may_be_refused and ", ""),
        by="deduplication: of many calls at once one makes a task",
    ),
    mutant(
        "enqueue: one transaction with its beginning here",
        "enqueueing.py",
        ("_together", " and not draft.runs_here", ""),
        by="inline: the row comes back finished with all that a worker would write",
        on=POSTGRESQL,
    ),
    mutant(
        "enqueue: none of ours only where each statement commits",
        "enqueueing.py",
        ("_together", " and connections[conf.DATABASE].get_autocommit()", ""),
        by="enqueueing: a caller who commits by himself may enqueue and roll back p2",
    ),
    mutant(
        "enqueue: a refused one breaks no transaction of the caller",
        "enqueueing.py",
        ("_together", "savepoint=draft.may_be_refused, ", "savepoint=False, "),
        by="batches: nobody adds to the batch of another p8",
    ),
    mutant(
        "enqueue: a full queue takes no more",
        "enqueueing.py",
        ("_store", "draft.glance.refuse_overload(admission.rows)", "pass"),
        by="backlog: a full queue takes no more and says how many wait",
    ),
    mutant(
        "enqueue: what runs here fills no queue",
        "enqueueing.py",
        (
            "_store",
            " and not draft.runs_here:\n            draft.glance",
            ":\n            draft.glance",
        ),
        by="drafts: a full queue refuses nothing that does not wait",
    ),
    mutant(
        "enqueue: rings only for what may begin",
        "enqueueing.py",
        ("_store", "if draft.is_ready:", "if True:"),
        by="enqueueing: a paused task rings no bell",
    ),
    mutant(
        "bulk: the making of the tasks takes its time",
        "enqueueing.py",
        ("_store_many", "brief(alone=False)", "brief()"),
        by="brief: a caller may make his tasks as slowly as he likes",
        on=POSTGRESQL,
    ),
    mutant(
        "bulk: who sleeps before the commit loses the batch",
        "enqueueing.py",
        ("_store_many", "whole.alone = True", "pass"),
        by="brief: who sleeps before the commit of a bulk loses its batch",
        on=POSTGRESQL,
    ),
    mutant(
        "bulk: a full queue takes no more",
        "enqueueing.py",
        ("_store_many", "glance.refuse_overload(admission.rows)", "pass"),
        by="backlog: a bulk is taken whole or not at all",
    ),
    mutant(
        "bulk: rows with keys learn theirs",
        "enqueueing.py",
        ("_store_many", "if admission.holds:", "if False:"),
        by="deduplication: bulk takes keyed and plain tasks together",
    ),
    mutant(
        "bulk: one batch",
        "enqueueing.py",
        (
            "_member",
            'if str(own.get("batch_id") or place["batch_id"]) != place["batch_id"]:',
            "if False:",
        ),
        by="drafts: a bulk refuses names that are no texts and another batch",
    ),
    mutant(
        "bulk: apart as a whole or not",
        "enqueueing.py",
        ("_member", 'if own.get("enqueue_after_commit") is False:', "if False:"),
        by="test_side.py",
    ),
    mutant(
        "bulk: nothing runs here",
        "enqueueing.py",
        ("_member", "_refuse_here(options)", "pass"),
        by="inline: a bulk is for workers",
    ),
    mutant(
        "bulk: nothing of the usual shape runs here",
        "enqueueing.py",
        ("_drafts", "_refuse_here(options)", "pass"),
        by="inline: a bulk is for workers",
    ),
    mutant(
        "inline: no retry behind the caller",
        "inline.py",
        ("_end", '"retry_in": None', '"retry_in": 0'),
        by="inline: an error is written and then raised",
    ),
    mutant(
        "inline: a canceled one gives its place back",
        "inline.py",
        ("_write_end", "lifecycle.release(row.pk, row.attempt)", "pass"),
        by="inline: a task that was canceled meanwhile comes back canceled",
    ),
    mutant(
        "inline: what is canceled raises nothing",
        "inline.py",
        ("run", " and written and not", " and not"),
        by="inline: a task that was canceled meanwhile comes back canceled",
    ),
    mutant(
        "inline: within a transaction all of it is a part of that",
        "inline.py",
        ("run", "side.none() if body.within else nullcontext()", "nullcontext()"),
        by="inline: the row comes back finished with all that a worker would write",
        on=POSTGRESQL,
    ),
    mutant(
        "inline: a failed body breaks no transaction of the caller",
        "inline.py",
        ("_transaction", "elif self.within:", "elif False:"),
        by="inline: within a transaction a failed body is undone and its end stays",
    ),
    mutant(
        "inline: a sooner alarm of the caller is kept",
        "inline.py",
        ("_time_limit", " or 0 < earlier <= seconds", ""),
        by="inline: the alarm of somebody else is kept",
    ),
    mutant(
        "inline: a later alarm of the caller is set again",
        "inline.py",
        ("_time_limit", "signal.setitimer(signal.ITIMER_REAL, left)", "pass"),
        by="inline: the alarm of somebody else is kept",
    ),
    mutant(
        "inline: only a main thread can be interrupted",
        "inline.py",
        (
            "_alarm",
            "if threading.current_thread() is not threading.main_thread():",
            "if False:",
        ),
        by="inline: in another thread there is no time limit but all the rest",
    ),
]
