"""Table 4: how near captions are to what people write of the same moment.

    python main.py --study table4 [--data ucf=features/ucf_captions sentences=UCA.json|DIR]
                                  [--weights clip-vit-l14=DIR clip-vit-b16=DIR]

Trains nothing. `sentences` is a JSON file in UCA's format, or a folder with UCA_*.json; any other
label is a store with captions. By MiniLM-L6 where its package is installed, and by every CLIP text
tower whose weights are given. caption_pairs.json has the paper's own four pairs. Cost on one CPU
core: ten seconds for the demo, 77 for UCF-Crime's 290 test videos with 16 captions each.
"""

from pathlib import Path

from semvad_jax.studies.captions import CaptionMatch

study = CaptionMatch(
    title="Table 4: captions beside human sentences",
    pairs=Path(__file__).with_name("caption_pairs.json"),
    paper=0.77,  # of VideoLLaMA 3's captions of 26 videos, without a baseline
)
