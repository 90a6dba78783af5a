"""The rows that must come out of the examples of every format, written by hand."""

from plaudit.data.rows import LabeledRow, Message, Origin, PromptRow, RankingRow, ResponseRow, Row, TextRow

USER, REPLY = Message("user", "Is the museum open?"), "Yes, until six."
MUSEUM = (
    Message("user", "Is the museum open on Monday?"),
    Message("assistant", "Which museum?"),
    Message("user", "The one by the river."),
)
TLDR = "SUBREDDIT: r/cats\n\nTITLE: Cat\n\nPOST: My cat ate my cake.\n\nTL;DR:"
ADD = (Message("user", "Add the numbers.\n\n2, 3"),)
FRUIT = (Message("user", "Name a fruit."),)
RED_FRUIT = (*FRUIT, Message("assistant", "An apple."), Message("user", "And a red one?"))
AT = Origin("rows.jsonl", 1)
# The examples of comparisons: the second response is the better one.
STONE_OR_PEAR = RankingRow(FRUIT, ("A stone.", "A pear."), (1, 0), AT)
STONE_OR_PEAR_TEXT = RankingRow("Name a fruit.", ("A stone.", "A pear."), (1, 0), AT)

OWN_ROWS: dict[str, list[Row]] = {
    "text": [TextRow("A story about a bunny.", AT)],
    "prompt": [PromptRow("Once upon a time", AT, {"topic": "bunnies"})],
    "prompt_response": [ResponseRow("Two and two?", " Four.", AT)],
    "imdb": [TextRow("This film was a very long and very slow walk through a park.", AT)],
    "preference": [RankingRow("The sky is", (" blue.", " green."), (0, 1), AT)],
    "implicit_preference": [RankingRow("The sky is", (" blue.", " black."), (0, 1), AT)],
    "prompt_completion": [ResponseRow("The sky is", " blue.", AT)],
    "unpaired_preference": [
        LabeledRow("The sky is", (" blue.",), (True,), AT),
        LabeledRow("The sky is", (" green.",), (False,), AT),
    ],
    "messages": [ResponseRow((USER,), REPLY, AT)],
    "hh_rlhf": [RankingRow(MUSEUM, ("It is closed on Mondays.", "No idea."), (0, 1), AT)],
    "ranked_responses": [RankingRow("Say hi.", ("Hello!", "Hi.", "Go away."), (0, 0, 1), AT)],
    "lm_human_preferences": [RankingRow("The old house", (" was grey.", " hummed.", " stood."), (1, 0, 1), AT)],
    "summarize_from_feedback": [RankingRow(TLDR, (" Cat is fed.", " Cat ate cake."), (1, 0), AT)],
    "tldr": [ResponseRow(TLDR, " Cat ate cake.", AT)],
    "open_assistant": [
        RankingRow(FRUIT, ("An apple.", "A pear, fresh and ripe."), (1, 0), AT),
        RankingRow(RED_FRUIT, ("A cherry.", "A plum."), (1, 0), AT),
    ],
    "open_assistant_messages": [
        RankingRow(FRUIT, ("An apple.", "A pear, fresh and ripe."), (1, 0), AT),
        RankingRow(RED_FRUIT, ("A cherry.", "A plum."), (1, 0), AT),
    ],
    "self_instruct": [
        ResponseRow(ADD, "5", AT),
        ResponseRow((Message("user", "Add the numbers."),), "Which numbers?", AT),
    ],
    "alpaca": [ResponseRow(ADD, "5", AT)],
    "real_toxicity_prompts": [
        PromptRow("He shouted that", AT, {"filename": "a.txt", "challenging": False, "toxicity": 0.25, "threat": None})
    ],
    "dialoconan": [
        ResponseRow((Message("user", "They are all bad."),), "Why do you say so?", AT),
        ResponseRow(
            (
                Message("user", "They are all bad."),
                Message("assistant", "Why do you say so?"),
                Message("user", "I read it."),
            ),
            "Where?",
            AT,
        ),
    ],
    "instruction": [PromptRow(ADD, AT, {"topic": "sums"})],
    "question_answer": [ResponseRow((Message("user", "Two and two?"),), "Four.", AT)],
    "dolly": [ResponseRow((Message("user", "Who wrote it?\n\nAda wrote the note."),), "Ada.", AT)],
    "preference_messages": [RankingRow(FRUIT, ("A pear.", "A stone."), (0, 1), AT)],
    "labeled_messages": [
        LabeledRow(FRUIT, ("A pear.",), (True,), AT),
        LabeledRow(FRUIT, ("A stone.",), (False,), AT),
    ],
    "segments": [
        ResponseRow("Q: Two?\nA:", " Four.", AT),
        ResponseRow(
            "Q: Two?\nA:",
            " Four.\nQ: Ten?\nA: No.",
            AT,
            parts=((" Four.", True), ("\nQ: Ten?\nA:", False), (" No.", True)),
        ),
    ],
    "labeled_completion": [LabeledRow((USER,), (REPLY,), (True,), AT)],
    "ultrachat": [
        ResponseRow(
            (FRUIT[0], Message("assistant", "An apple.", learned=True), Message("user", "And a red one?")),
            "A cherry.",
            AT,
        )
    ],
    "helpsteer3_feedback": [STONE_OR_PEAR],
    "helpsteer3_edit": [RankingRow(FRUIT, ("A pear.", "A stone."), (0, 1), AT)],
    "helpsteer3_edit_quality": [RankingRow(FRUIT, ("A pear.", "A stone."), (0, 1), AT)],
    "best_of_responses": [
        RankingRow("Name a fruit.", ("A stone.", "A pear.", "Ash."), (1, 0, 1), AT),
        RankingRow("Name a nut.", ("An almond.", "A bolt.", "Ash."), (0, 1, 1), AT),
    ],
    "responses_with_ranks": [STONE_OR_PEAR_TEXT],
    "helpsteer": [STONE_OR_PEAR_TEXT],
    "ultrafeedback": [STONE_OR_PEAR],
    "comparison": [STONE_OR_PEAR_TEXT],
    "annotators": [STONE_OR_PEAR_TEXT],
    "scored_pair": [STONE_OR_PEAR_TEXT],
    "arena": [STONE_OR_PEAR],
    "arena_texts": [STONE_OR_PEAR],
    "alpaca_eval": [STONE_OR_PEAR],
    "shp": [STONE_OR_PEAR],
    "webgpt": [STONE_OR_PEAR],
    "safe_rlhf": [STONE_OR_PEAR_TEXT],
    "helpsteer2_preference": [STONE_OR_PEAR_TEXT],
    "helpsteer3": [STONE_OR_PEAR],
    "argilla": [STONE_OR_PEAR_TEXT],
    "argilla_table": [STONE_OR_PEAR_TEXT],
    "label_studio": [STONE_OR_PEAR_TEXT],
    "argilla_feedback": [STONE_OR_PEAR_TEXT],
    "label_studio_min": [STONE_OR_PEAR_TEXT],
}
