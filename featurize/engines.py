"""Who works on a stage's videos: this process, others beside it, or one Ray actor for each GPU.

Each is given the places of the videos to do among the job's entries, and tells `progress`.
"""

import logging
import os
import pickle
import signal
from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property, partial
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from typing import Any

from featurize import mistakes
from featurize.job import Job
from featurize.progress import Progress
from featurize.request import CAPTIONERS, VISION, Request
from featurize.sources import Entry
from semvad_jax.files import BadInput

# Ray Data's own tasks need processors beside those of the actors, or nothing ever starts.
SPARE = 2
MORE, FINISHED, MISTAKE, EMBED, WRITE = range(5)  # what a worker says


def local(job: Job, stages: Sequence[str], todo: Sequence[int], progress: Progress) -> None:
    """One video after the other."""
    entries = job.entries
    for video in todo:
        job.make_each(stages, entries[video], partial(progress.more, video))
        progress.finish(video)


def workers(job: Job, stages: Sequence[str], todo: Sequence[int], progress: Progress) -> None:
    """As many videos at once as the request has workers, each in a process of one thread.

    On a GPU, which this process owns, workers decode, resize and prune, and have it compute their
    batches: as each waits for the answer to one before it asks for the next, so many batches at
    most are waiting. A worker that dies is told as a fault of its video, and replaced.
    """
    from featurize import arithmetic

    if arithmetic.on_gpu() and "text" in stages:  # nothing is decoded for it
        return local(job, stages, todo, progress)
    entries, left = job.entries, list(reversed(todo))
    with _Workers(job, stages) as those:
        for _ in range(min(job.request.workers, len(left))):
            those.start(left.pop())
        while those.at_work:
            for connection in those.heard():
                video = those.at_work[connection]
                try:
                    kind, *said = connection.recv()
                except (EOFError, ConnectionResetError):
                    how = those.buried(connection)
                    job.fail(stages, entries[video], f"the process that worked on it {how}")
                    progress.finish(video)
                    if left:
                        those.start(left.pop())
                    continue
                if kind == MORE:
                    progress.more(video, *said)
                elif kind in (EMBED, WRITE):
                    compute = job.vision.embed if kind == EMBED else job.captioner.write
                    with suppress(BrokenPipeError):  # it died meanwhile, which is heard next
                        connection.send(compute(*said))
                elif kind == MISTAKE:
                    raise BadInput(*said)
                else:
                    progress.finish(video)
                    those.give(connection, left.pop() if left else None)


class _Workers:
    """Processes that each work on a video; all of them end with the block."""

    def __init__(self, job: Job, stages: Sequence[str]) -> None:
        self._job, self._stages = job, stages
        self.at_work: dict[Connection, int] = {}  # and on which video
        self._processes: dict[Connection, Any] = {}

    def __enter__(self) -> "_Workers":
        return self

    def __exit__(self, *error: Any) -> None:
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            process.join()

    def heard(self) -> list[Connection]:
        """Those that said something or died, once there is one."""
        ready = wait(list(self.at_work))
        return [connection for connection in self.at_work if connection in ready]

    def start(self, video: int) -> None:
        """A new process, with its first video."""
        context = get_context("spawn")  # CUDA survives no fork
        ours, its = context.Pipe()
        asked = self._job.request.anywhere()
        process = context.Process(target=serve, args=(asked, self._stages, its), daemon=True)
        process.start()
        its.close()
        self._processes[ours] = process
        self.give(ours, video)

    def give(self, connection: Connection, video: int | None) -> None:
        """The next video of a worker; None where there is none."""
        self.at_work.pop(connection, None)
        if video is not None:
            self.at_work[connection] = video
            with suppress(BrokenPipeError):  # it is dead, which is heard next
                connection.send(video)

    def buried(self, connection: Connection) -> str:
        """How a process that died ended, in words."""
        del self.at_work[connection]
        process = self._processes.pop(connection)
        process.join()
        code = process.exitcode
        return f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"


def serve(request: Request, stages: Sequence[str], connection: Connection) -> None:
    """A worker: makes the pieces of the videos whose places it is told, until nobody tells it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asks
    try:
        with mistakes.as_bad_input():
            job = Job(request)
            entries = job.entries
            _borrow_models(job, connection)
            while True:
                video = connection.recv()
                job.make_each(stages, entries[video], lambda n: connection.send((MORE, n)))
                connection.send((FINISHED,))
    except BadInput as mistake:
        connection.send((MISTAKE, str(mistake)))
    except (EOFError, BrokenPipeError):
        return  # the process that asks is gone


def _borrow_models(job: Job, connection: Connection) -> None:
    """On a GPU, has its owner compute the batches of the models that need one."""
    from featurize import arithmetic

    def ask(kind: int, *batch: Any) -> Any:
        # in bytes: PyTorch would send tensors by shared memory, of which containers have little
        connection.send_bytes(pickle.dumps((kind, *batch)))
        return connection.recv()

    if arithmetic.on_gpu() and job.request.vision.name == VISION:
        job.vision.embed = partial(ask, EMBED)
    if arithmetic.on_gpu() and job.request.captioner.name in CAPTIONERS:
        job.captioner.write = partial(ask, WRITE)


def ray(job: Job, stages: Sequence[str], todo: Sequence[int], progress: Progress) -> None:
    """One video an actor, by actors of a Ray cluster or of this machine.

    The machines of a cluster need the videos and STORE.work at the same place. Without a GPU there
    is an actor for each processor.
    """
    import ray

    if not todo:
        return
    if not ray.is_initialized():
        _start(ray)
    resources = ray.cluster_resources()
    gpus = int(resources.get("GPU", 0))
    actors = min(len(todo), gpus or max(1, int(resources["CPU"]) - SPARE))
    print(f"{', '.join(stages)}: {actors} actors of Ray")
    rows = (
        ray.data.from_items(list(todo), override_num_blocks=len(todo))
        .map_batches(
            Worker,
            fn_constructor_args=(job.request.anywhere(), stages),
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
        progress.more(int(row["video"]), int(row["snippets"]))
        progress.finish(int(row["video"]))


class Worker:
    """An actor: works on one video after the other."""

    def __init__(self, request: Request, stages: Sequence[str]) -> None:
        self._request, self._stages = request, stages

    @cached_property
    def _job(self) -> Job:
        return Job(self._request)

    @cached_property
    def _entries(self) -> list[Entry]:
        return self._job.entries

    def __call__(self, batch: dict[str, Any]) -> dict[str, list]:
        (video,) = batch["item"]
        snippets, mistake = list[int](), ""
        try:
            self._job.make_each(self._stages, self._entries[video], snippets.append)
        except BadInput as error:
            mistake = str(error)
        return {"video": [video], "snippets": [sum(snippets)], "mistake": [mistake]}


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
