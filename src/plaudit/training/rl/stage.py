"""The reinforcement-learning stage: loads models, rewards and prompts, and builds the task."""

import logging

import torch

from plaudit.config.schema import ModelReward, RlConfig
from plaudit.data.rows import PromptRow
from plaudit.errors import PlauditError
from plaudit.models.context import context_length
from plaudit.models.heads.policy import PolicyModule
from plaudit.models.heads.scalar import ValueModule
from plaudit.models.trunk import unwrapped
from plaudit.rewards.sources import ComposedReward, build_reward
from plaudit.rewards.trained_model import RewardModelSource
from plaudit.rollouts.engines.model_engine import configured_engine
from plaudit.runs.context import StageContext
from plaudit.training.engine_weights import EngineWeights
from plaudit.training.examples import StageRows, load_stage_rows
from plaudit.training.rl.held_out import HeldOutPrompts
from plaudit.training.rl.iteration import Iteration
from plaudit.training.rl.prompts import PromptSchedule
from plaudit.training.rl.readings import build_policy_reading
from plaudit.training.rl.roles.adapter_reward import AdapterReward, is_adapter_on
from plaudit.training.rl.roles.adapters import AdapterRoles
from plaudit.training.rl.roles.base import Roles
from plaudit.training.rl.roles.build import build_roles, recompute_activations_of
from plaudit.training.rl.rollout_sampler import RolloutSampler
from plaudit.training.rl.scoring import Scorer
from plaudit.training.rl.task import RlTask

logger = logging.getLogger(__name__)


def load_rl_task(context: StageContext[RlConfig]) -> RlTask:
    """Return the stage's task."""
    config = context.config

    def load(device: torch.device) -> tuple[Roles, dict[str, RewardModelSource]]:
        roles = build_roles(config, device, context.seed)
        return roles, _rewards_on_the_base(config, roles)

    roles, made = context.strategy.load(load)
    if config.gradient_checkpointing:
        recompute_activations_of(roles)
    reward = build_reward(config.rewards, context.session.device, made, context.strategy.load)
    reward.check_tokenizer(roles.loaded.tokenizer)
    return build_rl_task(context, roles, reward, _load_prompts(context, roles, reward))


def build_rl_task(
    context: StageContext[RlConfig], roles: Roles, reward: ComposedReward, rows: StageRows[PromptRow]
) -> RlTask:
    """Build the task from loaded models, rewards and prompts."""
    config = context.config
    for module in (roles.module, *roles.frozen_modules(), *reward.modules):
        context.strategy.prepare(module)
    scorer = Scorer(context, reward)
    reading = build_policy_reading(context, roles)
    prompts = PromptSchedule(
        rows.train, config.prompts_per_iteration, config.responses_per_prompt, (context.seed, context.name)
    )
    engine = configured_engine(config.generation.engine, roles.loaded, context.session.processes)
    weights = EngineWeights(engine, context.strategy, roles.module["policy"])
    sampler = RolloutSampler(weights, config.generation, context.session)
    iteration = Iteration(config, roles, sampler, scorer, reading, context.seed)
    measured = rows.held_out[: config.held_out_prompts]
    if 0 < len(measured) < len(rows.held_out) and context.session.is_main:
        logger.info("rl: measures on %d of %d held-out prompts (held_out_prompts)", len(measured), len(rows.held_out))
    held_out = HeldOutPrompts(context, measured, prompts, sampler, scorer)
    return RlTask(context, iteration, prompts, held_out)


def _load_prompts(context: StageContext[RlConfig], roles: Roles, reward: ComposedReward) -> StageRows[PromptRow]:
    config, response = context.config, context.config.generation.max_new_tokens
    models = [part.model for part in roles.module.values() if isinstance(part, PolicyModule | ValueModule)]
    length = min(reward.context_length, *(context_length(unwrapped(model)) for model in models))
    if response >= length:
        raise PlauditError(
            f"rl.generation.max_new_tokens: {response} leaves no room for a prompt in {length} tokens, which all "
            "models of the stage can read; lower it"
        )
    if length < roles.loaded.context_length and context.session.is_main:
        logger.info("rl: prompts with their responses have at most %d tokens, which all models can read", length)
    rows = load_stage_rows(context, config.prompts, PromptRow, roles.loaded, length - response)
    if not rows.train:
        raise PlauditError(
            f"{context.name}: there are no prompts to answer; check the sources with `plaudit data inspect`"
        )
    return rows


def _rewards_on_the_base(config: RlConfig, roles: Roles) -> dict[str, RewardModelSource]:
    """Build the reward models that are adapters on the policy's base; others are loaded as separate models."""
    if not isinstance(roles, AdapterRoles):
        return {}
    made = {}
    for number, source in enumerate(config.rewards):
        if isinstance(source, ModelReward) and is_adapter_on(source.path, config.model):
            model = AdapterReward(source.path, roles, f"reward{number}")
            made[source.name] = RewardModelSource(source.name, model, source.batch_size)
    return made
