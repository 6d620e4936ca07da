"""What must be beaten: TF-IDF and logistic regression on the same examples, with the same rule for thresholds."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from guardreasoner_sdk.judges.encoding import clean
from guardreasoner_training.embedded.data import HEADS
from guardreasoner_training.embedded.examples import Example
from guardreasoner_training.embedded.scoring import Scores


def train_baseline(examples: Sequence[Example], *, seed: int) -> Callable[[Sequence[Example]], Scores]:
    """Fit one classifier per head on words and word pairs.

    The first head reads the prompt, the others the response: it is what they judge, and reading the prompt as well
    lets a bag of words answer from the prompt alone.

    Args:
        examples: the examples that the network was trained on.

    Returns:
        A function from examples to scores, NaN where the head was not asked or there was nothing to learn from.
    """
    models: list[tuple[TfidfVectorizer, LogisticRegression] | None] = []
    for head in range(len(HEADS)):
        chosen = [example for example in examples if example.labels[head] is not None]
        labels = np.array([bool(example.labels[head]) for example in chosen])
        if not labels.any() or labels.all():
            models.append(None)
            continue
        words = TfidfVectorizer(ngram_range=(1, 2), min_df=2, max_features=200_000, sublinear_tf=True)
        matrix = words.fit_transform([_text(example, head) for example in chosen])
        judge = LogisticRegression(C=4.0, class_weight="balanced", solver="liblinear", random_state=seed)
        judge.fit(matrix, labels, sample_weight=[example.weight for example in chosen])
        models.append((words, judge))

    def scores(of: Sequence[Example]) -> Scores:
        found = np.full((len(of), len(HEADS)), np.nan)
        for head, model in enumerate(models):
            asked = [i for i, example in enumerate(of) if (example.response is None) == (head == 0)]
            if model is not None and asked:
                words, judge = model
                found[asked, head] = judge.predict_proba(words.transform([_text(of[i], head) for i in asked]))[:, 1]
        return found

    return scores


def _text(example: Example, head: int) -> str:
    return clean(example.prompt if head == 0 else example.response or "")
