"""The reinforcement-learning stage: load the roles, the reward and the prompts, and hand them to the loop."""

from plaudit.config.schema import ModelReward, RlConfig
from plaudit.data.rows import PromptRow
from plaudit.errors import PlauditError
from plaudit.rewards.sources import build_reward
from plaudit.rewards.trained_model import RewardModelSource
from plaudit.runs.directory import StageDirectory
from plaudit.runs.session import Session
from plaudit.training.examples import load_examples
from plaudit.training.rl.adapter_reward import AdapterReward, is_adapter_on
from plaudit.training.rl.roles import AdapterRoles, Roles, build_roles
from plaudit.training.rl.task import RlTask


def load_rl_task(config: RlConfig, session: Session, stage: StageDirectory) -> RlTask:
    """Return the stage's task."""
    if config.generation.temperature == 0:
        raise PlauditError("rl.generation.temperature: learning needs sampled responses; choose a temperature above 0")
    roles = build_roles(config, session.device, session.recipe.seed)
    if config.value_learning_rate is not None and not roles.value_parameters():
        raise PlauditError(
            f"rl.value_learning_rate: with weights={config.weights}, objective={config.objective} and "
            f"advantages={config.advantages} no weights belong to a value function alone; remove it, or choose "
            "weights=separate or weights=adapters with advantages=gae"
        )
    reward = build_reward(config.rewards, session.device, _rewards_on_the_base(config, roles))
    reward.check_tokenizer(roles.loaded.tokenizer)
    room, context = config.generation.max_new_tokens, roles.loaded.context_length
    if room >= context:
        raise PlauditError(
            f"rl.generation.max_new_tokens: {room} leaves no room for a prompt in the context of {context} tokens; "
            "lower it"
        )
    examples = load_examples(config.prompts, PromptRow, roles.loaded, session, stage, room)
    return RlTask(config, roles, reward, examples, session, stage)


def _rewards_on_the_base(config: RlConfig, roles: Roles) -> dict[str, RewardModelSource]:
    """Return the reward models that are adapters on the policy's base; others are loaded as models of their own."""
    if not isinstance(roles, AdapterRoles):
        return {}
    made = {}
    for number, source in enumerate(config.rewards):
        if isinstance(source, ModelReward) and is_adapter_on(source.path, config.model):
            model = AdapterReward(source.path, roles, f"reward{number}")
            made[source.name] = RewardModelSource(source.name, model, source.batch_size)
    return made
