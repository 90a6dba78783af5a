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
    "instruction": [{"instruction": "Add the numbers.", "input": "2, 3", "topic": "sums"}],
    "question_answer": [{"question": "Two and two?", "answer": "Four."}],
    "dolly": [
        {"instruction": "Who wrote it?", "context": "Ada wrote the note.", "response": "Ada.", "category": "closed_qa"}
    ],
    "preference_messages": [
        {
            "messages": [{"role": "user", "content": "Name a fruit."}],
            "chosen": {"role": "assistant", "content": "A pear."},
            "rejected": {"role": "assistant", "content": "A stone."},
        }
    ],
    "segments": [
        {"segments": [{"label": False, "text": "Q: Two?\nA:"}, {"label": True, "text": " Four."}]},
        {
            "segments": [
                {"label": False, "text": "Q: Two?\nA:"},
                {"label": True, "text": " Four."},
                {"label": False, "text": "\nQ: Ten?\nA:"},
                {"label": True, "text": " No."},
            ]
        },
    ],
    "labeled_completion": [{"completion": MESSAGES, "label": True}],
    "ultrachat": [{"id": "0", "data": ["Name a fruit.", "An apple.", "And a red one?", "A cherry."]}],
    "helpsteer3_feedback": [
        {
            "domain": "general",
            "language": "english",
            "context": [{"role": "user", "content": "Name a fruit."}],
            "response1": "A stone.",
            "response2": "A pear.",
            "feedback1": ["The response is not helpful. A stone is no fruit.", "The response is slightly helpful."],
            "feedback2": ["The response is perfectly helpful.", "The response is partially helpful, as it is brief."],
        }
    ],
    "helpsteer3_edit": [
        {
            "domain": "general",
            "language": "english",
            "context": [{"role": "user", "content": "Name a fruit."}],
            "original_response": "A stone.",
            "edited_response": "A pear.",
            "feedback": ["The response is not helpful."],
            "change_summary": "Named a fruit.",
        }
    ],
    "helpsteer3_edit_quality": [
        {
            "domain": "general",
            "language": "english",
            "context": [{"role": "user", "content": "Name a fruit."}],
            "original_response": "Fruit.",
            "good_edited_response": "A pear.",
            "bad_edited_response": "A stone.",
            "feedback": ["name one"],
        }
    ],
    "labeled_messages": [
        {
            "messages": [{"role": "user", "content": "Name a fruit."}, {"role": "assistant", "content": "A pear."}],
            "label": True,
        },
        {
            "conversations": [{"from": "human", "value": "Name a fruit."}, {"from": "gpt", "value": "A stone."}],
            "kto_tag": 0,
        },
    ],
    "best_of_responses": [
        {"prompt": "Name a fruit.", "responses": ["A stone.", "A pear.", "Ash."], "best": 1},
        {"prompt": "Name a nut.", "responses": ["An almond.", "A bolt.", "Ash."], "best": 0},
    ],
    "responses_with_ranks": [
        {"prompt": "Name a fruit.", "answers": [{"answer": "A stone.", "rank": 3}, {"answer": "A pear.", "rank": 1}]}
    ],
    "helpsteer": [
        {
            "prompt": "Name a fruit.",
            "response": "A stone.",
            "helpfulness": 0,
            "correctness": 0,
            "coherence": 3,
            "complexity": 1,
            "verbosity": 1,
        },
        {
            "prompt": "Name a fruit.",
            "response": "A pear.",
            "helpfulness": 4,
            "correctness": 4,
            "coherence": 4,
            "complexity": 1,
            "verbosity": 1,
        },
    ],
    "ultrafeedback": [
        {
            "source": "evol",
            "instruction": "Name a fruit.",
            "models": ["a", "b"],
            "completions": [
                {"model": "a", "response": "A stone.", "overall_score": 2.0},
                {"model": "b", "response": "A pear.", "overall_score": 8.5},
            ],
            "correct_answers": ["None"],
        }
    ],
    "comparison": [{"prompt": "Name a fruit.", "response_a": "A stone.", "response_b": "A pear.", "winner": "b"}],
    "annotators": [
        {
            "prompt": "Name a fruit.",
            "response_a": "A stone.",
            "response_b": "A pear.",
            "annotator_1": "b",
            "annotator_2": "a",
            "annotator_3": "b",
        }
    ],
    "scored_pair": [
        {"prompt": "Name a fruit.", "answer_1": "A stone.", "answer_2": "A pear.", "score_1": 1, "score_2": 4.5}
    ],
    "arena": [
        {
            "question_id": "1",
            "model_a": "m",
            "model_b": "n",
            "winner": "model_b",
            "conversation_a": [
                {"role": "user", "content": "Name a fruit."},
                {"role": "assistant", "content": "A stone."},
            ],
            "conversation_b": [
                {"role": "user", "content": "Name a fruit."},
                {"role": "assistant", "content": "A pear."},
            ],
            "turn": 1,
        }
    ],
    "arena_texts": [
        {
            "id": 1,
            "model_a": "m",
            "model_b": "n",
            "prompt": '["Name a fruit."]',
            "response_a": '["A stone."]',
            "response_b": '["A pear."]',
            "winner_model_a": 0,
            "winner_model_b": 1,
            "winner_tie": 0,
        }
    ],
    "alpaca_eval": [
        {
            "instruction": "Name a fruit.",
            "output_1": "A stone.",
            "generator_1": "m",
            "output_2": "A pear.",
            "generator_2": "n",
            "preference": 1.93,
        }
    ],
    "shp": [
        {
            "post_id": "p",
            "domain": "food_train",
            "upvote_ratio": 0.9,
            "history": "Name a fruit.",
            "score_A": 3,
            "score_B": 12,
            "human_ref_A": "A stone.",
            "human_ref_B": "A pear.",
            "labels": 0,
            "score_ratio": 4.0,
        }
    ],
    "webgpt": [
        {
            "question": {"dataset": "eli5", "full_text": "Name a fruit."},
            "answer_0": "A stone.",
            "score_0": -0.5,
            "answer_1": "A pear.",
            "score_1": 0.5,
        }
    ],
    "safe_rlhf": [
        {
            "prompt": "Name a fruit.",
            "response_0": "A stone.",
            "response_1": "A pear.",
            "is_response_0_safe": True,
            "is_response_1_safe": True,
            "better_response_id": 1,
            "safer_response_id": 0,
        }
    ],
    "helpsteer2_preference": [
        {"prompt": "Name a fruit.", "response_1": "A stone.", "response_2": "A pear.", "preference_strength": 3}
    ],
    "helpsteer3": [
        {
            "domain": "general",
            "language": "english",
            "context": [{"role": "user", "content": "Name a fruit."}],
            "response1": "A stone.",
            "response2": "A pear.",
            "overall_preference": 2,
            "individual_preference": [{"score": 2}],
        }
    ],
    "argilla": [
        {
            "id": "1",
            "fields": {"prompt": "Name a fruit.", "response1": "A stone.", "response2": "A pear."},
            "responses": {"better": [{"value": "response2", "user_id": "u"}]},
            "suggestions": {},
            "metadata": {},
        }
    ],
    "argilla_table": [
        {
            "prompt": "Name a fruit.",
            "response1": "A stone.",
            "response2": "A pear.",
            "better.responses": ["response2", "response1", "response2"],
            "better.responses.users": ["u", "v", "w"],
            "better.responses.status": ["submitted", "submitted", "submitted"],
        }
    ],
    "label_studio": [
        {
            "id": 1,
            "data": {"prompt": "Name a fruit.", "answer1": "A stone.", "answer2": "A pear."},
            "annotations": [
                {
                    "id": 2,
                    "result": [
                        {
                            "type": "pairwise",
                            "from_name": "pw",
                            "to_name": "answer1,answer2",
                            "value": {"selected": "right"},
                        }
                    ],
                }
            ],
        }
    ],
    "argilla_feedback": [
        {
            "prompt": "Name a fruit.",
            "response1": "A stone.",
            "response2": "A pear.",
            "order": [
                {"user_id": "u", "value": {"rank": [2, 1], "value": ["response1", "response2"]}, "status": "submitted"}
            ],
            "order-suggestion": None,
            "external_id": None,
            "metadata": "{}",
        }
    ],
    "label_studio_min": [
        {
            "prompt": "Name a fruit.",
            "answer1": "A stone.",
            "answer2": "A pear.",
            "pw": {"selected": "right"},
            "id": 1,
            "annotator": 2,
            "annotation_id": 3,
            "lead_time": 4.5,
        }
    ],
}
