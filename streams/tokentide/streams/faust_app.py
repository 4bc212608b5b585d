"""The Faust app of a worker: what is set, and why."""

import asyncio
import ssl
from typing import Any

import faust
import yarl
from mode.utils.queues import FlowControlEvent

from tokentide.schemas import KafkaSettings, SettingsError
from tokentide.streams.transport import Assignments, ChunkTransport
from tokentide.streams.worker_settings import WorkerSettings

__all__ = ["make_app"]


def make_app(settings: WorkerSettings, assignments: Assignments) -> faust.App:
    """Return an app on the chunk transport, for the running loop.

    Raises SettingsError for a security protocol that Kafka does not have.
    """
    settings.work_dir.mkdir(parents=True, exist_ok=True)
    session = settings.session_timeout_seconds
    urls = [yarl.URL(f"kafka://{address.strip()}") for address in settings.kafka.broker.split(",")]
    app = faust.App(
        settings.group,
        broker=urls,
        broker_credentials=_credentials(settings.kafka),
        broker_session_timeout=session,
        broker_heartbeat_interval=session / 10,
        broker_request_timeout=max(40.0, session * 1.5),
        broker_rebalance_timeout=session,
        broker_commit_interval=0.5,
        broker_max_poll_records=settings.chunk_records * 2,
        consumer_auto_offset_reset="earliest",
        # A leader that moved while a partition without a commit was opened is asked again only when it is known:
        # aiokafka refreshes no metadata then, and all that is fetched from that node waits.
        consumer_metadata_max_age_ms=5000,
        consumer_group_instance_id=settings.name,
        consumer_max_fetch_size=2 * 1024 * 1024,
        stream_buffer_maxsize=4,
        stream_recovery_delay=0.0,
        stream_wait_empty=False,
        store="memory://",
        datadir=str(settings.work_dir / "faust"),
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_enabled=False,
        loop=asyncio.get_running_loop(),
    )
    app.transport = ChunkTransport(urls, app, loop=app.loop, assignments=assignments)
    # A cached property of the app, which has no other way in; before any topic is declared.
    app.__dict__["flow_control"] = SafeFlow(loop=app.loop)
    return app


class SafeFlow(FlowControlEvent):
    """Flow control that clears the queues only when it was suspended.

    Stock `resume()` clears them always: after a recovery it threw away the first events that were fetched.
    """

    def resume(self) -> None:
        """Go on."""
        was_suspended = self._suspend.is_set()
        self._suspend.clear()
        self._resume.set()
        if was_suspended:
            self.clear()


def _credentials(kafka: KafkaSettings) -> Any:
    """Return the credentials as Faust wants them; raises SettingsError for a protocol that Kafka does not have."""
    protocol = kafka.security_protocol
    if protocol not in ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"):
        raise SettingsError(
            f"TOKENTIDE_KAFKA_SECURITY_PROTOCOL={protocol} must be PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL"
        )
    context = ssl.create_default_context(cafile=kafka.ssl_ca_location) if protocol.endswith("SSL") else None
    if protocol.startswith("SASL"):
        return faust.SASLCredentials(
            username=kafka.sasl_username,
            password=kafka.sasl_password,
            mechanism=kafka.sasl_mechanism or "PLAIN",
            ssl_context=context,
        )
    return faust.SSLCredentials(context) if context is not None else None
