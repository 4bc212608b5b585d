"""The metrics server: it shows the last snapshot, and no name that is not documented."""

import re
import urllib.request

import pytest

from tokentide.console.kafka.ports import free_ports
from tokentide.schemas import Environment, SettingsError
from tokentide.schemas.gauge import Gauge, MetricsSettings
from tokentide.streams.metrics import MetricsServer


@pytest.fixture(scope="module")
def port() -> int:
    """A port that nobody else is given."""
    return free_ports(1)[0]


@pytest.fixture(scope="module")
def server(port: int) -> MetricsServer:
    """A server that lives as long as this process."""
    return MetricsServer(MetricsSettings(port))


def shown(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text: str = answer.read().decode()
        return "\n".join(re.findall(r"^.*tokentide_.*$", text, re.MULTILINE))


def test_the_last_snapshot_is_served_whatever_the_order_of_labels(server: MetricsServer, port: int) -> None:
    server.show([Gauge("tokentide_partitions", {"topic": "old"}, 9)])
    server.show(
        [
            Gauge("tokentide_position", {"topic": "a", "partition": "1"}, 3),
            Gauge("tokentide_rejected_total", {}, 2),
            Gauge("tokentide_position", {"partition": "2", "topic": "a"}, 4),
        ]
    )

    assert shown(port) == (
        "# HELP tokentide_position Offset of the next record that the stage takes.\n"
        "# TYPE tokentide_position gauge\n"
        'tokentide_position{partition="1",topic="a"} 3.0\n'
        'tokentide_position{partition="2",topic="a"} 4.0\n'
        "# HELP tokentide_rejected_total Records that were refused.\n"
        "# TYPE tokentide_rejected_total counter\n"
        "tokentide_rejected_total 2.0"
    )


def test_a_name_that_nobody_documented_is_refused_and_the_last_snapshot_stays(
    server: MetricsServer, port: int
) -> None:
    server.show([Gauge("tokentide_rejected_total", {}, 7)])

    with pytest.raises(KeyError, match="tokentide_tpyo"):
        server.show([Gauge("tokentide_tpyo", {}, 1)])

    assert shown(port).endswith("tokentide_rejected_total 7.0")


@pytest.mark.parametrize("settings", [MetricsSettings(70_000), MetricsSettings(9464, "nowhere.invalid")])
def test_an_address_that_cannot_be_served_is_named(settings: MetricsSettings) -> None:
    with pytest.raises(SettingsError, match=f"cannot be served at {settings.host}:{settings.port} .*; stop"):
        MetricsServer(settings)


def test_the_settings_come_from_the_environment_and_are_off_by_default() -> None:
    environment = Environment({"TOKENTIDE_METRICS_PORT": "9464", "TOKENTIDE_METRICS_HOST": "0.0.0.0"})

    assert MetricsSettings.read(environment) == MetricsSettings(9464, "0.0.0.0")
    assert MetricsSettings.read(Environment({})) == MetricsSettings(0, "127.0.0.1")
