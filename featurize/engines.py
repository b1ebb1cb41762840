"""Who works on a stage's videos: this process, or one Ray actor for each GPU."""

import logging
import os
from collections.abc import Iterator
from functools import cached_property
from typing import Any

from featurize.job import Job
from featurize.request import Request
from featurize.sources import Entry
from semvad_jax.files import BadInput

# Ray Data's own tasks need processors beside those of the actors, or nothing ever starts.
SPARE = 2


def local(job: Job, stage: str) -> Iterator[int]:
    """For every video in order the number of its snippets that were worked on."""
    for entry in job.entries:
        yield job.make(stage, entry)


def ray(job: Job, stage: str) -> Iterator[int]:
    """The same in the order of completion, by actors of a Ray cluster or of this machine.

    The machines of a cluster need the videos and STORE.work at the same place. Without a GPU there
    is an actor for each processor.
    """
    import ray

    entries = job.entries
    if not entries:
        return
    if not ray.is_initialized():
        _start(ray)
    resources = ray.cluster_resources()
    gpus = int(resources.get("GPU", 0))
    actors = min(len(entries), gpus or max(1, int(resources["CPU"]) - SPARE))
    print(f"{stage}: {actors} actors of Ray")
    rows = (
        ray.data.from_items(list(range(len(entries))), override_num_blocks=len(entries))
        .map_batches(
            Worker,
            fn_constructor_args=(job.request.anywhere(), stage),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=actors),
            num_cpus=1,
            num_gpus=1 if gpus else 0,
        )
        .iter_rows()
    )
    for row in rows:
        if row["mistake"]:
            raise BadInput(row["mistake"])
        yield int(row["snippets"])


class Worker:
    """An actor: works on one video after the other."""

    def __init__(self, request: Request, stage: str) -> None:
        self._request, self._stage = request, stage

    @cached_property
    def _job(self) -> Job:
        return Job(self._request)

    @cached_property
    def _entries(self) -> list[Entry]:
        return self._job.entries

    def __call__(self, batch: dict[str, Any]) -> dict[str, list]:
        (video,) = batch["item"]
        snippets, mistake = 0, ""
        try:
            snippets = self._job.make(self._stage, self._entries[video])
        except BadInput as error:
            mistake = str(error)
        return {"snippets": [snippets], "mistake": [mistake]}


def _start(ray: Any) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if "RAY_ADDRESS" in os.environ:
        ray.init(**quiet)
    else:
        cores = os.cpu_count() or 1
        ray.init(num_cpus=cores + SPARE, include_dashboard=False, **quiet)
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    ray.data.DataContext.get_current().enable_progress_bars = False
