"""What nobody may do, and what a reader may not: checked by trying it, with a secret that must not come out."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from sinks.conftest import Server
    from sinks.embedded.conftest import Http

SECRET = "the secret of this host"
DENIED = {164, 344, 358, 446, 452, 497}

READS_A_FILE = [
    "SELECT file('SECRET')",
    "SELECT `f\\x69le`('SECRET')",
    "SELECT \"file\" ( 'SECRET' )",
    "SELECT FILE/**/('SECRET')",
    "SELECT (SELECT file('SECRET'))",
    "WITH file('SECRET') AS x SELECT x",
    "EXPLAIN SELECT file('SECRET')",
    "SELECT * APPLY file FROM (SELECT 'SECRET' AS x)",
    "SELECT * APPLY(`f\\x69le`) FROM (SELECT 'SECRET' AS x)",
    "SELECT * APPLY toString APPLY file FROM (SELECT 'SECRET' AS x)",
    "SELECT COLUMNS('x') APPLY(x -> file(x)) FROM (SELECT 'SECRET' AS x)",
    "SELECT arrayMap(x -> file(x), ['SECRET'])",
    "SELECT $a$ ' $a$, file('SECRET') AS `'`",
    "SELECT * FROM file('SECRET', 'LineAsString')",
    "SELECT * FROM view(SELECT * FROM file('SECRET', 'LineAsString'))",
    "SELECT * FROM viewExplain('EXPLAIN', '', (SELECT file('SECRET')))",
    "SELECT * FROM loop(file('SECRET', 'LineAsString'))",
    "DESCRIBE TABLE file('SECRET', 'LineAsString')",
    "SELECT * FROM filesystem('SECRET')",
    "SELECT * FROM sqlite('SECRET', 't')",
    "SELECT * FROM eval('SELECT file(''SECRET'')') SETTINGS allow_experimental_eval_table_function = 1",
    "SELECT * FROM format(Values, 'a String', '(file(''SECRET''))')",
    "SELECT * FROM format(Values, 'a String', concat('(fi', 'le(''SECRET''))'))",
    "SELECT * FROM format(Values, 'a String', '(file(''SECRET''))') "
    "SETTINGS input_format_values_interpret_expressions = 1",
    "SELECT 1 FORMAT Template SETTINGS format_template_row = 'SECRET'",
    "SELECT 1 FORMAT Template SETTINGS format_template_resultset = 'SECRET'",
    "SELECT 1 FORMAT ProtobufSingle SETTINGS format_schema = 'SECRET:x'",
    "SELECT 1 SETTINGS dialect = 'kusto'",
    "SELECT * FROM python('SECRET')",
]
REACHES_THE_NETWORK = [
    "SELECT * FROM url('NETWORK', 'CSV', 'a String')",
    "SELECT * FROM (SELECT * FROM url('NETWORK', 'CSV', 'a String'))",
    "SELECT * FROM s3('NETWORK/bucket/x', 'CSV', 'a String')",
    "SELECT * FROM s3('NETWORK/bucket/x', 'a', 'b', 'CSV', 'a String')",
    "SELECT * FROM gcs('NETWORK/bucket/x', 'CSV', 'a String')",
    "SELECT * FROM iceberg('NETWORK/bucket/x')",
    "SELECT * FROM deltaLake('NETWORK/bucket/x')",
    "SELECT * FROM hudi('NETWORK/bucket/x')",
    "SELECT * FROM azureBlobStorage('NETWORK', 'c', 'b', 'a', 'a2V5', 'CSV', 'auto', 'a String')",
    "SELECT * FROM hdfs('hdfs://127.0.0.1:1/x', 'CSV', 'a String')",
    "SELECT * FROM remote('127.0.0.1:1', 'system.one')",
    "SELECT * FROM remoteSecure('127.0.0.1:1', 'system.one')",
    "SELECT * FROM mysql('127.0.0.1:1', 'a', 'b', 'c', 'd')",
    "SELECT * FROM postgresql('127.0.0.1:1', 'a', 'b', 'c', 'd')",
    "SELECT * FROM mongodb('127.0.0.1:1', 'a', 'b', 'c', 'd', 'x String')",
    "SELECT * FROM redis('127.0.0.1:1', 'k', 'k String')",
]
WRITES_OUTSIDE = [
    "SELECT 1 INTO OUTFILE 'OUT'",
    "SELECT 1 FORMAT ProtobufSingle SETTINGS output_format_schema = 'OUT'",
    "INSERT INTO FUNCTION file('OUT', 'CSV', 'a Int8') SELECT 1",
    "INSERT INTO FUNCTION file('OUT', 'CSV', 'a Int8') VALUES (1)",
    "INSERT INTO TABLE FUNCTION file('OUT') FORMAT CSV\n1\n",
    "INSERT INTO FUNCTION url('NETWORK', 'CSV', 'a Int8') SELECT 1",
    "INSERT INTO FUNCTION s3('NETWORK/bucket/x', 'CSV', 'a Int8') SELECT 1",
    "BACKUP TABLE held TO File('OUT')",
    "INSERT INTO held FROM INFILE 'SECRET' FORMAT LineAsString",
    "INSERT INTO held SELECT file('SECRET')",
    "INSERT INTO held VALUES (file('SECRET'))",
    "INSERT INTO held FORMAT values (file('SECRET'))",
    "INSERT INTO held VALUES (`f\\x69le`('SECRET'))",
    "INSERT INTO held VALUES ((SELECT a FROM format(Values, 'a String', concat('(fi', 'le(''SECRET''))'))))",
]
DEFINES = [
    "CREATE TABLE bad (a String) ENGINE = File(LineAsString, 'SECRET')",
    "ATTACH TABLE bad (a String) ENGINE = File(LineAsString, 'SECRET')",
    "CREATE TABLE bad (a String) ENGINE = URL('NETWORK', CSV)",
    "CREATE TABLE bad (a String) ENGINE = `Exec\\x75table`('cat SECRET', LineAsString)",
    "CREATE TABLE bad (a String) ENGINE = Executable('cat SECRET', LineAsString)",
    "CREATE TABLE bad (a String) ENGINE = ExecutablePool('cat SECRET', LineAsString)",
    "CREATE TABLE bad (a String) ENGINE = EmbeddedRocksDB(0, 'OUT') PRIMARY KEY a",
    "CREATE TABLE bad (a String) ENGINE = Kafka('127.0.0.1:1', 'a', 'b', 'CSV')",
    "CREATE TABLE bad AS file('SECRET', 'LineAsString')",
    "CREATE TABLE bad (a String DEFAULT file('SECRET')) ENGINE = Memory",
    "CREATE TABLE bad (a Int8) ENGINE = MergeTree ORDER BY a SETTINGS disk = disk(type = 'local', path = 'OUT/')",
    "CREATE TABLE bad (a Int8) ENGINE = MergeTree ORDER BY a SETTINGS disk = disk(type = 'object_storage', "
    "object_storage_type = 'local', path = 'OUT/')",
    "CREATE TABLE bad (a Int8) ENGINE = MergeTree ORDER BY a SETTINGS disk = disk(type='web', endpoint='NETWORK')",
    "CREATE VIEW bad AS SELECT file('SECRET')",
    "CREATE MATERIALIZED VIEW bad TO held AS SELECT (SELECT a FROM format('Values', 'a String', "
    "concat('(fi', 'le(''SECRET''))'))) AS a FROM held",
    "CREATE FUNCTION bad AS x -> file(x)",
    "CREATE DATABASE bad ENGINE = Filesystem('SECRET')",
    "CREATE DATABASE bad ENGINE = SQLite('OUT')",
    "CREATE DATABASE bad ENGINE = Backup('x', File('OUT'))",
    "CREATE DATABASE bad ENGINE = MySQL('127.0.0.1:1', 'a', 'b', 'c')",
    "CREATE DATABASE bad ENGINE = DataLakeCatalog('NETWORK') SETTINGS warehouse = 'x', catalog_type = 'rest'",
    "ATTACH TABLE bad FROM 'SECRET' (a Int8) ENGINE = MergeTree ORDER BY a",
    *(
        f"CREATE DICTIONARY bad (a String) PRIMARY KEY a SOURCE({source}) LAYOUT(COMPLEX_KEY_HASHED()) LIFETIME(0)"
        for source in (
            "EXECUTABLE(COMMAND 'cat SECRET' FORMAT 'LineAsString')",
            "FILE(PATH 'SECRET' FORMAT 'LineAsString')",
            "HTTP(URL 'NETWORK' FORMAT 'LineAsString')",
            "CLICKHOUSE(QUERY 'SELECT file(''SECRET'') AS a')",
            "CLICKHOUSE(TABLE 'held' WHERE 'file(''SECRET'') != 1')",
            "CLICKHOUSE(TABLE 'held' HOST '127.0.0.1' PORT 1)",
        )
    ),
    "CREATE NAMED COLLECTION bad AS url = 'NETWORK'",
    "CREATE USER bad",
    "GRANT ALL ON *.* TO default",
    "SYSTEM SHUTDOWN",
    "SYSTEM ENABLE FAILPOINT terminate_with_exception",
    "SYSTEM START LISTEN HTTP",
]
ONLY_WRITES = [
    "CREATE TABLE other (a Int8) ENGINE = Memory",
    "CREATE TEMPORARY TABLE other (a Int8)",
    "INSERT INTO held VALUES ('x')",
    "INSERT INTO held FORMAT CSV\nx\n",
    "INSERT INTO held SELECT 'x'",
    "DROP TABLE held",
    "TRUNCATE TABLE held",
    "ALTER TABLE held DELETE WHERE 1",
    "DELETE FROM held WHERE 1",
    "OPTIMIZE TABLE held",
    "RENAME TABLE held TO other",
    "DETACH TABLE held",
    "KILL QUERY WHERE 1",
    "SYSTEM STOP MERGES",
    "SYSTEM FLUSH LOGS",
    "SET max_threads = 1",
    "USE system",
]


@pytest.fixture(scope="module", autouse=True)
def held(ann: "Http") -> None:
    """A table whose rows say whether somebody wrote."""
    assert ann("CREATE TABLE held (a String) ENGINE = MergeTree ORDER BY a").code == 0
    assert ann("INSERT INTO held VALUES ('kept')").code == 0


@pytest.fixture(scope="module")
def network() -> Iterator[tuple[str, list[str]]]:
    """The address of a server on this host, and who came."""
    visits: list[str] = []

    class Visited(BaseHTTPRequestHandler):
        def handle(self) -> None:
            visits.append(str(self.client_address))

    with HTTPServer(("127.0.0.1", 0), Visited) as listening:
        threading.Thread(target=listening.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{listening.server_port}", visits
        listening.shutdown()


@pytest.fixture
def attack(tmp_path: Path, network: tuple[str, list[str]], ann: "Http") -> "Attack":
    return Attack(tmp_path, *network, ann)


class Attack:
    """Statements that try to get at a file, to leave one behind, or to reach a server."""

    def __init__(self, folder: Path, address: str, visits: list[str], ann: "Http") -> None:
        self.secret, self.out = folder / "secret", folder / "out"
        self.secret.write_text(SECRET)
        self._address, self._visits, self._ann = address, visits, ann

    def run(self, http: "Http", sql: str) -> int:
        """Send it, prove that it got nowhere, and return its error code."""
        sql = sql.replace("SECRET", str(self.secret)).replace(
            "OUT",
            str(
                self.out,
            ),
        )
        reply = http(
            sql.replace("INTO " + str(self.out) + "FILE", "INTO OUTFILE").replace("NETWORK", self._address)
        )
        assert SECRET not in reply.text
        assert not self.out.exists()
        assert self._visits == []
        assert self._ann("SELECT groupArray(a) FROM held").text == "['kept']\n"
        assert self._ann("EXISTS TABLE bad").text == "0\n"
        return reply.code


@pytest.mark.parametrize("sql", [*READS_A_FILE, *REACHES_THE_NETWORK, *WRITES_OUTSIDE, *DEFINES])
def test_nobody_reaches_outside_the_data_path(ann: "Http", rob: "Http", attack: "Attack", sql: str) -> None:
    assert attack.run(rob, sql) in DENIED | {62, 78}
    assert attack.run(ann, sql) in DENIED | {62, 78}


@pytest.mark.parametrize("sql", ONLY_WRITES)
def test_a_reader_cannot_write(rob: "Http", attack: "Attack", sql: str) -> None:
    assert attack.run(rob, sql) == 164


@pytest.mark.parametrize("sql", ONLY_WRITES)
def test_a_get_cannot_write_whoever_sends_it(ann: "Http", attack: "Attack", sql: str) -> None:
    reply = ann(method="GET", parameters={"query": sql})

    assert reply.code == 164
    assert ann("SELECT groupArray(a) FROM held").text == "['kept']\n"


@pytest.mark.parametrize("name", ["readonly", "input_format_values_interpret_expressions", "dialect"])
def test_a_reader_cannot_lift_its_limits_by_a_setting(rob: "Http", name: str) -> None:
    assert (
        rob("SELECT 1", {name: "prql" if name == "dialect" else "0" if name == "readonly" else "1"}).code
        in DENIED
    )


def test_a_setting_of_its_own_is_a_readers_right(rob: "Http") -> None:
    reply = rob("SELECT getSetting('max_threads') SETTINGS max_block_size = 1000", {"max_threads": "3"})

    assert reply.text == "3\n"


def test_what_only_looks_dangerous_works(ann: "Http", rob: "Http") -> None:
    """Names and texts like those of the refused, as an analyst may have them."""
    statements = [
        "CREATE TABLE looks (`file` String, `disk` String, source String) ENGINE = MergeTree ORDER BY file",
        "INSERT INTO looks VALUES ('file(1)', 'select 1; select 2', '\\x41')",
        "INSERT INTO looks (`file`, `disk`, source) SELECT 'disk(1)', 'b', upper('c')",
        "INSERT INTO looks VALUES (upper('e'), toString(1 + 1), lower('F'))",
        "CREATE VIEW looked AS SELECT format('{}-{}', file, source) AS both FROM looks",
        "CREATE DICTIONARY looking (`file` String, source String) PRIMARY KEY file "
        "SOURCE(CLICKHOUSE(TABLE 'looks' DB 'default')) LAYOUT(COMPLEX_KEY_HASHED()) LIFETIME(0)",
    ]

    assert [ann(sql).text for sql in statements] == [""] * len(statements)
    assert rob("SELECT both FROM looked ORDER BY both").text == "E-f\ndisk(1)-C\nfile(1)-A\n"
    assert rob(
        "SELECT dictGet('looking', 'source', tuple('E')), 'a file ( of mine' FROM looks LIMIT 1"
    ).text == ("f\ta file ( of mine\n")
    assert rob("SELECT count(file), max(disk), (file), 1 IN (1) FROM looks GROUP BY file LIMIT 1").code == 0


def test_a_web_page_cannot_send_statements(guarded: "Server", ann: "Http") -> None:
    assert ann("SELECT 1", headers={"Origin": "https://evil.example"}).status == 403
    assert ann("SELECT 1", headers={"Origin": f"http://127.0.0.1:{guarded.port}"}).code == 0
