"""Inception score: are pictures each of one class, and all together of many (Salimans et al. 2016).

IS = exp(mean over pictures of KL(p(class | picture) || p(class))), of each part of 5,000 as OpenAI's evaluator does.

Shapes: N pictures, C classes.
"""

import numpy as np

PART = 5_000
"""Pictures; 50,000 are ten parts. A last part that is shorter counts like the others."""


def inception_score(logits_NC: np.ndarray, part: int = PART) -> float:
    """Return the mean score of parts; from 1, for pictures that are alike or of no class, to the number of classes."""
    shifted_NC = logits_NC.astype(np.float64) - logits_NC.max(1, keepdims=True)
    log_NC = shifted_NC - np.log(np.exp(shifted_NC).sum(1, keepdims=True))
    scores = []
    for start in range(0, len(log_NC), part):
        log_PC = log_NC[start : start + part]
        p_PC = np.exp(log_PC)
        tiny = np.finfo(np.float64).tiny  # a class that no picture shows adds nothing
        divergence_P = (p_PC * (log_PC - np.log(p_PC.mean(0) + tiny))).sum(1)
        scores.append(np.exp(divergence_P.mean()))
    return float(np.mean(scores))
