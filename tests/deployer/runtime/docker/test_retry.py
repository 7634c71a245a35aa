"""Quarantine of releases whose names are no semantic versions can be lifted."""

from __future__ import annotations

import pytest

from schemas.commands import Retry
from schemas.events import DeploymentRolledBack, DeploymentSucceeded, QuarantineLifted
from tests.deployer.runtime.docker.site import DockerSite

SILENT = "sleep 600"


@pytest.mark.parametrize(
    ("suffix", "good", "bad"),
    [(":latest", "latest", ("latest", "latest")), ("?calver=DD.0M.YYYY", "30.11.2025", ("2.01.2026", "15.01.2026"))],
    ids=["followed-tag", "calendar-version"],
)
async def test_a_release_that_is_no_semantic_version_is_retried_with_and_without_its_name(
    site: DockerSite, suffix: str, good: str, bad: tuple[str, str]
) -> None:
    site.options["registry"] = f"img://{site.source}/{site.repository}{suffix}"
    site.release(good)
    async with site.deployer(health_timeout=1.0, stop_timeout=0.1):
        await site.until(DeploymentSucceeded)
        failed = []
        for number, tag in enumerate(bad, 1):
            site.release(tag, SILENT, Labels={"number": str(number)})
            await site.until(DeploymentRolledBack, number)
            failed.append(site.of(DeploymentRolledBack)[-1].release)
        assert set((await site.decisions()).quarantined) == set(failed)
        refused = await site.ask(Retry("nothing"), ok=False)
        assert refused.message == f"release nothing is not quarantined; quarantined: {failed[1]}, {failed[0]}"
        await site.ask(Retry())
        await site.until(DeploymentRolledBack, 3)
        await site.ask(Retry(failed[0]))
    assert [event.release for event in site.of(QuarantineLifted)] == [failed[1], failed[0]]
