"""The measured part of docs/cluster.md, from what `python -m benchmarks.scaling` wrote."""

from __future__ import annotations

from typing import Any

from salientry.rates import measured, short, table
from salientry.runner.pool import MOST_THREADS
from salientry.store import read_json

from . import scaling

JSON = dict[str, Any]
TRAININGS = ("train_classifier", "fit_encoder", "fit_saliency")


def scaled() -> str:
    """What a step costs beside its own seconds, what more workers gain, and what hundreds would."""
    body = read_json(scaling.OUT)
    over, speed, threads, sim = (body[k] for k in ("overhead", "speedup", "threads", "simulate"))
    lines = [
        f"Measured with `{over['command']}`, `speedup`, `threads` and `simulate`, {over['date']}, salientry {over['salientry']}, torch "
        f"{over['torch']}, {over['processor']}, 2 cores.",
        "",
        *table(
            ["", *over["seconds a step"]],
            [[f"milliseconds that a step costs beside its own work ({over['steps']} steps that do nothing)", *_ms(over)]],
        ),
        *_speed(speed),
        f"A training with two threads in place of one ({threads['classifier']} of `fast dataset=cifar10`, on as many idle cores): "
        f"{short(_gain(threads), digits=2)} times as fast.",
        "",
        *_dask(body.get("dask")),
        "**Simulated, not run**: the graphs of `fast`, every step as long as recorded runs took, handed out as the engine does; steps "
        "of one name share its seconds by their images. In each cell how many times faster "
        "than one worker, and the share of the workers' time that is used. *Idle cores*: `--numerics threads`, "
        f"long trainings on up to {MOST_THREADS} cores, by Amdahl's law with a serial share of {short(sim['serial share'], digits=2)}, "
        "as measured with two.",
        "",
        *table(
            ["", "hours of a core", "longest path, minutes", *(f"{n} workers" for n in scaling.MANY if n > 1), "read, MB/s, at 100"],
            [_simulated(t) for t in sim["tables"]],
        ),
        _path(sim["tables"]),
    ]
    return "\n".join(lines)


def _speed(speed: JSON) -> list[str]:
    """A whole run with more workers."""
    heads = [f"{n} {'worker' if n == '1' else 'workers'}" for n in speed["seconds"]]
    one = speed["seconds"]["1"]
    rows = [
        [f"`{speed['recipe']}`, {speed['steps']} steps: seconds", *(f"{s:.0f}" for s in speed["seconds"].values())],
        ["times as fast as one", *(short(one / s, digits=2) for s in speed["seconds"].values())],
    ]
    return table(["", *heads], rows)


def _dask(found: JSON | None) -> list[str]:
    """What a worker that was killed cost, once that is recorded."""
    if found is None:
        return []
    alone, two = found["seconds"].values()
    same, files, twice = (found[k] for k in ("the same to the byte", "files of records", "begun twice"))
    return [
        f"`{found['recipe']}` by one process, and by a scheduler of Dask (distributed {found['distributed']}) with two workers in "
        f"different folders, one of them killed with -9 (`{found['command']}`, {found['date']}): {same} of {files} files of records "
        f"are the same to the byte; of {found['steps']} steps {len(twice)} was begun twice, the one in which it was killed; "
        f"{alone:.0f} and {two:.0f} s.",
        "",
    ]


def _ms(over: JSON) -> list[str]:
    return [f"{1000 * s:.1f}" for s in over["seconds a step"].values()]


def _gain(threads: JSON) -> float:
    return float(threads["images a second"]["2"] / threads["images a second"]["1"])


def _simulated(t: JSON) -> list[str]:
    what = t["runs"][0][0] if len(t["runs"]) == 1 else f"ten runs ({_counted(t['runs'])})"
    path = sum(seconds for _, seconds in t["longest path"]) / 60
    cells = [f"{w['speed-up']:.1f} ({measured(w['useful'])})" for n, w in t["workers"].items() if n != "1"]
    name = f"{what}, idle cores" if t["numerics"] == "threads" else what
    return [name, f"{t['core seconds'] / 3600:.1f}", f"{path:.0f}", *cells, f"{t['workers']['100']['read MB/s']:.0f}"]


def _counted(runs: list[list[Any]]) -> str:
    names = [data for data, _ in runs]
    return ", ".join(f"{names.count(n)} of {n}" for n in dict.fromkeys(names))


def _path(tables: list[JSON]) -> str:
    plain, idle = tables[-2:]
    path = plain["longest path"]
    trained = sum(seconds for name, seconds in path if name in TRAININGS)

    def of(t: JSON, what: str) -> str:
        return measured(t["workers"]["100"][what])

    return (
        "No number of workers makes a run shorter than its longest path; more runs at once fill the workers. "
        f"What bounds the ten runs of all data sets on 100 workers are trainings, {measured(trained / sum(s for _, s in path))} of the "
        f"longest path: until classifiers are trained there is too little else to do. No order of the same steps uses more than "
        f"{of(plain, 'at best')} ({of(idle, 'at best')} with idle cores); if trainings took no time it were "
        f"{of(plain, 'at best without trainings')}."
    )
