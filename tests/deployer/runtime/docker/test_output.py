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
