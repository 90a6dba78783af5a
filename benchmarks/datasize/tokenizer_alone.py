"""Only the tokenizer: every prompt and response once, in batches. Prints CPU seconds and tokens as JSON."""

import json
import sys
import time
from itertools import islice
from pathlib import Path

from tokenizers import Tokenizer

from datasize.inputs import texts_of

BATCH = 6000


def main() -> None:
    """Tokenize the pairs of the file in the first argument with the tokenizer in the second."""
    tokenizer = Tokenizer.from_file(str(Path(sys.argv[2]) / "tokenizer.json"))
    seconds, tokens = 0.0, 0
    given = texts_of(Path(sys.argv[1]))
    while texts := list(islice(given, BATCH)):
        began = time.process_time()
        tokens += sum(len(encoding.ids) for encoding in tokenizer.encode_batch_fast(texts))
        seconds += time.process_time() - began
    print(json.dumps({"cpu_seconds": seconds, "tokens": tokens}))


if __name__ == "__main__":
    main()
