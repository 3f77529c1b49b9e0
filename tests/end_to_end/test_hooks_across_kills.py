"""What an agent changes in a hook is kept as what a message changes is: its worker is killed right behind it."""

import pytest

from agentplatform.lifecycle import Event
from agentplatform.messages import Arrival
from tests.end_to_end.test_errands_in_workers import Host
from tests.helpers.livers import Liver
from tests.helpers.two_runners import THERE


@pytest.mark.parametrize("noted", ["activation", "clone", "cloned other", "failed: nobody is there"])
async def test_a_hook_is_one_transaction(noted: str) -> None:
    async with Host("here") as here:
        birth, code = await here.create(Liver)
        agent = birth.agent
        if noted == "cloned other":
            here.runner.tell(agent, "on_cloned", "other")
        elif noted.startswith("failed"):
            await here.runner.capture(agent, THERE)
            here.runner.thaw(agent, "nobody is there")
        else:
            await (here.runner.clone(agent) if noted == "clone" else here.runner.deactivate(agent))
            here.runner.discard(agent)
            await here.runner.open(birth, code, here.kept.states[-1])
            here.runner.activate(agent, Arrival("here", 1, None), Event.CLONED if noted == "clone" else Event.ACTIVATE)
        await here.kept.next("checkpointed", noted)
        await here.kill_and_restore(birth, code, 2)
        hooks = await here.call(agent, "hooks")
        assert hooks.count(noted) == 1 and hooks[-1] == "arrival None"
