"""Single steps of training and scoring over given trees, with the tasks and the loop of a run."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from comparison.arithmetic import TRAINING, Shape, states_before
from comparison.materials import SEED, data_config
from plaudit.batching.trees import Example, PromptTree
from plaudit.config.schema import DpoConfig, ModelConfig, Recipe, RewardConfig, RlConfig, SftConfig
from plaudit.data.rows import Origin, PromptRow
from plaudit.data.tokenized_row import TokenizedRow
from plaudit.models.heads.scalar import ScoreModule
from plaudit.models.inference import per_response
from plaudit.models.loading.models import load_policy, load_scorer
from plaudit.rewards.sources import build_reward
from plaudit.runs.context import StageContext
from plaudit.runs.directory import RunDirectory
from plaudit.runs.session import Session, start_session
from plaudit.training.dpo import DpoTask
from plaudit.training.examples import Examples, StageRows
from plaudit.training.loop import Trainer
from plaudit.training.model_reader import ModelReader
from plaudit.training.preference_examples import Preference
from plaudit.training.reference_log_probabilities import SequenceModule
from plaudit.training.reward import RewardTask
from plaudit.training.rl.roles.build import build_roles
from plaudit.training.rl.stage import build_rl_task
from plaudit.training.sample_completions import SampleCompletions
from plaudit.training.sft import SftTask

Trees = Sequence[PromptTree]


@dataclass(frozen=True)
class Step:
    """A step, its floating-point operations, and the numbers of its token positions and responses."""

    run: Callable[[], Any]
    operations: float
    positions: int
    responses: int


class Steps:
    """Builds steps in one process; their models have random weights and run under bfloat16 autocast."""

    def __init__(self, folder: Path, device: str, threads: int, token_budget: int) -> None:
        recipe = {"name": "steps", "output": str(folder), "device": device, "precision": "bf16", "threads": threads}
        self.session: Session = start_session(Recipe.model_validate(recipe), RunDirectory(folder))
        self.stage = self.session.run.stage("step").create()
        self.token_budget = token_budget

    def reward(self, model: ModelConfig, trees: Trees) -> Step:
        """Return an optimizer step of a reward model; the ranks are the order of the responses."""
        config = RewardConfig(**self._section(model), data=_unread(), batch_size=len(trees))
        loaded, _ = load_scorer(model, self.session.device, SEED)
        examples = Examples([Example(tree, tuple(range(len(tree.responses)))) for tree in trees], [])
        context = self._context(config)
        task = RewardTask(context, ModelReader(context, loaded), examples, StageRows([], []))
        return self._training(task, trees, _scores(loaded.model, trees))

    def sft(self, model: ModelConfig, trees: Trees) -> Step:
        """Return an optimizer step of supervised fine-tuning."""
        config = SftConfig(**self._section(model), data=_unread(), batch_size=len(trees), samples=0)
        loaded = load_policy(model, self.session.device, SEED)
        context = self._context(config)
        samples = SampleCompletions(context, loaded, StageRows([], []))
        task = SftTask(
            context, ModelReader(context, loaded), Examples([Example(tree, None) for tree in trees], []), samples
        )
        return self._training(task, trees, _log_probabilities(loaded.model, trees))

    def dpo(self, model: ModelConfig, trees: Trees) -> Step:
        """Return an optimizer step of DPO; reference log-probabilities are computed before it."""
        config = DpoConfig(**self._section(model), data=_unread(), batch_size=len(trees), samples=0)
        loaded = load_policy(model, self.session.device, SEED)
        context = self._context(config)
        samples = SampleCompletions(context, loaded, StageRows([], []))
        module, examples = SequenceModule(loaded.model), Examples(_preferences(trees), [])
        task = DpoTask(context, ModelReader(context, loaded), module, examples, samples)
        return self._training(task, trees, _log_probabilities(loaded.model, trees))

    def scoring(self, model: ModelConfig, trees: Trees) -> Step:
        """Return a pass of a reward model over the trees."""
        loaded, _ = load_scorer(model, self.session.device, SEED)
        module = ScoreModule(loaded.model)

        def run() -> None:
            with self.session.autocast():
                per_response(module, trees, loaded, self.token_budget)

        return _step(run, trees, _scores(loaded.model, trees))

    def grpo(self, model: ModelConfig, trees: Trees, new_tokens: int) -> Step:
        """Return an iteration of GRPO that samples as many responses as the trees have, and takes one step.

        Its operations: sampling, one pass of the reference, and the step.
        """
        settings = {"advantages": "grpo", "epochs": 1, "minibatches": 1, "kl": {"placement": "loss", "estimator": "k3"}}
        return self._reinforcement(model, trees, new_tokens, settings, policy_passes=2 + TRAINING)

    def ppo(self, model: ModelConfig, trees: Trees, new_tokens: int) -> Step:
        """Return an iteration of PPO with a separate value model and 4 epochs of 4 minibatches.

        Its operations: sampling, one pass each of policy, reference and value model, and the training passes of policy
        and value model.
        """
        epochs = minibatches = 4
        settings = {"advantages": "gae", "epochs": epochs, "minibatches": minibatches}
        learning = TRAINING * epochs
        return self._reinforcement(
            model, trees, new_tokens, settings, policy_passes=3 + learning, value_passes=1 + learning
        )

    def _reinforcement(
        self,
        model: ModelConfig,
        trees: Trees,
        new_tokens: int,
        settings: dict[str, Any],
        policy_passes: int,
        value_passes: int = 0,
    ) -> Step:
        group = len(trees[0].responses)
        rewards: Any = [{"name": "e", "kind": "function", "function": "comparison.rewards:share_of_e"}]
        config = RlConfig.model_validate(
            self._section(model)
            | {"prompts": _unread(), "rewards": rewards, "held_out_prompts": 0}
            | {"prompts_per_iteration": len(trees), "responses_per_prompt": group}
            | {"generation": {"max_new_tokens": new_tokens, "min_new_tokens": new_tokens}}
            | settings
        )
        roles = build_roles(config, self.session.device, SEED)
        origin = Origin("given as trees", 1)
        prompts = [TokenizedRow(PromptRow("", origin), PromptTree(tree.prompt, ()), "") for tree in trees]
        reward = build_reward(config.rewards, self.session.device, {})
        task = build_rl_task(self._context(config), roles, reward, StageRows(prompts, []))
        task.warned.add("truncated")  # every response is cut at the limit on purpose
        trainer = Trainer(task)

        def iteration() -> None:
            for step in range(1, task.steps_per_iteration + 1):
                trainer.run_step(step)

        policy = roles.loaded.model
        operations = policy_passes * _log_probabilities(policy, trees) + value_passes * _values(policy, trees)
        return _step(iteration, trees, operations)

    def _context(self, config: Any) -> StageContext[Any]:
        return StageContext(config, self.session, self.stage)

    def _section(self, model: ModelConfig) -> dict[str, Any]:
        return {"model": model, "token_budget": self.token_budget}

    def _training(self, task: Any, trees: Trees, forward: float) -> Step:
        trainer = Trainer(task)
        return _step(lambda: trainer.run_step(1), trees, TRAINING * forward)


def _scores(model: Any, trees: Trees) -> float:
    """Return the operations of a pass that scores every response."""
    responses = sum(len(tree.responses) for tree in trees)
    return Shape.of(model).forward(trees, head_rows=responses, read=responses)


def _log_probabilities(model: Any, trees: Trees) -> float:
    """Return the operations of a pass that computes the log-probability of every response token."""
    tokens = sum(tree.response_tokens for tree in trees)
    return Shape.of(model).forward(trees, head_rows=tokens, read=states_before(trees))


def _values(model: Any, trees: Trees) -> float:
    """Return the operations of a pass that computes the value of every response token: this model with one output."""
    read = states_before(trees)
    return replace(Shape.of(model), outputs=1).forward(trees, head_rows=read, read=read)


def _step(run: Callable[[], Any], trees: Trees, operations: float) -> Step:
    responses = sum(len(tree.responses) for tree in trees)
    return Step(run, operations, sum(tree.positions for tree in trees), responses)


def _preferences(trees: Trees) -> list[Example[Preference]]:
    """Return the trees with ranks in the order of their responses, all equally likely under the reference."""
    return [
        Example(tree, Preference(tuple(range(responses)), (0.0,) * responses))
        for tree in trees
        for responses in [len(tree.responses)]
    ]


def _unread() -> Any:
    return data_config(Path("given-as-trees"))
