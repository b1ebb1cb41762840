"""One file a model, each with `init(cfg, key)` and `apply(cfg, params, frozen, batch)`; `--model
NAME` picks the file.
"""
