"""The reinforcement-learning stage: load the roles, the reward and the prompts, and hand them to the loop."""

from plaudit.config.schema import RlConfig
from plaudit.errors import PlauditError
from plaudit.models.roles import build_roles
from plaudit.rewards.sources import build_reward
from plaudit.training.examples import load_examples
from plaudit.training.rl.task import RlTask
from plaudit.training.run_directory import StageDirectory
from plaudit.training.session import Session


def load_rl_task(config: RlConfig, session: Session, stage: StageDirectory) -> RlTask:
    """Return the stage's task."""
    if session.recipe.distributed in ("fsdp", "zero3"):
        raise PlauditError("rl: generation needs whole weights in every process; use distributed=ddp or zero2")
    if config.generation.temperature == 0:
        raise PlauditError("rl.generation.temperature: learning needs sampled responses; choose a temperature above 0")
    roles = build_roles(config, session.device, session.recipe.seed)
    reward = build_reward(config.rewards, session.device)
    reward.check_tokenizer(roles.loaded.tokenizer)
    room = config.generation.max_new_tokens
    examples = load_examples(config.prompts, "prompt", roles.loaded, session, stage, room)
    return RlTask(config, roles, reward, examples, session, stage)
