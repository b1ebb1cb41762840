"""The data sets' lists against the official ones."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
        (sources.folder, ["a,train,,9,,"], "line 2 .a., column label: ''"),
        (sources.ucf, ["a,train,Riot,9,,"], "line 2 .a., column label: 'Riot'"),
        (sources.ucf, ["a,val,Abuse,9,,"], "line 2 .a., column split: 'val'"),
        (sources.ucf, ["a,train,Abuse,0,,"], "line 2 .a., column frames: '0'"),
        (sources.ucf, ["a,train,Abuse,x,,"], "line 2 .a., column frames: 'x'"),
        (sources.ucf, ["a,test,Abuse,9,5-3,"], "line 2 .a.: Abuse from 5 to 3 ends before"),
        (sources.folder, [" ,train,Normal,9,,"], "line 2, column video: ''"),
        (sources.folder, ["a,train,Normal,9,,nan"], "line 2 .a., column fps: 'nan'"),
        (sources.folder, ["a,train,Normal,9,,-5"], "line 2 .a., column fps: '-5'"),
        (sources.folder, ["a,train,Normal,9,,25,more"], "line 2 has 7 cells"),
        (sources.folder, [f"a,train,Normal,9,{'x' * 200000},"], "is no table of video,split"),
        (sources.xd, ["a,test,B1-0-0,9,0:3-9,"], "line 2 .a., column anomaly_intervals"),
        (sources.folder, ["a,test,Riot,99,5-30 20-40,"], "from 5 to 30 and from 20 to 40 overlap"),
        (sources.folder, ["a,test,Riot,99,5--30,"], "column anomaly_intervals: '5--30'"),
        (sources.folder, ["a,train,Riot,99,5-30,"], "give none for train videos"),
        (sources.folder, ["a,train,Riot,9.5,,"], "column frames: '9.5'"),
        (sources.folder, ["a,train,Riot,1e300,,"], "column frames: '1e300'"),
        (sources.folder, ["a,train,Riot,9,,2e9"], "column fps: '2e9'"),
        (sources.folder, ["a,train,Riot,9,,", "b,test,riot,9,,"], "'Riot' and 'riot'"),
        (sources.folder, ["a,train,Road Accident,9,,", "b,test,RoadAccident,9,,"], "much alike"),
        (sources.folder, ["a\tb,train,Riot,9,,"], "control character"),
        (sources.folder, [f"{'a' * 300},train,Riot,9,,"], "1 to 200 bytes"),
        (sources.xd, ["a,train,B3-0-0,9,,"], "column label: 'B3-0-0'"),
        (sources.xd, ["a,test,B1-0-0,9,B9:1-2,"], "column anomaly_intervals: 'B9:1-2'"),
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


HEAD = "video,split,label,frames,anomaly_intervals"
PLAIN = [
    HEAD,
    "t1,train,Street Fight,202,",
    "t2,train,Normal,,",
    "e1,test,Street Fight,198,98-148",
    "e2,test,Normal,253,",
]


def same_as_plain(folder, content):
    """What is read of a list that another program wrote."""
    (folder / "plain").mkdir()
    (folder / "plain" / "videos.csv").write_text("\n".join(PLAIN))
    (folder / "videos.csv").write_bytes(content)
    expected, found = sources.folder(folder / "plain"), sources.folder(folder)
    assert found.classes == expected.classes

    def known(source):
        return [(e.video, e.split, e.labels, e.frames, e.fps, e.intervals) for e in source.entries]

    assert known(found) == known(expected)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.encode("utf-8-sig"),
        lambda text: text.encode("utf-16"),
        lambda text: text.replace("\n", "\r\n").encode(),
        lambda text: text.replace("\n", "\r").encode(),
        lambda text: text.replace(",", ";").encode(),
        lambda text: text.replace(",", "\t").encode(),
        lambda text: text.replace(",", " , ").encode(),
        lambda text: text.replace("202", "202.0").replace("198", "198.00").encode(),
        lambda text: text.replace("\n", "\n\n ,, \n").encode(),
        lambda text: f"\n\n{text}\n\n".encode(),
        lambda text: text.replace("t1", "t1.mp4").replace("e2", "e2.AVI").encode(),
        lambda text: text.replace("train", "Train").replace(HEAD, HEAD.upper()).encode(),
        lambda text: text.replace("98-148", "Street Fight:98-148").encode(),
        lambda text: text.replace("98-148", "98 - 148").encode(),
        lambda text: text.replace("98-148", "98.0-148.0").encode(),
        lambda text: text.replace("253,", "253").encode(),
        lambda text: text.replace("Street Fight", '"Street Fight"').encode(),
    ],
)
def test_lists_as_people_have_them(tmp_path, change):
    same_as_plain(tmp_path, change("\n".join(PLAIN)))


@pytest.mark.parametrize("cell", ["1-2,5-9", '"1-2,5-9"', "1-2 5-9", '"1-2;5-9"', "R:1-2 R:5-9"])
def test_several_spans(tmp_path, cell):
    (tmp_path / "videos.csv").write_text(f"{HEAD}\na,test,R,20,{cell}\n")
    (entry,) = sources.folder(tmp_path).entries
    assert entry.intervals == (("R", 1, 2), ("R", 5, 9))


def test_a_class_of_any_text(tmp_path):
    (tmp_path / "videos.csv").write_text(f"{HEAD}\na,test,x:y/<b>,20,x:y/<b>:1-2 x:y/<b>:5-9\n")
    (entry,) = sources.folder(tmp_path).entries
    assert entry.labels == ("x:y/<b>",) and [i[1:] for i in entry.intervals] == [(1, 2), (5, 9)]


@pytest.mark.parametrize("code", ["cp1252", "utf-16-le"])
def test_another_encoding_is_told(tmp_path, code):
    (tmp_path / "videos.csv").write_bytes(f"{HEAD}\né,test,Riot,9,\n".encode(code))
    with pytest.raises(BadInput, match=r"videos\.csv(, line 2 is not UTF-8| holds a NUL)"):
        sources.folder(tmp_path)


def test_a_pointer_of_git_lfs_is_named(tmp_path):
    (tmp_path / "videos.csv").write_text("version https://git-lfs.github.com/spec/v1\noid sha\n")
    with pytest.raises(BadInput, match="is a Git LFS pointer"):
        sources.folder(tmp_path)


def test_files_are_found_whatever_form_and_capitals_their_names_have(tmp_path):
    names = {"é": "e\u0301.mp4", "Cam A": "cam a.MKV", "a.b": "a.b.mov"}
    (tmp_path / "deep").mkdir()
    for name in names.values():
        (tmp_path / "deep" / name).touch()
    rows = "".join(f"{name},test,Riot,9,\n" for name in names)
    (tmp_path / "videos.csv").write_text(f"{HEAD}\n{rows}")
    found = {e.video: e.path.name for e in sources.folder(tmp_path).entries}
    assert found == names


def test_two_files_for_one_video_are_told(tmp_path):
    for camera in ("1", "2"):
        (tmp_path / camera).mkdir()
        (tmp_path / camera / "x.mp4").touch()
    (tmp_path / "videos.csv").write_text(f"{HEAD}\nx,test,Riot,9,\n")
    with pytest.raises(BadInput, match="has 2 files for the listed video x"):
        sources.folder(tmp_path)


def xd_folder(folder, *files):
    truth = "v=c__#1_label_B1-0-0 B1 3 9\n"
    (folder / "annotations_multiclasses.txt").write_text(truth)
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).touch()
    return folder


def test_xds_folders_say_the_split_or_are_refused(tmp_path):
    files = ["1-1004/v=a__#1_label_A.mp4", "Test_videos/v=b__#1_label_A.mp4"]
    source = sources.xd(xd_folder(tmp_path, *files, "TRAIN/sub/v=d__#1_label_B2-0-0.mp4"))
    splits = {e.video: e.split for e in source.entries}
    assert splits == {
        "v=a__#1_label_A": "train",
        "v=b__#1_label_A": "test",
        "v=c__#1_label_B1-0-0": "test",
        "v=d__#1_label_B2-0-0": "train",
    }
    xd_folder(tmp_path, "extra/v=e__#1_label_A.mp4")
    with pytest.raises(BadInput, match="v=e__#1_label_A.mp4 is not annotated, and its folder says"):
        sources.xd(tmp_path)


@pytest.mark.parametrize("name", ["Anomaly_Train.txt", "Temporal_Anomaly_Annotation.txt"])
def test_an_empty_official_list_is_refused(tmp_path, name):
    (tmp_path / "Anomaly_Train.txt").write_text("Abuse/A.mp4\n")
    (tmp_path / "Temporal_Anomaly_Annotation.txt").write_text("B.mp4 Abuse 1 2 -1 -1\n")
    (tmp_path / name).write_text("\ufeff\n \n")
    with pytest.raises(BadInput, match=f"{name} is empty"):
        sources.ucf(tmp_path)


def test_ucfs_lists_with_marks_and_capitals(tmp_path):
    (tmp_path / "Anomaly_Train.txt").write_text("\ufeffabuse\\A.b.MP4\r\n")
    (tmp_path / "Temporal_Anomaly_Annotation.txt").write_text(
        "\ufeffB.mp4 ABUSE 1 2 -1 -1\r\nC Abuse -1 -1 -1 -1\r\nN.mp4 Normal -1 -1 -1 -1\r\n"
    )
    a, b, c, n = sources.ucf(tmp_path).entries
    assert (a.video, a.labels) == ("A.b", ("Abuse",))
    assert (b.video, b.intervals) == ("B", (("Abuse", 1, 2),))
    assert (c.intervals, n.labels) == ((), ("Normal",))


LISTS = {
    "videos.csv": f"{HEAD}\na,train,Normal,20,\nb,train,Riot,,\nc,test,Riot,40,Riot:3-9 12-20\n",
    "Anomaly_Train.txt": "Abuse/Abuse001_x264.mp4\nTraining-Normal-Videos-Part-1/N1.mp4\n",
    "Temporal_Anomaly_Annotation.txt": "A.mp4  Abuse  165  240  -1  -1  \nN Normal -1 -1 -1 -1\n",
    "annotations_multiclasses.txt": "v=c__#1_label_B1-0-0 B1 3 9 B1 20 30\n",
}


@pytest.mark.parametrize("name", LISTS)
@settings(max_examples=75, deadline=None)
@given(data=st.data())
def test_a_changed_list_is_read_or_refused(tmp_path_factory, name, data):
    folder = tmp_path_factory.mktemp("lists", numbered=True)
    for other in LISTS if name != "videos.csv" else ["videos.csv"]:
        if other != "videos.csv" or name == other:
            (folder / other).write_text(LISTS[other])
    content = bytearray(LISTS[name].encode())
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(content)))
        length = data.draw(st.sampled_from([0, 0, 1, 5, 400]))
        new = data.draw(
            st.binary(max_size=3) | st.sampled_from([b"\n", b",", b"-", b":", b"9" * 30])
        )
        content[place : place + length] = new
    (folder / name).write_bytes(content)
    make = sources.ucf if "Anomaly" in name else sources.xd if "anno" in name else sources.folder
    try:
        assert make(folder).entries
    except BadInput as error:
        assert "\n" not in str(error)
