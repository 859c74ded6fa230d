from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import promql_parser
import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.metrics import Metrics
from tests.docker.parts import COMPOSE_FILES, DOCKER, read_yaml

DASHBOARD = DOCKER / "grafana" / "dashboards" / "video-scene-graph.json"
# The names of jobs are the operator's, so nothing may select by them: `up` and the label `job` are of no use here.
OF_SCRAPING = {"instance"}


def expressions() -> Iterator[str]:
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        yield from (target["expr"] for target in panel["targets"])
    for group in read_yaml(DOCKER / "alerts.yml")["groups"]:
        yield from (rule["expr"] for rule in group["rules"])


def selectors(expression: Any) -> Iterator[promql_parser.VectorSelector]:
    """The metrics that a parsed expression reads."""
    if isinstance(expression, promql_parser.VectorSelector):
        yield expression
    elif isinstance(expression, promql_parser.MatrixSelector):
        yield expression.vector_selector
    elif isinstance(expression, promql_parser.Call):
        for argument in expression.args:
            yield from selectors(argument)
    elif isinstance(expression, promql_parser.BinaryExpr):
        yield from selectors(expression.lhs)
        yield from selectors(expression.rhs)
    elif isinstance(expression, promql_parser.AggregateExpr | promql_parser.ParenExpr):
        yield from selectors(expression.expr)


@pytest.fixture(scope="module")
def exported() -> dict[str, set[str]]:
    """The labels of every series that the service can export, by name."""
    found: dict[str, set[str]] = {}
    for meter in vars(Metrics()).values():
        for family in getattr(meter, "describe", list)():
            labels = set(meter._labelnames) | OF_SCRAPING
            if family.type == "histogram":
                found |= {f"{family.name}_{part}": labels for part in ("sum", "count")}
                found[f"{family.name}_bucket"] = labels | {"le"}
            else:
                found[family.name + ("_total" if family.type == "counter" else "")] = labels
    return found


def test_every_metric_of_the_service_is_among_the_known_series(exported: dict[str, set[str]]) -> None:
    text = Metrics().exposition().decode()
    without_labels = {sample.name for family in text_string_to_metric_families(text) for sample in family.samples}
    assert {name for name in without_labels if not name.endswith("_created")} <= exported.keys()


@pytest.mark.parametrize("text", sorted(set(expressions())))
def test_every_metric_and_label_of_dashboard_and_alerts_exists(text: str, exported: dict[str, set[str]]) -> None:
    parsed = promql_parser.parse(text.replace("$__rate_interval", "1m"))
    read = list(selectors(parsed))
    assert read
    for selector in read:
        assert selector.name in exported
        assert {matcher.name for matcher in selector.matchers.matchers} <= exported[selector.name]
    for labels in re.findall(r"\bby \(([^)]*)\)", text):
        assert all(set(labels.split(", ")) <= exported[str(selector.name)] for selector in read)


def test_panels_use_the_data_source_that_is_provisioned() -> None:
    (source,) = read_yaml(DOCKER / "grafana" / "provisioning" / "datasources" / "prometheus.yml")["datasources"]
    panels = json.loads(DASHBOARD.read_text())["panels"]
    assert {target["datasource"]["uid"] for panel in panels for target in panel["targets"]} == {source["uid"]}


def test_prometheus_asks_the_services_of_the_compose_file_on_their_ports() -> None:
    services = read_yaml(COMPOSE_FILES[0])["services"]
    jobs = {job["job_name"]: job for job in read_yaml(DOCKER / "prometheus.yml")["scrape_configs"]}
    for name, port in (("api", 8000), ("worker", 9100)):
        (found,) = jobs[name]["dns_sd_configs"]
        assert found == {"names": [name], "type": "A", "port": port}
        assert name in services
    secret = jobs["api"]["authorization"]["credentials_file"].removeprefix("/run/secrets/")
    assert secret in services["prometheus"]["secrets"]


def test_no_two_panels_overlap() -> None:
    places = [panel["gridPos"] for panel in json.loads(DASHBOARD.read_text())["panels"]]
    assert len({(place["x"], place["y"]) for place in places}) == len(places)
    assert all(place["x"] % 8 == 0 and place["w"] == 8 for place in places)
