"""The data sets' lists against the official ones."""

from collections import Counter
from pathlib import Path

import pytest

from featurize import sources
from semvad_jax.files import BadInput

SHARED = Path(__file__).parents[2] / "shared/data"
real = pytest.mark.skipif(not SHARED.is_dir(), reason="the real lists are not beside this checkout")


def key(entry):
    return entry.video, entry.split, entry.labels


@pytest.fixture
def official(tmp_path):
    """A folder with a data set's official lists but without its videos.csv."""

    def make(name, *files):
        for file in files:
            (tmp_path / file).write_bytes((SHARED / name / file).read_bytes())
        return tmp_path

    return make


@real
def test_ucf_is_the_same_from_the_table_and_from_the_official_lists(official):
    table = sources.ucf(SHARED / "ucf_crime")
    folder = official("ucf_crime", "Anomaly_Train.txt", "Temporal_Anomaly_Annotation.txt")
    lists = sources.ucf(folder)
    assert table.classes == lists.classes and table.classes[0] == "Normal"
    assert {key(e) for e in table.entries} == {key(e) for e in lists.entries}
    assert Counter(e.split for e in lists.entries) == {"train": 1610, "test": 290}
    assert [e.frames for e in lists.entries] == [0] * 1900 and lists.entries[0].fps == 30
    truth = {e.video: e for e in lists.entries}
    for entry in table.entries:
        assert truth[entry.video].of_length(entry.frames, 0).intervals == entry.intervals


@real
def test_xd_has_its_published_counts():
    source = sources.xd(SHARED / "xd_violence")
    assert len(source.entries) == 4754 and source.classes[0] == "Normal"
    train, test = ([e for e in source.entries if e.split == s] for s in ("train", "test"))
    assert (len(train), len(test)) == (3954, 800)
    assert Counter(len(e.labels) for e in train) == {1: 3711, 2: 208, 3: 35}
    assert Counter(len(e.labels) for e in test) == {1: 753, 2: 43, 3: 4}
    firsts = Counter(e.labels[0] for e in train)
    assert firsts["Normal"] == 2049 and sum(firsts.values()) - firsts["Normal"] == 1905
    every = Counter(label for e in train for label in e.labels)
    expected = {"Fighting": 481, "CarAccident": 444, "Shooting": 442, "Riot": 384}
    expected |= {"Explosion": 382, "Abuse": 50}
    assert {name: every[name] for name in expected} == expected
    named = {e.video: e for e in source.entries}
    assert named["v=2ncA53czMOg__#00-02-40_00-03-55_label_B4-0-0"].labels == ("Riot",)
    assert all(not e.intervals for e in train)
    assert all(bool(e.intervals) == (e.labels != ("Normal",)) for e in test)
    assert all(0 <= a < b <= e.frames for e in test for _, a, b in e.intervals)


@real
def test_xd_is_the_same_from_the_table_and_from_the_official_files(official):
    table = sources.xd(SHARED / "xd_violence")
    folder = official("xd_violence", "annotations_multiclasses.txt")
    for entry in table.entries:  # as the archives unpack
        place = folder / ("videos" if entry.split == "test" else "1-1004")
        place.mkdir(exist_ok=True)
        (place / f"{entry.video}.mp4").touch()
    files = sources.xd(folder)
    assert {key(e) for e in table.entries} == {key(e) for e in files.entries}
    truth = {e.video: e for e in files.entries}
    for entry in table.entries:
        found = truth[entry.video]
        assert found.of_length(entry.frames, 0).intervals == entry.intervals
        assert found.path.is_file() and found.path.stem == entry.video


def table(folder, *rows):
    folder.mkdir(exist_ok=True)
    lines = ["video,split,label,frames,anomaly_intervals,fps", *rows]
    (folder / "videos.csv").write_text("\n".join(lines))
    return folder


def test_a_folder_of_videos(tmp_path):
    rows = ["b,test,Riot,50,3-9 Fire:20-99,25", "a,train,Normal,,,", "c,train,Fire,10,,12.5"]
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "a.mkv").touch()
    source = sources.folder(table(tmp_path, *rows))
    assert source.dataset == "folder" and source.classes == ("Normal", "Fire", "Riot")
    b, a, c = source.entries
    assert b.intervals == (("Riot", 3, 9), ("Fire", 20, 50)) and b.fps == 25
    assert (a.frames, a.fps, a.path) == (0, 0.0, tmp_path / "videos" / "a.mkv")
    assert (c.labels, c.path) == (("Fire",), tmp_path / "videos" / "c.mp4")
    assert source.notes == ("1 intervals reached past the last frame and were cut there",)


def test_a_folder_to_be_scored_needs_no_train_videos(tmp_path):
    source = sources.folder(table(tmp_path, "a,test,Normal,9,,"))
    assert source.classes == ("Normal",) and len(source.entries) == 1


@pytest.mark.parametrize(
    ("make", "rows", "words"),
    [
        (sources.folder, None, "videos.csv is missing; --videos needs .* in videos/"),
        (sources.ucf, None, "videos.csv is missing; .* Temporal_Anomaly_Annotation.txt"),
        (sources.xd, None, "videos.csv is missing; .* annotations_multiclasses.txt"),
        (sources.folder, ["a,train,Normal,9,,"], "needs train videos with the label Normal and"),
        (sources.folder, ["a,train,Riot,9,,", "b,test,Normal,9,,"], "needs train videos with the"),
        (sources.folder, ["a,train,Normal,9,,", "a,test,Riot,9,,"], "lists a a second time"),
        (sources.folder, ["a,train,,9,,"], "line 2 .a. has split 'train', label ''"),
        (sources.ucf, ["a,train,Riot,9,,"], "line 2 .a. has split 'train', label 'Riot'"),
        (sources.ucf, ["a,val,Abuse,9,,"], "line 2 .a. has split 'val'"),
        (sources.ucf, ["a,train,Abuse,0,,"], "and 0 frames"),
        (sources.ucf, ["a,train,Abuse,x,,"], "line 2 is not a row of video,split"),
        (sources.ucf, ["a,test,Abuse,9,5-3,"], "line 2 is not a row of video,split"),
        (sources.folder, [" ,train,Normal,9,,"], "line 2 is not a row of video,split"),
        (sources.folder, ["a,train,Normal,9,,nan"], "line 2 is not a row of video,split"),
        (sources.folder, ["a,train,Normal,9,,-5"], "line 2 is not a row of video,split"),
        (sources.folder, ["a,train,Normal,9,,25,more"], "line 2 is not a row of video,split"),
        (sources.folder, [f"a,train,Normal,9,{'x' * 200000},"], "is no table of video,split"),
        (sources.xd, ["a,test,B1-0-0,9,0:3-9,"], "line 2 .a. has split 'test'"),
        (sources.xd, ["a,train,B3-0-0,9,,"], "label 'B3-0-0'"),
        (sources.xd, ["a,test,B1-0-0,9,B9:1-2,"], "line 2 .a. has split 'test'"),
    ],
)
def test_mistakes_name_their_line(make, rows, words, tmp_path):
    place = tmp_path if rows is None else table(tmp_path / "x", *rows)
    with pytest.raises(BadInput, match=words):
        make(place)


@pytest.mark.parametrize(
    ("file", "line", "words"),
    [
        ("Anomaly_Train.txt", "Abuse001.mp4", "Anomaly_Train.txt, line 2 is no CLASS/VIDEO.mp4"),
        ("Temporal_Anomaly_Annotation.txt", "A Abuse 3", "line 2 is no VIDEO CLASS and two spans"),
    ],
)
def test_a_broken_official_list_names_its_line(file, line, words, tmp_path):
    lines = {"Anomaly_Train.txt": "Abuse/A.mp4", "Temporal_Anomaly_Annotation.txt": ""}
    lines["Temporal_Anomaly_Annotation.txt"] = "B.mp4 Abuse 1 2 -1 -1"
    for name, first in lines.items():
        (tmp_path / name).write_text(f"{first}\n{line if name == file else ''}\n")
    with pytest.raises(BadInput, match=words):
        sources.ucf(tmp_path)
