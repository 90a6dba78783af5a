"""Commands with absurd arguments."""

from collections.abc import Iterator

NAMES = ("", " ", ".", "..", "/", "/dev/null", "/proc/self/mem", "no/such/thing", "x" * 5000, "a\0b", "\n", "-", "{}")
NUMBERS = ("", "x", "-1", "0", "1e999", "nan", "9" * 5000, "²", "0x10", "1_0")
OVERRIDES = (
    *(
        "=",
        "a",
        "=1",
        "name=",
        "name=../x",
        "name=a/b",
        "name=.",
        "name=\n",
        f"name={'x' * 300}",
        "seed=-1",
        "seed=1.5",
    ),
    *("seed=" + "9" * 5000, "output=/dev/null", "output=", "output=/proc/x", "output=a\0b", "sft=1", "sft.model=null"),
    *("sft.epochs=.nan", "sft.epochs=1e300", "sft.batch_size=0", "sft.data.sources=[]", "sft.data.sources=[/dev/zero]"),
    *(
        "sft.data.sources=[/]",
        "sft.data=[[[[",
        "rl.rewards=[]",
        "rl.rewards=[{name: a, kind: http, url: x}]",
        "threads=-1",
    ),
    *("device=quantum", "processes=0", "processes=3", "distributed=maybe", "trackers=[x]", "plugins=[no_such_module]"),
    *("plugins=[../x]", "sft.optimizer.learning_rate=-1", "rl.kl={coefficient: .inf}", "sft.data.sources.7.path=x"),
)


def _arguments() -> Iterator[list[str]]:
    yield []
    yield ["--nonsense"]
    yield ["nonsense"]
    yield ["run"]
    yield ["run", "RECIPE", "--only", "nonsense"]
    yield ["run", "RECIPE", "--only", ""]
    yield ["run", "RECIPE", "--quiet", "--verbose"]
    yield ["sft", "RECIPE", "RECIPE"]
    yield ["data"]
    yield ["data", "inspect"]
    for name in NAMES:
        yield ["run", name]
        yield ["recipes", name]
        yield ["chat", name, "--device", "cpu"]
        yield ["data", "inspect", name]
        yield ["report", name]
    for override in OVERRIDES:
        yield ["sft", "RECIPE", override]
    for number in NUMBERS:
        yield ["lab", "--problems", number, "--only", "nonsense"]
        yield ["chat", "no/such/model", "--best-of", number]
        yield ["chat", "no/such/model", "--top-p", number]
        yield ["chat", "no/such/model", "--seed", number]
    for name in ("", "nonsense", ",", "ppo,nonsense"):
        yield ["lab", "--only", name, "--problems", "0"]
    yield ["lab", "--only", "ppo", "--output", "/dev/null"]
    yield ["chat", "no/such/model", "--device", "quantum"]


ARGUMENTS = list(_arguments())
