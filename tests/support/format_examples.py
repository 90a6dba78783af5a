"""A small record of every format, in the shape in which the dataset is published, written for the tests."""

from typing import Any

HH_PROMPT = "\n\nHuman: Is the museum open on Monday?\n\nAssistant: Which museum?\n\nHuman: The one by the river."
MESSAGES = [
    {"role": "user", "content": "Is the museum open?"},
    {"role": "assistant", "content": "Yes, until six."},
]

TREE: dict[str, Any] = {
    "message_tree_id": "t1",
    "tree_state": "ready_for_export",
    "prompt": {
        "text": "Name a fruit.",
        "role": "prompter",
        "deleted": False,
        "replies": [
            {
                "text": "An apple.",
                "role": "assistant",
                "deleted": False,
                "rank": 1,
                "replies": [
                    {
                        "text": "And a red one?",
                        "role": "prompter",
                        "deleted": False,
                        "replies": [
                            {"text": "A cherry.", "role": "assistant", "rank": 2, "replies": []},
                            {"text": "A plum.", "role": "assistant", "rank": 0, "replies": []},
                            {"text": "A lie.", "role": "assistant", "rank": 1, "deleted": True, "replies": []},
                            {"text": "No rank.", "role": "assistant", "rank": None, "replies": []},
                        ],
                    }
                ],
            },
            {"text": "A pear, fresh and ripe.", "role": "assistant", "deleted": False, "rank": 0, "replies": []},
        ],
    },
}


def _flat(name: str, parent: str | None, role: str, text: str, rank: int | None = None, **more: Any) -> dict[str, Any]:
    known = {"message_id": name, "parent_id": parent, "message_tree_id": "a", "role": role, "text": text, "rank": rank}
    return {**known, "user_id": "u", "lang": "en", "deleted": False, "tree_state": "ready_for_export", **more}


# The same tree as a table of messages, in the columns of OpenAssistant/oasst1.
MESSAGE_TABLE: list[dict[str, Any]] = [
    _flat("a", None, "prompter", "Name a fruit."),
    _flat("b", "a", "assistant", "An apple.", 1),
    _flat("c", "a", "assistant", "A pear, fresh and ripe.", 0),
    _flat("d", "b", "prompter", "And a red one?"),
    _flat("e", "d", "assistant", "A cherry.", 2),
    _flat("f", "d", "assistant", "A plum.", 0),
    _flat("g", "d", "assistant", "A lie.", 1, deleted=True),
    _flat("h", "d", "assistant", "No rank."),
]

# name of the format -> records of one file
EXAMPLES: dict[str, list[dict[str, Any]]] = {
    "text": [{"text": "A story about a bunny."}],
    "prompt": [{"prompt": "Once upon a time", "topic": "bunnies"}],
    "prompt_response": [{"prompt": "Two and two?", "response": " Four."}],
    "imdb": [{"text": "This film was a very long and very slow walk through a park.", "label": 0}],
    "preference": [{"prompt": "The sky is", "chosen": " blue.", "rejected": " green."}],
    "implicit_preference": [{"chosen": "The sky is blue.", "rejected": "The sky is black."}],
    "prompt_completion": [{"prompt": "The sky is", "completion": " blue."}],
    "unpaired_preference": [
        {"prompt": "The sky is", "completion": " blue.", "label": True},
        {"prompt": "The sky is", "completion": " green.", "label": False},
    ],
    "messages": [{"messages": MESSAGES}],
    "hh_rlhf": [
        {
            "chosen": HH_PROMPT + "\n\nAssistant: It is closed on Mondays.",
            "rejected": HH_PROMPT + "\n\nAssistant: No idea.",
        }
    ],
    "ranked_responses": [{"prompt": "Say hi.", "responses": ["Hello!", "Hi.", "Go away."], "scores": [2.5, 2.5, -1]}],
    "lm_human_preferences": [
        {"query": "The old house", "sample0": " was grey.", "sample1": " hummed.", "sample2": " stood.", "best": 1}
    ],
    "summarize_from_feedback": [
        {
            "info": {"id": "x", "post": "My cat ate my cake.", "title": "Cat", "subreddit": "cats", "article": None},
            "summaries": [{"text": " Cat is fed.", "policy": "a"}, {"text": "Cat ate cake.", "policy": "b"}],
            "choice": 1,
            "worker": "w",
        }
    ],
    "tldr": [{"subreddit": "cats", "title": "Cat", "post": "My cat ate my cake.", "summary": "Cat ate cake."}],
    "open_assistant": [TREE],
    "open_assistant_messages": MESSAGE_TABLE,
    "self_instruct": [
        {
            "id": "seed_task_1",
            "instruction": "Add the numbers.",
            "instances": [{"input": "2, 3", "output": "5"}, {"input": "", "output": "Which numbers?"}],
        }
    ],
    "alpaca": [{"instruction": "Add the numbers.", "input": "2, 3", "output": "5"}],
    "real_toxicity_prompts": [
        {
            "filename": "a.txt",
            "challenging": False,
            "prompt": {"text": "He shouted that", "toxicity": 0.25, "threat": None},
            "continuation": {"text": " dinner was ready.", "toxicity": 0.05},
        }
    ],
    "dialoconan": [
        {"text": "They are all bad.", "TARGET": "X", "dialogue_id": "0", "turn_id": "0", "type": "HS", "source": "s"},
        {"text": "Why do you say so?", "TARGET": "X", "dialogue_id": "0", "turn_id": "1", "type": "CN", "source": "s"},
        {"text": "I read it.", "TARGET": "X", "dialogue_id": "0", "turn_id": "2", "type": "HS", "source": "s"},
        {"text": "Where?", "TARGET": "X", "dialogue_id": "0", "turn_id": "3", "type": "CN", "source": "s"},
    ],
}
