"""The loop of a soak: asks at a steady rate, looks every so often, strikes if it shall."""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass, field

from django.db import DatabaseError, InterfaceError, connections

from bench.soak.cast import Cast
from bench.soak.mix import Mix
from bench.soak.sampling import Sample, Sampler
from taskcontrol.models import TaskLog

#: Samples of one soak, and the fewest seconds between two.
SAMPLES, SHORTEST = 360, 1.0
#: Tasks that may wait before nothing more is asked for, and seconds between two counts.
MOST_WAITING, COUNTED_EVERY = 500, 2.0


@dataclass
class Worked:
    """What came of it."""

    tasks: int = 0
    samples: list[Sample] = field(default_factory=list)


def work(options: argparse.Namespace, cast: Cast, sampler: Sampler) -> Worked:
    """Do it for the given minutes."""
    done, mix = Worked(), Mix(options.seed)
    began = time.monotonic()
    length = 60 * options.minutes
    every = max(SHORTEST, length / SAMPLES)
    looked = struck = counted = began
    calls, waiting = 0, 0
    while (now := time.monotonic()) < began + length:
        if now - looked >= every:
            looked = now
            done.samples.append(sampler.look(now - began, cast.pids(), done.tasks))
        if now - counted >= COUNTED_EVERY:
            counted, waiting = now, _waiting()
        if cast.nemesis is not None:
            cast.nemesis.look_after()
            if now - struck >= options.pace:
                struck = now
                cast.nemesis.strike()
        if calls < (now - began) * options.rate and waiting < MOST_WAITING:
            done.tasks += _act(mix)
            calls += 1
        else:
            # Calls that were missed are not made up for: they would come as a flood.
            calls = max(calls, int((now - began) * options.rate))
            time.sleep(0.5 / options.rate)
    done.samples.append(sampler.look(time.monotonic() - began, cast.pids(), done.tasks))
    return done


def _act(mix: Mix) -> int:
    """Do one thing; a database that is away is what a caller sees too."""
    try:
        return mix.act()
    except (DatabaseError, InterfaceError) as error:
        sys.stderr.write(f"a call failed: {error}\n")
        connections["default"].close()
        return 0


def _waiting() -> int:
    try:
        return TaskLog.objects.unended().count()
    except (DatabaseError, InterfaceError):
        connections["default"].close()
        return 0
