"""The parts of the bench that turn figures into statements, and its list of contenders."""

from __future__ import annotations

import json
import shlex
from argparse import ArgumentTypeError
from pathlib import Path
from xml.etree import ElementTree

import pytest

import bench
from bench import environments, keeping
from bench.curves import chart
from bench.limits import most_together
from bench.listening import statements
from bench.peers import BASE, OURS, Peer, chosen, named, peers
from bench.program import WORKLOADS
from bench.report import BASES, GOALS, curves, goals, ratios, spread, table
from bench.scale import partitions, report as scale_report
from bench.scale.scenes import SCENES
from bench.soak.verdict import findings, slope
from bench.workloads import percentile

CODE = Path(bench.__file__).parent / "contenders"


def line(workload, contender, **figures):
    return {
        "workload": workload,
        "contender": contender,
        "figures": figures,
        "date": "2026-01-02",
        "commit": "abc",
        "load": 0.1,
        "command": "python -m bench",
        "machine": "2 cores",
        "versions": {"celery": "5.7.0"},
    }


@pytest.mark.parametrize("peer", peers().values(), ids=lambda peer: peer.name)
def test_each_contender_has_its_code_its_pins_and_a_note(peer):
    assert (CODE / f"{peer.module}.py").exists()
    assert all("==" in package for package in peer.packages)
    assert peer.note
    assert all(shlex.split(command) for command in (*peer.worker, *peer.setup))


def test_plain_celery_and_ours_need_no_environment_and_always_take_part():
    assert [peer.name for peer in chosen(["huey"])] == [OURS, BASE, "huey"]
    assert not [package for peer in chosen([]) for package in peer.packages]


def test_contenders_are_named_with_commas_and_a_name_that_there_is_not_is_refused():
    assert named("huey,rq") == ["huey", "rq"]
    assert named("none") == []
    assert {OURS, BASE, "huey"} <= set(named("all"))
    with pytest.raises(
        ArgumentTypeError, match="there is no sidekiq; there are: taskcontrol"
    ):
        named("rq,sidekiq")


def test_who_cannot_be_installed_is_told_with_what_to_do(tmp_path):
    peer = Peer("x", "X", (), "", "x", packages=("some==1",))
    taken = tmp_path / "cache"
    taken.write_text("not a directory")

    with pytest.raises(environments.NotInstalled, match="--peers none"):
        environments.python_of(peer, taken)


def test_each_goal_is_one_of_a_workload_that_there_is():
    assert {goal.workload for goal in GOALS} <= WORKLOADS.keys()
    assert BASES.keys() <= WORKLOADS.keys()


def test_ratios_compare_the_same_rounds():
    assert ratios([2.0, 30.0], [1.0, 10.0]) == [2.0, 3.0]


def test_a_spread_is_the_median_between_least_and_greatest():
    assert spread([1.0, 300.0, 20.5]) == "20.5 (1-300)"
    assert spread([7.0]) == "7"


def test_a_table_has_a_row_for_each_contender_with_its_ratio():
    lines = [line("drain", OURS, cpu_ms=[0.5]), line("drain", BASE, cpu_ms=[1.0])]

    rows = table(lines).splitlines()

    assert rows[2] == "| taskcontrol | 0.50, **x0.50** |"
    assert rows[3] == "| plain Celery | 1 |"


@pytest.mark.parametrize(("ours", "met"), [(0.5, "met"), (0.7, "**missed**")])
def test_a_goal_is_met_or_missed_by_the_ratio_of_the_rounds(ours, met):
    lines = [line("drain", OURS, cpu_ms=[ours]), line("drain", BASE, cpu_ms=[1.0])]

    assert goals(lines).splitlines()[2].endswith(f"≤ x0.6 | {met} |")


def test_points_of_a_curve_stand_in_no_table():
    lines = [line("memory", OURS, **{"main_mb": [2], "main_mb@10": [1], "main_mb@20": [2]})]

    assert curves(lines, "main_mb") == {"taskcontrol": [(10.0, 1), (20.0, 2)]}
    assert "@" not in table(lines)


def test_figures_take_the_place_of_those_of_the_same_workload(tmp_path):
    page = tmp_path / "performance.md"
    page.write_text(f"before\n{keeping.BEGIN}\nold\n{keeping.END}\nafter\n")
    keeping.write([line("drain", OURS, cpu_ms=[1])], tmp_path)
    keeping.write([line("idle", OURS, cpu_ms_per_s=[1])], tmp_path)

    keeping.write([line("drain", BASE, cpu_ms=[2])], tmp_path)

    kept = [
        json.loads(one) for one in (tmp_path / "performance.jsonl").read_text().splitlines()
    ]
    assert [(one["workload"], one["contender"]) for one in kept] == [
        ("drain", BASE),
        ("idle", OURS),
    ]
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert "### idle" in text


def test_curves_are_drawn_beside_the_page(tmp_path):
    (tmp_path / "performance.md").write_text(f"{keeping.BEGIN}{keeping.END}")

    keeping.write(
        [
            line("memory", OURS, **{"main_mb": [2], "main_mb@10": [1], "child_mb@10": [1]}),
            line("grown", "empty", rows=[0], cpu_ms=[1.0, 2.0], pass_p95_ms=[3.0, 3.0]),
            line("grown", "full", rows=[11_000_000], cpu_ms=[1.0, 1.1]),
        ],
        tmp_path,
    )

    for name in ("memory", "grown"):
        picture = tmp_path / "curves" / f"{name}.svg"
        assert ElementTree.fromstring(picture.read_text()).findall("{*}polyline")
        assert f"(curves/{name}.svg)" in (tmp_path / "performance.md").read_text()


def test_the_verdict_of_a_soak_takes_the_place_of_the_one_before(tmp_path):
    page = tmp_path / "performance.md"
    page.write_text(f"before\n{keeping.SOAK}\nold\n{keeping.END_OF_SOAK}\nafter\n")

    keeping.write_soak("all steady\n", {"memory": "<svg/>"}, tmp_path)

    assert page.read_text() == (
        f"before\n{keeping.SOAK}\n\nall steady\n\n"
        f"![Memory over the soak](curves/soak-memory.svg)\n\n{keeping.END_OF_SOAK}\nafter\n"
    )
    assert (tmp_path / "curves" / "soak-memory.svg").read_text() == "<svg/>"


def test_nothing_is_kept_from_a_busy_machine(monkeypatch):
    monkeypatch.setattr("os.getloadavg", lambda: (1.6, 0.0, 0.0))
    assert "load average is 1.6" in keeping.too_busy()

    monkeypatch.setattr("os.getloadavg", lambda: (1.4, 9.0, 9.0))
    assert not keeping.too_busy()


def test_a_chart_is_an_image_that_can_be_read_even_without_points():
    for series in ({"a <b>": [(1, 0.0), (1000, 5.5)]}, {}, {"flat": [(3, 0)]}):
        root = ElementTree.fromstring(chart("t & u", "x", "y", series, log=True))
        assert len(root.findall("{*}polyline")) == len(series)


def test_bodies_that_ran_together_are_counted_and_those_that_followed_are_not():
    ran = [(0, 1.0, 2.0), (0, 1.5, 3.0), (0, 3.0, 4.0), (1, 1.0, 9.0)]

    assert list(most_together(ran, (0, 1, 2))) == [2, 1, 0]


def test_statements_are_counted_without_their_values(tmp_path):
    log = tmp_path / "log"
    log.write_text(
        "LOG:  statement: SELECT 1 FROM a WHERE b = 'x'\n"
        "LOG:  execute s_1: SELECT 2 FROM a WHERE b = 'y''z'\n"
        "LOG:  statement: COMMIT\n"
    )

    assert dict(statements(log, 0)) == {"SELECT ? FROM a WHERE b = ?": 2}


def test_percentiles_never_leave_the_values():
    assert [percentile([1, 2, 3], part) for part in (0.0, 0.5, 1.0)] == [1, 2, 3]


def test_a_soak_tells_what_grows_from_what_does_not():
    assert slope([(0, 1.0), (1, 3.0), (2, 5.0)]) == 2.0
    samples = [
        {
            "seconds": second,
            "worker 1 pid": 7.0,
            "worker 1 mb": 90 + second / 60,  # a megabyte each minute
            "beat pid": 8.0,
            "beat mb": 50.0,
            "p50_ms": 5.0,
            "p99_ms": 9.0,
            "table_mb": 1.0,
            "rows": 100.0,
            "dead_rows": 10.0,
        }
        for second in range(0, 1800, 60)
    ]

    verdict = {one.what: one.holds for one in findings(samples)}

    assert verdict.pop("worker 1") is False
    assert all(verdict.values())


def test_a_process_that_was_begun_anew_is_another_one():
    samples = [
        {"seconds": at, "beat pid": 1.0 if at < 800 else 2.0, "beat mb": float(at)}
        for at in range(0, 1000, 50)
    ]

    found = {one.what: one.told for one in findings(samples)}

    assert found["beat"] == "begun anew"


def test_few_samples_make_no_verdict():
    assert "too few" in findings([{"seconds": 1.0}])[0].told


# The page of scale


def test_the_statements_of_the_page_are_those_of_any_month():
    assert "FROM (2026120000000000) TO (2027010000000000)" in partitions.of_month(
        partitions.MONTH, "2026_12"
    )
    assert "taskcontrol_tasklog_2027_02" in partitions.of_month(partitions.DROP, "2027_02")
    assert partitions.of_month(partitions.DROP, "2027_01") == partitions.DROP
    assert partitions.months("2027_01", 3) == ["2026_11", "2026_12", "2027_01"]


def test_a_small_scene_is_small_whatever_the_scene():
    for scene in SCENES:
        assert scene.small().waiting <= 1000
        assert scene.small().places <= 40
        assert scene.small().months == scene.months


def scale_lines():
    step = {
        "transactions": 1.0,
        "wal_bytes": 1000.0,
        "postgres_us": 100.0,
        "python_us": 50.0,
        "wall_us": 500.0,
        "number": 10,
    }
    held = {"held_p50_ms": 20.0, "pass_cpu_ms": 10.0}
    passes = ("pass_p50_ms", "pass_p95_ms", "held_p50_ms", "held_p95_ms", "statements")
    busy = {
        **dict.fromkeys(passes, 1.0),
        "python_us": 150.0,
        "postgres_us": 100.0,
        "per_row_second": 3000.0,
    }
    scene = {
        "scene": SCENES[0]._asdict(),
        "busy": busy,
        "full": held,
        "idle": held,
        "sweeps": {"rescue_ms": 7.0},
    }
    road = {
        "steps": dict.fromkeys(scale_report.STEPS, step),
        "ledger": {
            "rows": 10,
            "table_bytes": 600.0,
            "index_bytes": 400.0,
            "largest": {"method": 90.0},
        },
        "publish": {"python_us": 70.0, "redis_us": 30.0},
    }
    told = {
        "date": "2026-01-02",
        "commit": "abc",
        "command": "python -m bench.scale x",
        "machine": "2 cores",
        "load": 0.1,
        "foreign": 0.0,
        "minutes": 1.0,
    }
    return {
        "scenes": {"figures": [scene], **told},
        "road": {"figures": road, **told},
    }


def test_what_more_needs_is_reckoned_from_what_one_task_costs():
    found = {name: line["figures"] for name, line in scale_lines().items()}

    need = scale_report.need(found, 10_000)

    assert need["shards, each half busy"] == "5"
    assert need["transactions per second"] == "60,000"
    assert need["WAL, MB/s"] == "60"
    assert need["cores of PostgreSQL"] == "6"
    assert need["most of them in one database"] == "50"
    assert scale_report.need(found, scale_report.EVEN)["ledger, GB a month"] == "1,000"


def test_parts_of_the_scale_take_the_place_of_those_kept_before(tmp_path):
    page = tmp_path / "scale.md"
    page.write_text(f"before\n{scale_report.BEGIN}\nold\n{scale_report.END}\nafter\n")
    lines = scale_lines()

    scale_report.write({"scenes": lines["scenes"]}, tmp_path)
    scale_report.write({"road": lines["road"]}, tmp_path)

    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert (
        text.index("### Passes") < text.index("### The road") < text.index("### What more")
    )
