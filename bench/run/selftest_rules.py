# SPDX-License-Identifier: MIT
"""Each rule by which targets are judged, on figures made up for it; selftest.py runs them."""
import figures as figures_module
import rules
import verdicts

KEY = "time", "made-up"
LINE = "name\ttime\t*\tcpu\t%s\t%s\tratio\ttest\n"


def made_up(**samples):
    """Figures of one case from lists of CPU times, a round each."""
    result = figures_module.Figures()
    for name, values in samples.items():
        for number, value in enumerate(values, 1):
            sample = {"cpu": value, "peak": 1000 * value}
            result.add(KEY, name.replace("_", "-"), number, sample)
    return result


def verdict(rule, limit, figures):
    target = verdicts.Target(LINE % (rule, limit))
    return list(rules.RULES[target.rule](target, figures))[0]


def best_is_chosen_on_odd_rounds():
    """mimalloc is lucky in the even rounds only, and so must not be the one compared with."""
    found = verdict("times-fastest", "1.1", made_up(
        allod=[2, 2, 2, 2], allod_again=[2, 2, 2, 2], jemalloc=[1, 4, 1, 4], mimalloc=[3, 1, 3, 1]))
    return found.against == "against jemalloc" and found.figure == 0.5 and not found.is_missed


def miss_within_own_spread_does_not_count():
    noisy = verdict("times-fastest", "1.1", made_up(
        allod=[1.2] * 4, allod_again=[1.0, 1.4, 1.0, 1.4], glibc=[1.0] * 4))
    steady = verdict("times-fastest", "1.1", made_up(
        allod=[1.2] * 4, allod_again=[1.2] * 4, glibc=[1.0] * 4))
    return not noisy.is_missed and steady.is_missed


def leanest_is_one_of_the_three_fastest():
    """The slowest peer is the leanest, and does not count."""
    figures = made_up(allod=[2, 2], allod_again=[2, 2], glibc=[9, 9], jemalloc=[3, 3],
                      mimalloc=[4, 4], tcmalloc=[5, 5])
    for number in (1, 2):
        figures.add(KEY, "glibc", number, {"peak": 1})
    target = verdicts.Target(LINE.replace("cpu", "peak") % ("times-leanest", "1.1"))
    return list(rules.times_leanest(target, figures))[0].against == "against jemalloc"


def at_least_so_many_times_faster():
    figures = made_up(allod=[1, 1], allod_again=[1, 1], mmap=[90, 90], glibc=[3, 3])
    fast = verdict("times-faster:mmap", "90", figures)
    slow = verdict("times-faster:mmap", "91", figures)
    return fast.figure == 90 and not fast.is_missed and slow.is_missed


def faster_than_the_fastest_peer_of_odd_rounds():
    """mmap is no peer, and mimalloc is fast in even rounds only."""
    found = verdict("faster-than-fastest", "1.3", made_up(
        allod=[2] * 4, allod_again=[2] * 4, mmap=[1] * 4, jemalloc=[3, 4] * 2,
        mimalloc=[5, 1] * 2))
    return found.against == "against jemalloc" and found.figure == 2 and not found.is_missed


def an_improvement_is_judged_beyond_its_interval():
    """Worse by 5 % every time; and by 5 % on average, but never alike."""
    steady = verdict("improvement", "-1", made_up(allod=[1.05, 1.05, 1.06], glibc=[1, 1, 1]))
    noisy = verdict("improvement", "-1", made_up(allod=[0.5, 1.6, 1.05], glibc=[1, 1, 1]))
    return steady.is_missed and not noisy.is_missed and round(steady.figure) == -5


def what_grows_with_size_is_not_flat():
    figures = made_up(allod=[2, 2])
    figures.add((KEY[0], "other"), "allod", 1, {"cpu": 5})
    found = verdict("flat", "2", figures)
    return found.figure == 2.5 and found.is_missed


def a_machine_that_slows_down_is_flat():
    """In the second half of the rounds all takes twice as long; one case was run once less."""
    figures = made_up(allod=[1, 1, 2, 2])
    for number, value in enumerate([1.1, 1.1, 2.2], 1):
        figures.add((KEY[0], "other"), "allod", number, {"cpu": value})
    return round(verdict("flat", "1.2", figures).figure, 6) == 1.1


TESTS = (best_is_chosen_on_odd_rounds, miss_within_own_spread_does_not_count,
         leanest_is_one_of_the_three_fastest, at_least_so_many_times_faster,
         faster_than_the_fastest_peer_of_odd_rounds,
         an_improvement_is_judged_beyond_its_interval, what_grows_with_size_is_not_flat,
         a_machine_that_slows_down_is_flat)
