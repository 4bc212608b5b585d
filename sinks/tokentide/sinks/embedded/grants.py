"""The engine's own configuration: what no statement may do, whoever sends it."""

from pathlib import Path

__all__ = ["write_configuration"]

# No source is granted (file, url, s3, remote, ...), and no engine that reaches outside the data path.
_PRIVILEGES = (
    "SELECT, INSERT, ALTER, CREATE, DROP, UNDROP TABLE, TRUNCATE, OPTIMIZE, KILL QUERY, "
    "SHOW, SYSTEM, dictGet, CHECK"
)
_TABLE_ENGINES = (
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
    "EmbeddedRocksDB",
)

_USERS = """<clickhouse>
  <profiles><default/></profiles>
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
        "REVOKE SYSTEM SHUTDOWN ON *.*",
        *(f"GRANT TABLE ENGINE ON {engine}" for engine in _TABLE_ENGINES),
    ]
    folder.mkdir(parents=True, exist_ok=True)
    users = folder / "users.xml"
    users.write_text(_USERS.format(grants="\n".join(f"        <query>{text}</query>" for text in statements)))
    config = folder / "config.xml"
    config.write_text(_CONFIG.format(users=_xml(str(users))))
    return config


def _xml(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")
