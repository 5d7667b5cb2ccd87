"""What several colourings of one picture agree on, place by place.

torch's engine and the one without torch share it; it needs NumPy alone.
"""

import numpy as np

# How sharply distance counts: a candidate that is farther from the others by a twentieth of the
# mean distance gets 1/e of the weight.
AGREEMENT_SHARPNESS = 20.0
# The spread of candidates, in a*b*, at which balance leaves chroma as it is: this much, plus this
# share of the chroma.
TYPICAL_SPREAD = (5.0, 0.15)
# Balance is left out where hints cover this share of a window (its inverse), and fades towards it.
HINT_OVERRIDE = 4.0
# The second look takes away this much chroma, so its result is multiplied by it.
SECOND_LOOK_GAIN = 1.06


def window_mean(x: np.ndarray, reach: int) -> np.ndarray:
    """Average (..., h, w) over windows of 2 * reach + 1 cells, as far as they lie inside."""
    for axis in (-2, -1):
        size = x.shape[axis]
        low = np.maximum(np.arange(size) - reach, 0)
        high = np.minimum(np.arange(size) + reach + 1, size)
        start = np.zeros_like(x.take([0], axis))
        sums = np.concatenate([start, x.cumsum(axis)], axis)
        x = np.swapaxes(sums.take(high, axis) - sums.take(low, axis), axis, -1) / (high - low)
        x = np.swapaxes(x, axis, -1)
    return x


def agreement_weights(
    chroma: np.ndarray,
    candidates: int,
    balance: float = 0,
    influence: np.ndarray | None = None,
    second_look: float = 0,
    kept: np.ndarray | None = None,
) -> np.ndarray:
    """Weigh the candidates of each group, place by place, by how far they agree with the others.

    The distance of a candidate to the others of its group, in a*b*, is averaged over windows of a
    quarter of the picture's short side, twice; the nearer it is to them there, the more it counts
    (a softmax). A tint over a part, which few candidates share, so gives way to what the others
    have there; where they disagree, one of them is taken rather than their grey mean.

    Args:
        chroma: (groups * candidates, 2, h, w), colourings of one picture, group by group, in a*b*.
        candidates: colourings in each group. Two agree equally with each other, so the first one
            counts alone.
        balance: how far colour is toned down where a group agrees and made stronger where it does
            not, see `balance_factor`; 0 changes nothing.
        influence: (h, w), from `certain_influence`; the colourings meet the hints already.
        second_look: how far a second look went back to noise, as a share of how far it goes by
            itself; 0 for a first look. Colourings of a second look have the balance of the first
            one already, and get `SECOND_LOOK_GAIN` instead.
        kept: (h, w), 1 in cells whose colours were there before, in all candidates.

    Returns:
        (groups, candidates, 1, h, w), float32. Over the candidates the weights sum to 1, times
        the factor that the colour is multiplied by.
    """
    groups = chroma.reshape(-1, candidates, *chroma.shape[1:]).astype(np.float64)
    if candidates < 3:
        weights = np.zeros_like(groups[:, :, :1])
        weights[:, 0] = 1
        return weights.astype(np.float32)
    free = np.ones(groups.shape[3:]) if kept is None else 1.0 - kept
    weights = _nearness_to_others(groups, free)
    if kept is not None:
        influence = kept if influence is None else np.maximum(influence, kept)
    if second_look:
        gain = np.full(groups.shape[3:], 1 + second_look * (SECOND_LOOK_GAIN - 1))
        weights *= fade_near_hints(gain, influence)
    elif balance:
        weights *= balance_factor(groups, weights, balance, influence)
    return weights.astype(np.float32)


def warmth_order(chroma: np.ndarray, candidates: int) -> np.ndarray:
    """Sort the candidates of several results, so that each result is made of similar ones.

    Groups of candidates as they come agree on much the same. Sorted by the mean of a* and b* over
    the picture, from the coolest to the warmest, they agree on answers that are farther apart, and
    the best of these is nearer to the truth.

    Args:
        chroma: (groups * candidates, 2, h, w), colourings of one picture, in a*b*.
        candidates: colourings in each group. One or two do not agree on anything, so their order
            stays as it is.

    Returns:
        (groups * candidates,), indices: those of the first group, then of the second, and so on.
    """
    if candidates < 3 or len(chroma) == candidates:
        return np.arange(len(chroma))
    return np.argsort(chroma.mean((1, 2, 3), dtype=np.float64), kind="stable")


def _nearness_to_others(groups: np.ndarray, free: np.ndarray) -> np.ndarray:
    """Weights (groups, candidates, 1, h, w) that sum to 1; candidates differ where `free` is 1."""
    candidates = groups.shape[1]
    distance = np.stack(
        [np.linalg.norm(groups - groups[:, [index]], axis=2).sum(1) for index in range(candidates)],
        axis=1,
    )
    reach = min(distance.shape[2:]) // 8
    distance = window_mean(window_mean(distance, reach), reach)
    scale = (distance * free).mean((1, 2, 3), keepdims=True) / max(free.mean(), 1e-9) + 1e-9
    weights = np.exp(-AGREEMENT_SHARPNESS * (distance - distance.min(1, keepdims=True)) / scale)
    return (weights / weights.sum(1, keepdims=True))[:, :, None]


def balance_factor(
    groups: np.ndarray, weights: np.ndarray, balance: float, influence: np.ndarray | None
) -> np.ndarray:
    """Find the factor that makes the colour a group agrees on as strong as true colours are.

    A guided network has too much colour where it is sure, as in a face, and too little where it is
    not. The spread of its candidates shows how sure it is, over windows of half the picture's
    short side. The factor is 1 where the spread is `TYPICAL_SPREAD`; it nears 1 - balance where
    the spread is smaller, and 1 + balance where it is larger.

    Args:
        groups: (groups, candidates, 2, h, w), in a*b*.
        weights: (groups, candidates, 1, h, w), which sum to 1 over the candidates.
        balance: 0 to 1.
        influence: as in `agreement_weights`.

    Returns:
        (groups, 1, 1, h, w).
    """
    reach = min(groups.shape[3:]) // 4
    spread = window_mean(np.sqrt(groups.var(1).sum(1)), reach)
    least, share = TYPICAL_SPREAD
    typical = least + share * np.linalg.norm((groups * weights).sum(1), axis=1)
    typical = window_mean(typical, reach)
    factor = 1 + balance * (spread - typical) / (spread + typical)
    return fade_near_hints(factor, influence)[:, None, None]


def fade_near_hints(factor: np.ndarray, influence: np.ndarray | None) -> np.ndarray:
    """Let a factor on colour (..., h, w) become 1 near hints, whose colours are right already."""
    if influence is None:
        return factor
    covered = window_mean(influence, min(influence.shape) // 4)
    return 1 + (1 - influence) * (1 - HINT_OVERRIDE * covered).clip(min=0) * (factor - 1)


def agree(chroma, weights):
    """Combine colourings by their weights, as arrays or as tensors.

    Args:
        chroma: (groups * candidates, 2, h, w).
        weights: (groups, candidates, 1, h, w), from `agreement_weights`.

    Returns:
        (groups, 2, h, w).
    """
    return (chroma.reshape(*weights.shape[:2], *chroma.shape[1:]) * weights).sum(1)
