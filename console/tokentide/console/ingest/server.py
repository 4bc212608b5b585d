"""The door as a program: listens, says that it is ready, and stops in order."""

import asyncio
import logging
import signal
import socket
from collections.abc import AsyncIterator, Generator
from contextlib import asynccontextmanager, contextmanager

from tokentide.console.broker import reach
from tokentide.console.ingest.keys import KeyRing
from tokentide.console.ingest.settings import IngestSettings, base_url
from tokentide.console.log import log_to_stderr
from tokentide.schemas import ServiceUnavailableError, SettingsError

__all__ = ["run_ingest"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_BACKLOG = 2048
# Longer than the minute for which load balancers keep a connection: they, not we, close it.
_KEEP_ALIVE_SECONDS = 75
_STOP_SPARE_SECONDS = 5


def run_ingest(settings: IngestSettings) -> None:
    """Serve until SIGINT, SIGTERM or SIGHUP; prints `ready http://HOST:PORT` first.

    To be called in the main thread. After a signal it takes no new request, and returns when those that are inside
    have their answer. Raises SettingsError for keys, an address or a topic that cannot be used, and
    ServiceUnavailableError when Kafka does not answer at the start, or librdkafka can never send again.
    """
    keys = KeyRing.read(settings)
    if settings.topic not in reach(settings.kafka).metadata.topics:
        raise SettingsError(
            f"The topic {settings.topic} does not exist on {settings.kafka.broker}; create it with "
            "`tokentide topics init`."
        )
    log_to_stderr()
    # Its warnings are about what clients send: two for each request of Java's HttpClient, which offers HTTP/2.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    with _listen(settings) as listener:
        asyncio.run(_serve(settings, keys, listener))


async def _serve(settings: IngestSettings, keys: KeyRing, listener: socket.socket) -> None:
    try:
        import uvicorn
    except ImportError as error:
        raise ImportError(
            f"The HTTP door needs uvicorn ({error}): pip install 'tokentide[ingest]'"
        ) from error

    from tokentide.console.ingest.app import make_app
    from tokentide.console.ingest.connection import Connection
    from tokentide.console.ingest.door import Door
    from tokentide.console.ingest.outlet import Outlet

    class Server(uvicorn.Server):
        """Leaves signals to us, and tells when it answers."""

        @contextmanager
        def capture_signals(self) -> Generator[None]:
            for number in _SIGNALS:
                loop.add_signal_handler(number, self.stop)
            yield
            for number in _SIGNALS:
                loop.remove_signal_handler(number)

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            host, port = listener.getsockname()[:2]
            print(f"ready {base_url(host, port)}", flush=True)

        def stop(self) -> None:
            self.should_exit = True

    def give_up(reason: str) -> None:
        fatal.append(reason)
        loop.call_soon_threadsafe(lambda: server.stop())  # it may not be made yet

    @asynccontextmanager
    async def lifespan(_app: object) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(outlet.close)

    loop = asyncio.get_running_loop()
    fatal: list[str] = []
    outlet = Outlet(settings.producer(), give_up)
    app = make_app(Door(settings, keys, outlet), outlet)
    app.router.lifespan_context = lifespan
    server = Server(
        uvicorn.Config(
            app,
            http=Connection,
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            ws="none",
            lifespan="on",
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=int(settings.ack_timeout_seconds) + _STOP_SPARE_SECONDS,
        )
    )
    await server.serve([listener])
    if fatal:
        raise ServiceUnavailableError(f"librdkafka gave up ({fatal[0]}); start the door again.")


def _listen(settings: IngestSettings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=_BACKLOG)
    except (OSError, OverflowError) as error:
        raise SettingsError(
            f"{settings.host}:{settings.port} cannot be listened on ({error}); stop what listens there, or take "
            "another with --host and --port."
        ) from error
