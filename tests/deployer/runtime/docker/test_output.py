"""What containers print, as the engine has it, and after they are removed."""

from __future__ import annotations

import asyncio
import itertools

from schemas.events import ReplicaExited
from schemas.output import ReadLogs
from tests.deployer.output.reading import everything, following
from tests.deployer.runtime.docker.site import DockerSite
from tests.deployer.waiting import DEADLINE, eventually

PRINTS = """
echo before; echo problem >&2
trap 'printf unfinished; exit 5' USR1
n=0
while [ $n -lt 1000000 ]; do n=$((n+1)); echo tick $n; sleep 0.1; done
"""


LONG = 100 << 10
"""Bytes of a line: the engine sends it in seven messages."""
RESTARTED = f"""
head -c {LONG} /dev/zero | tr '\\0' x; echo
echo run $(cat /proc/uptime)
httpd -p 8080 -h /www
trap 'exit 3' USR1
while :; do sleep 0.1; done
"""


async def test_a_container_is_followed_over_its_restarts_and_its_long_lines_come_in_pieces(
    site: DockerSite,
) -> None:
    site.release("1.0.0", RESTARTED)
    async with site.deployer(docker_args=["--restart", "always"]), asyncio.timeout(3 * DEADLINE):
        (replica,) = await site.until_serving("1.0.0")
        found: list[bytes] = []
        ends = [
            # Not `kill`: after it, the engine restarts nothing.
            lambda: site.engine.exec_start(site.engine.exec_create(replica, ["kill", "-USR1", "1"])["Id"]),
            lambda: site.engine.restart(replica, timeout=0),
            lambda: None,
        ]
        async with following(site.bus, ReadLogs(replicas=[replica], follow=True)) as present:
            async for line in present:
                found.append(line.text)
                if line.text.startswith(b"run "):
                    await asyncio.to_thread(ends.pop(0))
                if not ends:
                    break
        assert b"".join(one for one in found if not one.startswith(b"run ")) == b"x" * LONG * 3
        assert {len(one) for one in found if one.startswith(b"x")} == {16 << 10, LONG % (16 << 10)}
        assert len({one for one in found if one.startswith(b"run ")}) == 3


async def test_the_output_of_a_container_is_read_followed_and_kept_after_its_end(site: DockerSite) -> None:
    site.release("1.0.0", PRINTS)
    async with site.deployer(health_path="", settle=0.1, dial="host"), asyncio.timeout(2 * DEADLINE):
        (replica,) = await eventually(lambda: [name for name, state in site.containers().items() if state == "running"])
        await eventually(lambda: b"tick 1" in site.engine.logs(replica))
        lines, _ = await everything(site.bus, ReadLogs(replicas=[replica]))
        assert {(line.text, line.is_error) for line in lines} >= {(b"before", False), (b"problem", True)}
        assert all(one.time <= two.time for one, two in itertools.pairwise(lines))
        numbers: list[int] = []
        async with following(site.bus, ReadLogs(replicas=[replica], tail=1, follow=True)) as present:
            async for line in present:
                numbers.append(int(line.text.split()[1]))
                if len(numbers) == 20:
                    break
        assert numbers == list(range(numbers[0], numbers[0] + 20))
        site.engine.kill(replica, "USR1")
        exit_ = await site.until(ReplicaExited)
        assert (exit_.code, exit_.output.splitlines()[-1]) == (5, "unfinished")
        lines, _ = await everything(site.bus, ReadLogs(replicas=[replica]))
        assert lines[-1].text == b"unfinished"
        assert lines[-1].time > lines[0].time > 1e9
