"""The engine's own configuration: what no statement may do, whoever sends it."""

from pathlib import Path

__all__ = ["ENGINES", "write_configuration"]

# No source is granted (file, url, s3, remote, ...), nothing that runs programs, and no engine that reaches
# outside the data path.
_PRIVILEGES = (
    "SELECT, INSERT, ALTER TABLE, ALTER VIEW, CREATE DATABASE, CREATE TABLE, CREATE VIEW, CREATE DICTIONARY, "
    "CREATE ARBITRARY TEMPORARY TABLE, DROP DATABASE, DROP TABLE, DROP VIEW, DROP DICTIONARY, UNDROP TABLE, "
    "TRUNCATE, OPTIMIZE, KILL QUERY, SHOW, dictGet, CHECK, SYSTEM MERGES, SYSTEM TTL MERGES, SYSTEM VIEWS, "
    "SYSTEM FLUSH, SYSTEM DROP CACHE, SYSTEM RELOAD DICTIONARY, SYSTEM WAIT LOADING PARTS"
)
ENGINES = (
    "MergeTree",
    "ReplacingMergeTree",
    "CoalescingMergeTree",
    "SummingMergeTree",
    "AggregatingMergeTree",
    "CollapsingMergeTree",
    "VersionedCollapsingMergeTree",
    "Atomic",
    "Memory",
    "Log",
    "TinyLog",
    "StripeLog",
    "Null",
    "Buffer",
    "Set",
    "Join",
    "Merge",
    "Dictionary",
    "View",
    "MaterializedView",
    "GenerateRandom",
)

# Settings that name a file, a program or an address, or that change what the engine reads in a statement:
# they have these values, and nobody can change them.
_FIXED = {
    "allow_experimental_ai_functions": "0",
    "allow_experimental_eval_table_function": "0",
    "allow_introspection_functions": "0",
    "allow_python_table_function": "0",
    "dialect": "clickhouse",
    "dynamic_disk_allow_from_env": "0",
    "dynamic_disk_allow_from_zk": "0",
    "dynamic_disk_allow_include": "0",
    "enable_json_ast_dialect": "0",
    "enable_trino_dialect": "0",
    "format_avro_schema_registry_url": "",
    "format_schema": "",
    "format_schema_source": "file",
    "format_template_resultset": "",
    "format_template_row": "",
    "implicit_select": "0",
    "implicit_table_at_top_level": "",
    "input_format_record_errors_file_path": "",
    # The rows of VALUES are literals, unless the server itself allows more: see Engine.insert.
    "input_format_values_deduce_templates_of_expressions": "0",
    "input_format_values_interpret_expressions": "0",
    "jemalloc_enable_profiler": "0",
    "max_parser_backtracks": "1000000",
    "max_parser_depth": "1000",
    "output_format_schema": "",
    "rename_files_after_processing": "",
}

# An asynchronous insert is held in memory whole, and merged with others: its rows then share their limits.
_USERS = """<clickhouse>
  <profiles>
    <default>
      <async_insert>0</async_insert>
{values}
      <constraints>
{constraints}
      </constraints>
    </default>
  </profiles>
  <quotas><default/></quotas>
  <users>
    <default>
      <password/>
      <networks><ip>::/0</ip></networks>
      <profile>default</profile>
      <quota>default</quota>
      <grants>
{grants}
      </grants>
    </default>
  </users>
</clickhouse>
"""
_CONFIG = """<clickhouse>
  <user_directories><users_xml><path>{users}</path></users_xml></user_directories>
  <access_control_improvements>
    <table_engines_require_grant>true</table_engines_require_grant>
  </access_control_improvements>
</clickhouse>
"""


def write_configuration(folder: Path) -> Path:
    """Write the engine's configuration into `folder` and return the file to start it with."""
    statements = [
        f"GRANT {_PRIVILEGES} ON *.*",
        *(f"GRANT TABLE ENGINE ON {engine}" for engine in ENGINES),
    ]
    folder.mkdir(parents=True, exist_ok=True)
    users = folder / "users.xml"
    users.write_text(
        _USERS.format(
            values="\n".join(f"      <{name}>{value}</{name}>" for name, value in _FIXED.items() if value),
            constraints="\n".join(f"        <{name}><const/></{name}>" for name in _FIXED),
            grants="\n".join(f"        <query>{text}</query>" for text in statements),
        )
    )
    config = folder / "config.xml"
    config.write_text(_CONFIG.format(users=_xml(str(users))))
    return config


def _xml(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")
