"""Load VideoLLaMA 3 into transformers' native classes, without running a checkpoint's code.

The video checkpoints, DAMO-NLP-SG/VideoLLaMA3-7B and -2B, were published with code of their own
(model type videollama3_qwen2). Their weights are those of the native model under other names, so a
renaming of keys and a translated config.json are all it takes; a key too few or too many fails.
A native checkpoint (video_llama_3) loads as it is.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.utils.logging import set_verbosity_error as tell_only_errors
from safetensors import SafetensorError
from transformers import (
    Qwen2Tokenizer,
    VideoLlama3Config,
    VideoLlama3ForConditionalGeneration,
    VideoLlama3ImageProcessor,
    VideoLlama3Processor,
    VideoLlama3VideoProcessor,
)
from transformers.utils.import_utils import is_flash_attn_2_available
from transformers.utils.logging import disable_progress_bar, set_verbosity_error

from semvad_jax.files import BadInput, read_json, refuse_pointer, require

tell_only_errors()  # not each try to reach the hub
NATIVE, REMOTE = "video_llama_3", "videollama3_qwen2"
KEYMAP = {
    r"^model\.vision_encoder\.": "model.vision_model.",
    r"^model\.mm_projector\.": "model.projector.",
    r"^model\.(embed_tokens|layers|norm)\b": r"model.language_model.\1",
}
TEXT_FIELDS = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "hidden_act",
    "max_position_embeddings",
    "rms_norm_eps",
    "tie_word_embeddings",
    "bos_token_id",
    "eos_token_id",
)
VISION_FIELDS = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_channels",
    "patch_size",
    "hidden_act",
    "layer_norm_eps",
    "attention_dropout",
)
# 16 and 16,384 tokens of 28 x 28 pixels a video: the checkpoints' own. The class's defaults are
# the image models' and shrink a window's frames to a few tokens.
PIXELS = {"shortest_edge": 16 * 28 * 28, "longest_edge": 16384 * 28 * 28}
PADS = ("<|image_pad|>", "<|video_pad|>")
TAIL = 2**20
# what transformers raises for files of a checkpoint that are damaged or of another kind
UNUSABLE = (OSError, SafetensorError, ValueError, LookupError, TypeError, AttributeError)


def revision(where: str | Path) -> str:
    """What tells a checkpoint from all others: the hub's commit, or a digest of a local folder.

    The digest covers the small files whole, and of each weight file its name, size and last MiB.
    Raises BadInput where neither the folder, nor the hub, nor its local cache has the checkpoint.
    """
    config = _config_file(where, "main")
    if isinstance(where, str):
        return config.parent.name  # the cache's layout: snapshots/COMMIT/config.json
    digest = hashlib.sha256()
    for path in sorted(p for p in where.iterdir() if p.suffix in (".json", ".txt", ".safetensors")):
        size = path.stat().st_size
        digest.update(f"{path.name} {size}\n".encode())
        with path.open("rb") as file:
            file.seek(max(size - TAIL, 0) if path.suffix == ".safetensors" else 0)
            digest.update(file.read())
    return f"folder, sha256 {digest.hexdigest()[:16]}"


def load(
    where: str | Path, device: torch.device, commit: str = "main"
) -> tuple[VideoLlama3ForConditionalGeneration, VideoLlama3Processor]:
    """The model, ready to run, and its processor; `where` is a folder, or an id on the hub, and
    `commit` the hub's revision of it.

    bfloat16 on a GPU and float32 elsewhere; flash attention on a GPU where it is installed, else
    SDPA. Only safetensors are read. Raises BadInput for what is missing, of another kind of model,
    or does not fit key by key.
    """
    raw, config, processor = _described(where, commit)
    if isinstance(where, Path):
        require_safetensors(where)
    on_gpu = device.type == "cuda"
    try:
        loaded: Any = VideoLlama3ForConditionalGeneration.from_pretrained(
            where,
            config=config,
            key_mapping=KEYMAP if raw.get("model_type") == REMOTE else None,
            dtype=torch.bfloat16 if on_gpu else torch.float32,
            attn_implementation="flash_attention_2"
            if on_gpu and is_flash_attn_2_available()
            else "sdpa",
            use_safetensors=True,
            ignore_mismatched_sizes=True,  # reported below, with the missing ones
            output_loading_info=True,
            revision=commit,
        )
    except UNUSABLE as error:
        raise BadInput(f"{_unread(where)} ({first_line(error)}).") from None
    model, report = loaded
    require_fit(where, "VideoLLaMA 3", report)
    return model.to(device).eval(), processor


def load_processor(where: str | Path, commit: str = "main") -> VideoLlama3Processor:
    """The processor alone, without the weights; raises BadInput as `load` does."""
    return _described(where, commit)[2]


def _described(
    where: str | Path, commit: str
) -> tuple[dict[str, Any], VideoLlama3Config, VideoLlama3Processor]:
    """A checkpoint's config.json, that as the native class has it, and its processor."""
    disable_progress_bar()
    set_verbosity_error()  # it would print tables before our sentence
    raw = read_json(
        _config_file(where, commit),
        dict[str, Any],
        "is not a JSON object; give the published file",
    )
    try:
        tokenizer = Qwen2Tokenizer.from_pretrained(where, revision=commit)
        # Without its files the class makes an empty tokenizer, and does not complain.
        whole = tokenizer.decode(tokenizer("Time 0.1s:")["input_ids"]) == "Time 0.1s:"
        if not whole or not set(PADS) <= set(tokenizer.get_vocab()):
            raise BadInput(
                f"{where}: the tokenizer lacks its words or {' and '.join(PADS)}; put the "
                "published files of the tokenizer there."
            )
        config = _native_config(raw, tokenizer, where)
        return raw, config, _processor(raw, config, tokenizer)
    except BadInput:
        raise
    except UNUSABLE as error:
        raise BadInput(f"{_unread(where)} ({first_line(error)}).") from None


def require_fit(where: str | Path, model: str, report: dict[str, Any]) -> None:
    """BadInput where transformers' report on loading names keys that are missing or too many."""
    wrong = [
        f"{len(keys)} {fault} ({', '.join(sorted(map(_name, keys))[:3])})"
        for fault in ("missing", "unexpected", "mismatched")
        if (keys := report[f"{fault}_keys"])
    ]
    if wrong:
        raise BadInput(
            f"{where}: the weights do not fit {model} key by key: {'; '.join(wrong)}; "
            "give an unchanged, complete checkpoint."
        )


def require_safetensors(folder: Path) -> None:
    """BadInput where a checkpoint's weights are not all safetensors of its own folder.

    transformers loads whatever its index names, pickles among it.
    """
    index = folder / "model.safetensors.index.json"
    shards = ["model.safetensors"]
    if index.is_file():
        refusal = "is no index of a checkpoint's weights; put the published file there"
        shards = sorted(set(read_json(index, _Index, refusal).weight_map.values()))
    for shard in shards:
        plain = PurePath(shard).name == shard and shard.endswith(".safetensors")
        require(
            plain,
            f"{index} names {shard!r}; --weights reads safetensors of its own folder alone.",
        )
        refuse_pointer(folder / shard)


@dataclass(frozen=True)
class _Index:
    """What is read of a model.safetensors.index.json."""

    weight_map: dict[str, str]


def _processor(
    raw: dict[str, Any], config: VideoLlama3Config, tokenizer: Qwen2Tokenizer
) -> VideoLlama3Processor:
    """Built by hand: the checkpoints name processors of their own code."""
    vision: Any = config.vision_config
    patch = vision.patch_size
    video = VideoLlama3VideoProcessor(
        size=dict(PIXELS),
        patch_size=patch,
        use_token_compression=raw.get("use_token_compression", True),
    )
    image = VideoLlama3ImageProcessor(patch_size=patch, merge_size=1)
    return VideoLlama3Processor(image_processor=image, tokenizer=tokenizer, video_processor=video)


def _native_config(
    raw: dict[str, Any], tokenizer: Qwen2Tokenizer, where: str | Path
) -> VideoLlama3Config:
    model_type = raw.get("model_type")
    if model_type == NATIVE:
        return VideoLlama3Config.from_dict(raw)
    if model_type != REMOTE:
        raise BadInput(
            f"{where} has a model of type {model_type!r}; give one of type {REMOTE}, such as "
            f"DAMO-NLP-SG/VideoLLaMA3-7B, or a native {NATIVE}."
        )
    try:
        text = {name: raw[name] for name in TEXT_FIELDS}
        text["rope_parameters"] = {"rope_type": "default", "rope_theta": raw["rope_theta"]}
        vision = raw["vision_encoder_config"]
        vision = {name: vision[name] for name in VISION_FIELDS if name in vision}
    except KeyError as error:
        raise BadInput(f"{where}: config.json lacks {error}; give the published file.") from None
    # The checkpoint's own image_token_index is a token that its code adds; what stands at a
    # picture's place is replaced, so any token of the tokenizer's serves.
    pads: Any = tokenizer.convert_tokens_to_ids(list(PADS))
    return VideoLlama3Config(
        text_config={"model_type": "qwen2"} | text,
        vision_config=vision,
        image_token_id=pads[0],
        video_token_id=pads[1],
    )


def _config_file(where: str | Path, commit: str) -> Path:
    if isinstance(where, Path):
        if not (where / "config.json").is_file():
            raise BadInput(
                f"{where / 'config.json'} is missing; --weights needs a checkpoint's folder: "
                "config.json, *.safetensors and the tokenizer's files."
            )
        return where / "config.json"
    try:
        return Path(hf_hub_download(where, "config.json", revision=commit))
    except OSError as error:
        raise BadInput(f"{_unread(where)} ({first_line(error)}).") from None


def _unread(where: str | Path) -> str:
    if isinstance(where, Path):
        return f"{where} is no complete checkpoint; put the missing or damaged file there"
    return (
        f"The model hub did not give {where}; fetch its files where the hub can be reached and "
        f"give their folder: --weights {where.rpartition('/')[2].lower()}=DIR"
    )


def _name(key: str | tuple) -> str:
    return key if isinstance(key, str) else key[0]  # a mismatched one comes with its shapes


def first_line(error: Exception) -> str:
    """The start of what an error says, or its kind."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(".")
