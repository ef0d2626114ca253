"""Whether draws have the probabilities that are said of them."""

import numpy as np
from scipy import stats

# Once in 10,000 seeds a right sampler would have less; seeds are fixed.
RIGHT = 1e-4


def p_value(draws: np.ndarray, log_prob: np.ndarray) -> float:
    """Pearson's test of draws [N] of 0 .. K - 1 against their log-probabilities [K].

    Values that are expected fewer than five times are pooled, as the approximation wants.
    """
    probabilities = np.exp(np.asarray(log_prob, np.float64))
    expected = len(draws) * probabilities / probabilities.sum()
    counts = np.bincount(draws, minlength=len(expected))
    rare = expected < 5
    observed, expected = (np.append(x[~rare], x[rare].sum()) for x in (counts, expected))
    pooled = expected > 0
    assert not observed[~pooled].any()
    return stats.chisquare(observed[pooled], expected[pooled]).pvalue
