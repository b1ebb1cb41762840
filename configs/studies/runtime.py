"""Tables 5 to 7: how long a snippet of 16 frames takes in every stage, and how much memory.

    python main.py --study runtime [--data video=my.mp4 LABEL=STORE] [--weights NAME=DIR …]

`video` is looked at; without one, the longest of the demo's videos is rendered. The store names
the models, as for --detect (default: the embedded demo, whose captions no model wrote). Each stage
runs in a process of its own; so does every other system, at its defaults for the store's config,
and each training-free one whose scores lie beside the store, where it needs no weights or has them.
Needs the extra `featurize`. Cost: two minutes with the stand-ins on two CPU cores.
"""

from semvad_jax.studies.runtime import Runtime

study = Runtime(
    title="Tables 5 to 7: runtime",
    paper={"captioner": 1.112, "vision": 0.015, "fusion + detection": 0.014},
    paper_together=(1.126, 0.243),
    systems=(
        "vadclip",
        "dsanet",
        "pel4vad",
        "ur_dmu",
        "clip_tsa",
        "s3r",
        "rtfm",
        "mgfn",
        "avvd",
        "deep_mil",
        "mil",
    ),
    paper_others={"I3D, RGB and flow": 0.020, "LAVAD": 3.9},
)
