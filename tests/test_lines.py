"""``lines.py``: what goes over a line arrives whole and in order, and who dies is seen."""

from __future__ import annotations

import threading

import pytest

from taskcontrol import lines
from taskcontrol.lines import Answer, Job, Lease, Line

#: No database is asked.
pytestmark = pytest.mark.only_on("sqlite")


@pytest.fixture
def line():
    line = Line()
    line.main_end.setblocking(False)
    yield line
    line.main_end.close()
    line.child_end.close()


def test_jobs_arrive_as_they_were_given_and_answers_as_they_were_said(line):
    given = [Job(1, 10, 2, ("row", None)), Job(2, 11, 1)]
    assert line.give(given)
    assert line.give([Job(3, 12, 1)])

    assert [line.jobs(), line.jobs()] == [given, [Job(3, 12, 1)]]

    line.answer(Answer(1, lines.RETURNED, 1.0, 2.0, ("told",)))
    line.answer(Answer(2, lines.UNBEGUN))
    said = line.answers()
    assert [one[:2] for one in said] == [(1, lines.RETURNED), (2, lines.UNBEGUN)]
    assert (said[0].began, said[0].ended, said[0].told) == (1.0, 2.0, ("told",))
    assert line.answers() == []


def test_what_is_larger_than_one_reading_arrives_whole(line):
    text = "x" * (3 * lines.BUFFER)
    writer = threading.Thread(target=line.answer, args=(Answer(1, 0, told=(text,)),))
    writer.start()

    found = []
    while not found:
        found = line.answers()

    writer.join()
    assert found[0].told == (text,)


def test_what_a_child_said_before_it_died_is_heard(line):
    line.answer(Answer(1, lines.DONE))
    line.child_end.close()

    assert [one.number for one in line.answers()] == [1]
    assert line.closed


def test_who_died_before_it_had_read_all_is_heard_to_the_end_too(line):
    """Linux calls that a reset."""
    line.give([Job(1, 10, 1)])
    line.answer(Answer(1, lines.ASKS))
    line.child_end.close()

    assert [one.number for one in line.answers()] == [1]
    assert line.closed


def test_who_was_not_read_to_the_end_by_its_main_process_has_no_more_jobs(line):
    line.answer(Answer(1, lines.DONE))
    line.main_end.close()

    assert line.jobs() == []


def test_who_gives_to_a_child_that_does_not_read_waits_for_nobody(line):
    jobs = [Job(1, 10, 1, ("\U0001f600" * 2 * lines.BUFFER,)), Job(2, 11, 1)]

    assert line.give(jobs)

    assert line.unsent
    found = []
    reader = threading.Thread(target=lambda: found.extend(line.jobs()))
    reader.start()
    while line.unsent:
        assert line.send_on()
    reader.join()
    assert found == jobs


def test_what_a_line_has_room_for_it_takes_in_without_a_reader():
    for number in (lines.BUFFER, 20_000):
        line = Line(number)
        line.main_end.setblocking(False)

        line.give([Job(1, 10, 1, ("x" * (line.room - 100),))])

        assert not line.unsent
        line.main_end.close()
        line.child_end.close()


def test_a_rest_for_who_is_dead_is_dropped(line):
    line.give([Job(1, 10, 1, ("x" * 4 * lines.BUFFER,))])
    line.child_end.close()

    assert not line.send_on()
    assert (line.closed, bytes(line.unsent)) == (True, b"")


def test_nothing_is_given_to_who_is_dead(line):
    line.child_end.close()

    assert not line.give([Job(1, 1, 1)])
    assert line.closed


def test_a_child_whose_main_process_is_gone_has_no_jobs(line):
    line.main_end.close()

    assert line.jobs() == []


def test_a_page_tells_what_runs_and_what_began_last(line):
    page = line.page
    page.begin(7)
    assert (page.current, page.begun) == (7, 7)

    page.end()
    assert (page.current, page.begun) == (0, 7)


def test_a_lease_holds_until_it_is_over():
    lease = Lease()
    assert not lease.holds()

    lease.renew(lease.clock(), 60)
    assert lease.holds()
    lease.renew(lease.clock() - 61, 60)
    assert not lease.holds()

    lease.renew(lease.clock(), 60)
    lease.end()
    assert not lease.holds()
