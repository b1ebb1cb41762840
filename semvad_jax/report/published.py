"""Judging published weights, which the systems' public programs saved, on a store of the same kind
of features.
"""

from pathlib import Path

import jax
import safetensors
import safetensors.numpy

from semvad_jax import config, data
from semvad_jax import evaluate as judging
from semvad_jax.config import Config
from semvad_jax.files import BadInput, refuse_pointer
from semvad_jax.models import convert, model
from semvad_jax.report import findings
from semvad_jax.report import summary as report
from semvad_jax.report.tables import plain_console
from semvad_jax.store.locate import open_store
from semvad_jax.types import Weights


def evaluate(cfg: Config, file: Path) -> None:
    """Prints the metrics of the weights in `file` on the test videos of the config's store.

    They count as `test`, optimistic: those programs choose their weights by the test videos. Raises
    BadInput for a file that is no safetensors, a store without CLIP's class tokens, and for what
    `convert.from_torch` refuses.
    """
    store = open_store(cfg.data.store or f"features/{cfg.data.dataset}")
    cfg = config.resolve(cfg, store)
    tokens = store.class_text.get("class_tokens")
    by_name = hasattr(model(cfg), "TORCH")  # VadCLIP and SemVAD prompt with class tokens
    if not by_name and tokens is None:
        raise BadInput(
            f"the store at {store.path} has no class tokens, which these weights prompt with; "
            "make its class texts with CLIP"
        )
    try:
        arrays = safetensors.numpy.load_file(file)
    except (OSError, safetensors.SafetensorError):
        refuse_pointer(file)
        raise BadInput(
            f"{file} is no safetensors file; make one with featurize/convert_checkpoint.py"
        ) from None
    if tokens is None or by_name:
        weights, frozen = convert.from_program(cfg, arrays), data.frozen(store)
    else:
        captions = store.class_text["class_caption"]
        params, frozen = convert.from_torch(cfg, arrays, tokens, captions)
        weights = Weights(params)
    videos = judging.Videos(cfg, store, data.judged(store), [])
    score = jax.jit(judging.score_windows, static_argnums=0)
    scores = videos.scores(jax.device_get(score(cfg, frozen, videos.windows(), weights)))
    values = videos.test_metrics(scores, "test")
    metrics = {name: findings.spread([value]) for name, value in values.items()}
    title = f"{cfg.model.name} on {store.info['dataset']}, weights of {file.name}"
    unjudged = judging.unjudged_sentence(store)
    report.print_table(plain_console(), title, metrics, behind=unjudged)
