"""Where a run is most wrong on its test videos: false alarms and misses, with their captions."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from semvad_jax.detection.timeline import distinct
from semvad_jax.evaluate import Scores, Videos

SHOWN = 8  # false alarms, and as many misses


@dataclasses.dataclass(frozen=True)
class Moment:
    """A false alarm or a miss.

    `wrong` is, of a false alarm, the share of all anomalous snippets whose scores are lower; of a
    miss, the share of all normal snippets whose scores are higher.
    """

    video: str
    start: float  # seconds
    end: float
    score: float  # the mean over seeds
    sd: float | None  # the sample SD over seeds; None for one seed
    wrong: float
    label: str | None
    captions: tuple[str, ...]


class Worst:
    """All seeds' scores of the test videos by one head, searched for errors.

    `scores` has an entry a seed. Videos are meant by their position among the test videos.
    """

    def __init__(self, videos: Videos, scores: Sequence[Scores], head: str):
        self.videos, self.scores = videos, scores
        by_seed = [s.head(head) for s in scores]
        self.rows = [np.stack(rows).astype(np.float64) for rows in zip(*by_seed, strict=True)]
        self.means = [rows.mean(axis=0) for rows in self.rows]
        mean, anomalous = np.concatenate(self.means), videos.truth.positive > 0
        self.anomalous, self.normal = mean[anomalous], mean[~anomalous]

    def false_alarms(self) -> tuple[Moment, ...]:
        """The highest snippet of each normal video, highest first; `label` is the anomaly class
        that is most probable there, None without a class head.
        """
        store, moments = self.videos.store, []
        for position, i in enumerate(self.videos.test):
            if store.classes[0] in store.videos[i].labels:
                t = int(self.means[position].argmax())
                wrong = float(np.mean(self.anomalous < self.means[position][t]))
                label = self._anomaly_class(position, t)
                moments.append(self._moment(position, np.array([t]), wrong, label))
        return tuple(sorted(moments, key=lambda moment: -moment.score)[:SHOWN])

    def misses(self) -> tuple[Moment, ...]:
        """The anomalous intervals, lowest first by the highest score of the snippets they touch;
        `label` is their class.
        """
        store, moments = self.videos.store, []
        for position, i in enumerate(self.videos.test):
            video = store.videos[i]
            for name, start, end in video.intervals:
                edges = video.frame_edges
                touched = np.flatnonzero((edges[1:] > start) & (edges[:-1] < end))
                wrong = np.mean(self.normal > self.means[position][touched].max())
                moment = self._moment(position, touched, float(wrong), name)
                seconds = {"start": video.second_of(start), "end": video.second_of(end)}
                moments.append(dataclasses.replace(moment, **seconds))
        return tuple(sorted(moments, key=lambda moment: moment.score)[:SHOWN])

    def _moment(
        self, position: int, snippets: Int[np.ndarray, " _"], wrong: float, label: str | None
    ) -> Moment:
        """The moment of neighbouring snippets of a video; its score is the highest of theirs."""
        i = self.videos.test[position]
        video, texts = self.videos.store.videos[i], self.videos.store.texts(i)
        highest = snippets[self.means[position][snippets].argmax()]
        of_seeds = self.rows[position][:, highest]
        return Moment(
            video=video.video,
            start=float(video.second_edges[snippets[0]]),
            end=float(video.second_edges[snippets[-1] + 1]),
            score=float(of_seeds.mean()),
            sd=float(of_seeds.std(ddof=1)) if len(of_seeds) > 1 else None,
            wrong=wrong,
            label=label,
            captions=distinct([texts[t] for t in snippets] if texts else []),
        )

    def _anomaly_class(self, position: int, t: int) -> str | None:
        """The anomaly class with the largest mean probability in snippet t of a video; None without
        a class head.
        """
        rows = [s.classes[position][t, 1:] for s in self.scores if s.classes is not None]
        if not rows:
            return None
        return self.videos.store.classes[1 + int(np.mean(rows, axis=0).argmax())]
