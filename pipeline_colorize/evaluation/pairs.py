"""How sure figures are, and which of two models is better on the same pictures."""

import math

import numpy as np

# The figures that are compared, by what the record of a picture holds, and whether less is better.
FIGURES = {
    "sample ciede2000": ("sample", "ciede2000", True),
    "mean ciede2000": ("mean", "ciede2000", True),
    "best ciede2000": ("best", "ciede2000", True),
    "sample psnr": ("sample", "psnr", False),
    "sample odd": ("sample", "odd", True),
    "sample colorfulness": ("sample", "colorfulness", None),
}


def standard_error(values: list[float]) -> float:
    """Compute the standard error of a mean over pictures; NaN for fewer than two."""
    finite = [value for value in values if math.isfinite(value)]
    if len(finite) < 2:
        return math.nan
    return float(np.std(finite, ddof=1) / math.sqrt(len(finite)))


def standard_errors(records: list[dict]) -> dict[str, float]:
    """Compute the standard errors of the main figures of a set, by their names in `FIGURES`."""
    return {
        title: standard_error([record[kind][name] for record in records])
        for title, (kind, name, _) in FIGURES.items()
    }


def compare_pairs(records: list[dict], others: list[dict]) -> dict[str, dict[str, float]]:
    """Compare two models picture by picture.

    The difficulty of a picture is the same for both, so that the standard error of the differences
    is much smaller than that of either model's mean.

    Args:
        records: of `metrics.measure_picture`, with the `index` of each picture.
        others: those of the other model, of the same pictures.

    Returns:
        For each of `FIGURES` the mean `difference` of the first model to the other, its
        `standard_error`, and the share of pictures on which the first is better, `wins`: equal ones
        count half, and where neither more nor less is better it is NaN.
    """
    by_index = {record["index"]: record for record in others}
    pairs = [(one, by_index[one["index"]]) for one in records if one["index"] in by_index]
    result = {}
    for title, (kind, name, is_less_better) in FIGURES.items():
        values = [one[kind][name] - other[kind][name] for one, other in pairs]
        finite = np.array([value for value in values if math.isfinite(value)])
        wins = math.nan
        if is_less_better is not None and len(finite):
            better = finite < 0 if is_less_better else finite > 0
            wins = float(better.mean() + (finite == 0).mean() / 2)
        result[title] = {
            "difference": float(finite.mean()) if len(finite) else math.nan,
            "standard_error": standard_error(values),
            "wins": wins,
        }
    return result
