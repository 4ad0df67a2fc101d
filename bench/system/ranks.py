"""Rank tests: whether two lists of samples differ, without a word about how they are distributed.

Mann and Whitney 1947; ties by mid-ranks. Holm 1979 for many questions at once.
"""

import math

# So many samples a side are counted out; more are near enough to the normal distribution.
EXACT = 20


def mid_ranks(values):
    """Twice the rank of each value, 1 being the smallest; equal ones share their mean."""
    order = sorted(range(len(values)), key=values.__getitem__)
    doubled = [0] * len(values)
    begin = 0
    while begin < len(order):
        end = begin
        while end < len(order) and values[order[end]] == values[order[begin]]:
            end += 1
        for place in order[begin:end]:
            doubled[place] = begin + 1 + end
        begin = end
    return doubled


def mann_whitney(first, second):
    """Two-sided p: how often chance would part the two lists as far as this, or farther."""
    doubled = mid_ranks([*first, *second])
    total = sum(doubled[:len(first)])
    if max(len(first), len(second)) <= EXACT:
        return _exact(doubled, len(first), total)
    return _normal(doubled, len(first), len(second), total)


def tends_higher(first, second):
    """Whether a sample of `second` is more often above one of `first` than below."""
    return sum((b > a) - (b < a) for a in first for b in second) > 0


def holm(sorted_p, level):
    """Which of these, ascending, are below the level that is left for them."""
    shown = []
    for place, p in enumerate(sorted_p):
        shown.append(p <= level / (len(sorted_p) - place) and all(shown))
    return shown


def _exact(doubled, count, total):
    # How many choices of so many ranks have each sum.
    ways = [{} for _ in range(count + 1)]
    ways[0][0] = 1
    for rank in doubled:
        for chosen in range(count - 1, -1, -1):
            for rank_sum, number in ways[chosen].items():
                into = ways[chosen + 1]
                into[rank_sum + rank] = into.get(rank_sum + rank, 0) + number
    # The mean of all sums, times the number of ranks, to stay with whole numbers.
    middle = sum(doubled) * count
    away = abs(total * len(doubled) - middle)
    as_far = sum(number for rank_sum, number in ways[count].items()
                 if abs(rank_sum * len(doubled) - middle) >= away)
    return as_far / math.comb(len(doubled), count)


def _normal(doubled, first, second, total):
    number = first + second
    ties = {}
    for rank in doubled:
        ties[rank] = ties.get(rank, 0) + 1
    uneven = sum(count**3 - count for count in ties.values()) / (number * (number - 1))
    variance = first * second / 12 * (number + 1 - uneven)
    if variance == 0:
        return 1.0
    away = abs(total / 2 - first * (number + 1) / 2)
    return math.erfc(max(0.0, away - 0.5) / math.sqrt(2 * variance))
