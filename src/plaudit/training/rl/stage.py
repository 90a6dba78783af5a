"""The reinforcement-learning stage: load the roles, the reward and the prompts, and hand them to the loop."""

from plaudit.config.schema import ModelReward, RlConfig
from plaudit.data.rows import PromptRow
from plaudit.errors import PlauditError
from plaudit.rewards.sources import build_reward
from plaudit.rewards.trained_model import RewardModelSource
from plaudit.runs.context import StageContext
from plaudit.training.examples import load_stage_rows
from plaudit.training.rl.adapter_reward import AdapterReward, is_adapter_on
from plaudit.training.rl.roles import AdapterRoles, Roles, build_roles
from plaudit.training.rl.task import RlTask


def load_rl_task(context: StageContext[RlConfig]) -> RlTask:
    """Return the stage's task."""
    config, session = context.config, context.session
    if config.generation.temperature == 0:
        raise PlauditError("rl.generation.temperature: training needs sampled responses; choose a temperature above 0")
    roles = build_roles(config, session.device, context.seed)
    if config.value_learning_rate is not None and not roles.value_parameters():
        raise PlauditError(
            f"rl.value_learning_rate: with weights={config.weights}, objective={config.objective} and "
            f"advantages={config.advantages} no weights belong to a value function alone; remove it, or choose "
            "weights=separate or weights=adapters with advantages=gae"
        )
    reward = build_reward(config.rewards, session.device, _rewards_on_the_base(config, roles))
    reward.check_tokenizer(roles.loaded.tokenizer)
    room, length = config.generation.max_new_tokens, roles.loaded.context_length
    if room >= length:
        raise PlauditError(
            f"rl.generation.max_new_tokens: {room} leaves no room for a prompt in the context of {length} tokens; "
            "lower it"
        )
    prompts = load_stage_rows(context, config.prompts, PromptRow, roles.loaded, room)
    return RlTask(context, roles, reward, prompts)


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
