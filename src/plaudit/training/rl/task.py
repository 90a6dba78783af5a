"""Reinforcement learning as a task of the loop: an iteration collects experience, then goes over it in minibatches."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from plaudit.algorithms.catalogue import ADVANTAGES
from plaudit.algorithms.kl_controllers import AdaptiveKl, FixedKl
from plaudit.algorithms.rewards import RunningMoments
from plaudit.algorithms.value_losses import clipped_value_loss
from plaudit.batching.batches import Batch
from plaudit.batching.ragged import to_rows
from plaudit.batching.trees import Example, PromptTree
from plaudit.config.schema import RlConfig
from plaudit.data.rows import PromptRow
from plaudit.data.tokenization import TokenizedRow
from plaudit.errors import PlauditError
from plaudit.models.heads.log_probabilities import Extras
from plaudit.models.saving import save_model
from plaudit.rewards.sources import ComposedReward
from plaudit.rollouts.engines.transformers import TransformersEngine
from plaudit.rollouts.samples import Request
from plaudit.runs.context import StageContext
from plaudit.runs.jsonl import JsonLinesWriter
from plaudit.seeding import derived_seed, python_generator
from plaudit.training.examples import Order, StageRows
from plaudit.training.health_checks import warn_about_rollouts
from plaudit.training.metric_sums import MetricSums
from plaudit.training.rl.experience import Experience
from plaudit.training.rl.experience_builder import ExperienceBuilder, policy_metrics
from plaudit.training.rl.objectives import MicroBatch, StepUnits, policy_objective
from plaudit.training.rl.on_policy import StepReadings
from plaudit.training.rl.roles import Roles
from plaudit.training.rl.rollout_sampler import Requests, RolloutSampler
from plaudit.training.token_budget import TokenBudget

logger = logging.getLogger(__name__)
SHOWN_SAMPLES = 8


class RlTask:
    """PPO and its relatives. An optimizer step is a minibatch; a line of metrics is an iteration."""

    headline_metric = "reward/mean"

    def __init__(
        self,
        context: StageContext[RlConfig],
        roles: Roles,
        reward: ComposedReward,
        prompts: StageRows[PromptRow],
    ) -> None:
        if not prompts.train:
            raise PlauditError(
                f"{context.name}: there is no prompt to answer; check the sources with `plaudit data inspect`"
            )
        config = context.config
        self.context, self.session = context, context.session
        self.config, self.roles, self.reward = config, roles, reward
        self.module, self.layout = roles.module, roles.loaded.layout
        self.prompts, self.held_out = prompts.train, prompts.held_out[: config.held_out_prompts]
        self.engine = TransformersEngine(roles.loaded)
        uses_greedy = config.objective == "policy_gradient" and ADVANTAGES[config.advantages].uses_greedy
        self.generation = RolloutSampler(context, roles, self.engine, reward, uses_greedy)
        self.collector = ExperienceBuilder(
            config, roles, self.generation, self.session, TokenBudget(config.token_budget)
        )
        self.order = Order(len(self.prompts), config.prompts_per_iteration, (context.seed, context.name))
        self.steps_per_iteration = config.epochs * config.minibatches
        self.steps = config.iterations * self.steps_per_iteration
        target = config.kl.target
        self.controller = (
            FixedKl(config.kl.coefficient)
            if target is None
            else AdaptiveKl(config.kl.coefficient, target, config.kl.horizon)
        )
        self.reward_moments = RunningMoments()
        self.experience: Experience | None = None
        self.collected: dict[str, float] = {}
        self.readings: StepReadings | None = None
        self.sums = MetricSums()
        self.prompts_drawn = 0
        self.units = StepUnits(1, 1, 1, 1, 1)
        self.over_budget = False
        self.warned: set[str] = set()

    def learning_rates(self) -> dict[str, float]:
        """The weights that only the value function has may learn at a separate rate."""
        rate = self.config.value_learning_rate
        return {} if rate is None else dict.fromkeys(self.roles.value_parameters(), rate)

    # An iteration ----------------------------------------------------------------------------------------------------

    def begin_step(self, step: int) -> Sequence[Example[None]]:
        """Collect experience when an iteration begins; return this process's shard of the step's minibatch."""
        iteration, place = self._iteration(step), (step - 1) % self.steps_per_iteration
        if place == 0:
            self._collect(iteration)
        if self.over_budget:
            return []
        assert self.experience is not None
        trees = self._minibatch(iteration, *divmod(place, self.config.minibatches))
        self.units = StepUnits.of(trees, self.experience)
        return [Example(tree, None) for tree in self.session.shard(trees)]

    def _collect(self, iteration: int) -> None:
        self.experience, self.collected = self.collector.collect(self._draw, self.controller, self.reward_moments)
        self.sums = MetricSums()
        self.readings = None if self.collector.asks_policy else StepReadings()
        budget = self.config.kl.budget
        self.over_budget = budget is not None and self.collected["kl"] > budget
        if self.session.is_main and self.over_budget:
            kl = self.collected["kl"]
            logger.warning("iteration %d: KL %.2f exceeds the budget %s: the stage ends here", iteration, kl, budget)

    def _draw(self, count: int) -> list[Requests]:
        """Return requests for the next prompts; an epoch that runs out goes on with the next one."""
        requests = []
        for place in range(self.prompts_drawn, self.prompts_drawn + count):
            epoch, offset = divmod(place, len(self.prompts))
            batch, within = divmod(offset, self.config.prompts_per_iteration)
            index = self.order.batch(epoch * self.order.steps_per_epoch + batch + 1)[within]
            requests.append(self._requests(self.prompts[index], "rollout", place))
        self.prompts_drawn += count
        return requests

    def _requests(self, prompt: TokenizedRow[PromptRow], *key: int | str) -> list[Request]:
        return [
            Request.of(prompt, derived_seed(self.context.seed, self.context.name, *key, sample))
            for sample in range(self.config.responses_per_prompt)
        ]

    def _minibatch(self, iteration: int, epoch: int, minibatch: int) -> list[PromptTree]:
        assert self.experience is not None
        order = list(range(len(self.experience.trees)))
        python_generator(self.context.seed, "minibatches", iteration, epoch).shuffle(order)
        return [self.experience.trees[index] for index in order[minibatch :: self.config.minibatches]]

    def _iteration(self, step: int) -> int:
        return (step - 1) // self.steps_per_iteration + 1

    # Losses ----------------------------------------------------------------------------------------------------------

    def losses(self, batch: Batch, targets: Sequence[None], sums: MetricSums) -> Iterator[Tensor]:
        """Yield the policy's loss and, with a separate value function, the value loss."""
        assert self.experience is not None
        part = MicroBatch.of(batch, self.experience, self.units)
        measured: Extras = "none" if self.readings is None else "measured"
        extras: Extras = "differentiable" if self.config.entropy_coefficient else measured
        output = self.roles.policy(batch, self.config.generation.temperature, extras)
        if self.readings is not None:
            numbers = self.experience.numbers(batch.trees).tolist()
            self.readings.keep(numbers, batch.lengths.tolist(), output.statistics)
            part = part.learned_by(output.statistics)
        loss = policy_objective(self.config, part, output, self.controller.coefficient, sums)
        yield loss if output.values is None else loss + self._value_loss(output.values, part, sums)
        if output.values is None and (values := self.roles.values(batch)) is not None:
            yield self._value_loss(values, part, sums)

    def _value_loss(self, values: Tensor, part: MicroBatch, sums: MetricSums) -> Tensor:
        rows, tokens = part.rows, len(part.batch.targets)
        value = clipped_value_loss(
            to_rows(values, part.batch.lengths), rows.values, rows.returns, part.mask, self.config.value_clip
        )
        sums.add("value_loss", value.loss, tokens)
        sums.add("value_clip_share", value.clipped, tokens)
        return self.config.value_coefficient * value.loss / self.units.tokens

    # Between steps ---------------------------------------------------------------------------------------------------

    def end_step(self, step: int, sums: MetricSums) -> dict[str, float] | None:
        """Close the iteration after its last minibatch: move the KL coefficient, return the line of metrics."""
        self.sums.merge(sums)
        if step % self.steps_per_iteration and not self.over_budget:
            return None
        assert self.experience is not None
        if self.readings is not None:
            self.collected |= policy_metrics(self.readings.rows(self.session), self.experience)
        if self.session.is_main:
            warn_about_rollouts(self._iteration(step), self.collected, self.warned)
        self.controller.update(self.collected["kl"], len(self.experience.lengths))
        self.experience = None
        return self.collected | self.sums.means()

    def line_number(self, step: int) -> int:
        """Lines count finished iterations; one that the KL budget ended early counts too."""
        return self._iteration(step) if self.over_budget else step // self.steps_per_iteration

    def measures_at(self, step: int) -> bool:
        """Measure after regular iterations and at the end."""
        iteration = self._iteration(step)
        return iteration % self.config.evaluate_every == 0 or step == self.steps

    def measure(self, step: int) -> dict[str, float]:
        """Answer held-out prompts; return mean scores and write samples."""
        if not self.held_out:
            return {}
        requests = [self._requests(prompt, "held out", number)[0] for number, prompt in enumerate(self.held_out)]
        self.roles.activate_policy()
        own = self.session.shard(requests)
        with self.session.autocast():
            samples = self.engine.generate(own, self.config.generation)
        scored = self.generation.score([[sample] for sample in samples])
        several = sum(source.weight != 0 for source in self.config.rewards) > 1
        columns = {"composed": scored.total, **scored.each} if several else scored.each
        if self.session.is_main:
            with JsonLinesWriter(self.context.directory.samples) as log:
                for number, sample in enumerate(samples[:SHOWN_SAMPLES]):
                    scores = {name: float(column[number]) for name, column in columns.items()}
                    texts = {"prompt": sample.prompt_text, "response": sample.response_text}
                    log.append({"step": self.line_number(step), **texts, "scores": scores})
        means = {}
        for name, column in columns.items():
            everyone = torch.tensor(self.session.merge_shards(column.tolist()))
            means[f"held_out/{name}"] = float(everyone.mean())
        return means

    def is_finished(self) -> bool:
        """Whether the KL budget is spent."""
        return self.over_budget

    # Checkpoints -----------------------------------------------------------------------------------------------------

    def checkpoint(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return the experience (between the minibatches of an iteration), controllers and running statistics."""
        tensors = {} if self.experience is None else self.experience.to_tensors()
        return tensors, {
            "controller": self.controller.state_dict(),
            "reward_moments": self.reward_moments.state_dict(),
            "collected": self.collected,
            "sums": self.sums.state_dict(),
            "over_budget": self.over_budget,
            "prompts_drawn": self.prompts_drawn,
            "warned": sorted(self.warned),
        }

    def restore(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Take back what ``checkpoint`` returned."""
        self.experience = Experience.from_tensors(tensors) if tensors else None
        self.controller.load_state_dict(state["controller"])
        self.reward_moments.load_state_dict(state["reward_moments"])
        self.collected = state["collected"]
        self.sums.load_state_dict(state["sums"])
        self.over_budget = state["over_budget"]
        self.prompts_drawn = state["prompts_drawn"]
        self.warned = set(state["warned"])

    def save(self, folder: Path) -> dict[str, float]:
        """Write the policy; a value head is training equipment and stays behind."""
        self.roles.activate_policy()
        if self.session.is_main:
            save_model(self.roles.loaded.model, self.roles.loaded.tokenizer, folder)
        return {"steps": float(self.steps), "prompts": float(len(self.prompts)), **self.collected}
