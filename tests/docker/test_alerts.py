"""What alerts fire in which states of a fleet, as promtool of Prometheus tells it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.docker.parts import DOCKER, read_yaml

POSTED = 'vsg_requests_total{method="POST",route="/videos",status="%s",instance="a"}'
PROBED = 'vsg_requests_total{method="GET",route="/health/ready",status="%s",instance="a"}'
# Every series is that of one process or more, with labels as annotations, a monitor or a static list would give them.
SOUND = {
    'vsg_process{role="api",instance="a"}': "1x90",
    'vsg_process{role="worker",pod="w"}': "1x90",
    'vsg_workers{instance="a"}': "1x90",
    'vsg_queue_up{instance="a"}': "1x90",
    'vsg_queue_up{pod="w"}': "1x90",
    'vsg_storage_up{instance="a"}': "1x90",
    'vsg_queue_oldest_seconds{instance="a"}': "2x90",
    'vsg_redeliveries_total{pod="w"}': "0x90",
    'vsg_jobs_total{status="succeeded",pod="w"}': "0+1x90",
    'vsg_jobs_total{status="failed",pod="w"}': "0x90",
    'vsg_webhooks_total{outcome="given_up",pod="w"}': "0x90",
    POSTED % "202": "0+1x90",
}
STATES: dict[str, tuple[dict[str, str], set[str]]] = {
    "sound": ({}, set()),
    "without traffic": ({POSTED % "202": "5x90", 'vsg_jobs_total{status="succeeded",pod="w"}': "5x90"}, set()),
    "Redis away for a minute": ({'vsg_queue_up{instance="a"}': "1x30 0x1 1x60"}, set()),
    "the only worker replaced within a minute": ({'vsg_workers{instance="a"}': "1x30 0x1 1x60"}, set()),
    "one post of twenty fails": ({POSTED % "503": "0+0.05x90"}, set()),
    "probes of a starting API fail": ({PROBED % "503": "0+12x90"}, set()),
    "a webhook is tried again": ({'vsg_webhooks_total{outcome="failed",pod="w"}': "0x40 1x50"}, set()),
    "no worker": ({'vsg_workers{instance="a"}': "1x30 0x60"}, {"NoWorker"}),
    "no API": (
        {'vsg_process{role="api",instance="a"}': "1x30 _x60", 'vsg_workers{instance="a"}': "1x30 _x60"},
        {"NoApi"},
    ),
    "Redis away for 7 minutes": (
        {
            'vsg_queue_up{instance="a"}': "1x52 0x7 1x60",
            'vsg_workers{instance="a"}': "1x52 NaN NaN NaN NaN NaN NaN NaN 1x30",
        },
        {"QueueAway"},
    ),
    "storage away": ({'vsg_storage_up{instance="a"}': "1x52 0x30"}, {"StorageAway"}),
    "every post fails, one in five minutes": (
        {POSTED % "202": "40x90", POSTED % "503": "_x20 1x4 2x4 3x4 4x4 5x4 6x4 7x4 8x4 9x4 10x40"},
        {"PostsFail"},
    ),
    "posts are refused": ({POSTED % "429": "0x20 0+1x70"}, {"PostsRefused"}),
    "a webhook is given up": ({'vsg_webhooks_total{outcome="given_up",pod="w"}': "0x40 1x50"}, {"WebhooksGivenUp"}),
    "videos wait": ({'vsg_queue_oldest_seconds{instance="a"}': "2x20 400x70"}, {"VideosWaitLong"}),
    "workers die": ({'vsg_redeliveries_total{pod="w"}': "0x45 0+1x45"}, {"WorkersDie"}),
    "every second job fails": ({'vsg_jobs_total{status="failed",pod="w"}': "0+1x90"}, {"JobsFail"}),
    "many errors": (
        {'vsg_requests_total{method="GET",route="/videos/{video_id}",status="500",instance="a"}': "0+60x90"},
        {"ServerErrors"},
    ),
}


@pytest.fixture(scope="module")
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is not installed: it is in Prometheus' archives and in Debian's package prometheus")
    return found


@pytest.mark.parametrize("state", list(STATES))
def test_alerts_fire_when_they_should_and_not_otherwise(promtool: str, state: str, tmp_path: Path) -> None:
    changes, expected = STATES[state]
    rules = read_yaml(DOCKER / "alerts.yml")["groups"][0]["rules"]
    series = [{"series": name, "values": values} for name, values in (SOUND | changes).items()]
    asked = [
        {
            "eval_time": "58m",
            "expr": f'count(ALERTS{{alertname="{rule["alert"]}",alertstate="firing"}}) or vector(0)',
            "exp_samples": [{"value": float(rule["alert"] in expected)}],
        }
        for rule in rules
    ]
    tests = {
        "rule_files": [str(DOCKER / "alerts.yml")],
        "evaluation_interval": "1m",
        "tests": [{"interval": "1m", "input_series": series, "promql_expr_test": asked}],
    }
    (tmp_path / "test.yml").write_text(yaml.safe_dump(tests))
    done = subprocess.run([promtool, "test", "rules", str(tmp_path / "test.yml")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_state_in_which_it_fires() -> None:
    names = {rule["alert"] for group in read_yaml(DOCKER / "alerts.yml")["groups"] for rule in group["rules"]}
    assert names == set().union(*(expected for _, expected in STATES.values()))


def test_no_alert_depends_on_the_names_of_jobs_or_targets() -> None:
    for group in read_yaml(DOCKER / "alerts.yml")["groups"]:
        for rule in group["rules"]:
            assert "job=" not in rule["expr"]
            assert "up{" not in rule["expr"].replace("_up{", "")
