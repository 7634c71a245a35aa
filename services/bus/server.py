"""The embedded nats-server as a supervised child process."""

from __future__ import annotations

from services.bus import binary, configuration
from services.bus.permissions import ADMIN
from services.common import credentials
from services.common.bus import Bus
from services.common.errors import BusError
from services.common.processes import Child, ended_how
from services.common.settings import Settings

STOP_TIMEOUT = 10.0


class Server:
    """nats-server with JetStream under a state directory, on loopback, started again when it dies."""

    def __init__(self, settings: Settings, nats_server: str = "") -> None:
        self._settings = settings
        self._program = nats_server
        self._child: Child | None = None
        self._failure = ""

    @property
    def pid(self) -> int:
        return self._child.pid if self._child else 0

    async def start(self) -> None:
        """Return when the server answers and has its stream and buckets. Raises BusError."""
        config = configuration.prepare(self._settings.state_dir)
        program = binary.find(self._program)
        self._child = Child("bus", [program, "--config", str(config)], on_exit=self._note)
        await self._child.start()
        try:
            await self._create_streams()
        except BusError as error:
            await self.stop()
            log = config.with_name("nats.log")
            why = f"nats-server ends with {self._failure}" if self._failure else str(error)
            raise BusError(f"the embedded bus does not start: {why}; see {log}") from None

    async def stop(self) -> None:
        """End the server; what it stored stays."""
        if self._child:
            await self._child.stop(STOP_TIMEOUT)

    async def _create_streams(self) -> None:
        account = credentials.find(self._settings, ADMIN)
        bus = await Bus.connect(ADMIN, account, self._settings.bus_timeout)
        try:
            await bus.ensure()
        finally:
            await bus.close()

    def _note(self, _name: str, code: int) -> None:
        self._failure = ended_how(code)
