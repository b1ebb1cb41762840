"""Where a run is most wrong on its test videos: false alarms and misses, with their captions."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from semvad_jax.detection.timeline import distinct
from semvad_jax.evaluate import Scores, Videos

SHOWN = 8  # of each kind


@dataclasses.dataclass(frozen=True)
class Moment:
    """A false alarm or a miss: its seconds, its score as mean and SD over seeds (None for one), and
    the share of the other kind's snippets that it is on the wrong side of.
    """

    video: str
    start: float
    end: float
    score: float
    sd: float | None
    wrong: float
    label: str | None
    captions: tuple[str, ...]


class Worst:
    """All seeds' scores of the test videos by one head, searched for errors."""

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
        store, found = self.videos.store, []
        for place, i in enumerate(self.videos.test):
            if store.classes[0] in store.videos[i].labels:
                t = self.means[place].argmax()
                wrong = np.mean(self.anomalous < self.means[place][t])
                found.append(self._moment(place, np.array([t]), float(wrong), self._said(place, t)))
        return tuple(sorted(found, key=lambda moment: -moment.score)[:SHOWN])

    def misses(self) -> tuple[Moment, ...]:
        """The anomalous intervals, lowest first by the highest score of the snippets they touch;
        `label` is their class.
        """
        store, found = self.videos.store, []
        for place, i in enumerate(self.videos.test):
            video = store.videos[i]
            for name, start, end in video.intervals:
                edges = video.frame_edges
                touched = np.flatnonzero((edges[1:] > start) & (edges[:-1] < end))
                wrong = np.mean(self.normal > self.means[place][touched].max())
                moment = self._moment(place, touched, float(wrong), name)
                seconds = {"start": start / video.fps, "end": end / video.fps}
                found.append(dataclasses.replace(moment, **seconds))
        return tuple(sorted(found, key=lambda moment: moment.score)[:SHOWN])

    def _moment(
        self, place: int, snippets: Int[np.ndarray, " _"], wrong: float, label: str | None
    ) -> Moment:
        i = self.videos.test[place]
        video, texts = self.videos.store.videos[i], self.videos.store.texts(i)
        best = snippets[self.means[place][snippets].argmax()]
        rows = self.rows[place][:, best]
        return Moment(
            video=video.video,
            start=float(video.frame_edges[snippets[0]] / video.fps),
            end=float(video.frame_edges[snippets[-1] + 1] / video.fps),
            score=float(rows.mean()),
            sd=float(rows.std(ddof=1)) if len(rows) > 1 else None,
            wrong=wrong,
            label=label,
            captions=distinct([texts[t] for t in snippets] if texts else []),
        )

    def _said(self, place: int, t: int) -> str | None:
        rows = [s.classes[place][t, 1:] for s in self.scores if s.classes is not None]
        if not rows:
            return None
        return self.videos.store.classes[1 + int(np.mean(rows, axis=0).argmax())]
