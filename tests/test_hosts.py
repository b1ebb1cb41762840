"""Several hosts of one run: what they tell each other, how they end, and that together they write
what one host writes.
"""

import dataclasses
import json
import socket
import subprocess
import sys
import threading
import time
import types
from pathlib import Path

import jax
import numpy as np
import pytest

import main
from semvad_jax import config, hosts, run, seeds, store
from semvad_jax.checkpoint import Checkpoints
from semvad_jax.files import BadInput
from semvad_jax.hosts import Hosts, Place
from tests.support.stores import make_store

ROOT = Path(__file__).parent.parent
CONFIG = """
from semvad_jax.config import *
config = Config(
    data=DataConfig(dataset="synthetic", val_fraction=0.25),
    model=ModelConfig(name="mil", dim=4, length=8),
    train=TrainConfig(batch=8, epochs=3, lr=1e-3),
    eval=EvalConfig(every=0, crop=0),
)
"""


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def together(*works):
    """What each host's work returns or raises: host I runs works[I](hosts), in a thread."""
    port, found = free_port(), [None] * len(works)

    def host(index):
        try:
            with hosts.joined(Place(index, len(works), "127.0.0.1", port)) as joined:
                found[index] = works[index](joined)
        except BadInput as error:
            found[index] = str(error)

    threads = [threading.Thread(target=host, args=(i,)) for i in range(len(works))]
    for thread in reversed(threads):  # host 0 comes last
        thread.start()
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive()
    return found


# ---- places and shares


def test_a_place_is_read():
    assert Place.parse("1/3@node-1.net:4321") == (1, 3, "node-1.net", 4321)
    assert Place.parse("0/1@[::1]:80") == (0, 1, "::1", 80)
    assert main.arguments(["--config", "ucf", "--hosts", "0/2@n:1"]).hosts == (0, 2, "n", 1)


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["--config", "ucf", "--hosts", "2/2@n:1"], "hosts of 2 are numbered from 0 to 1"),
        (["--config", "ucf", "--hosts", "n:1"], "n:1 does not say I/N@ADDRESS:PORT"),
        (["--config", "ucf", "--hosts", "-1/2@n:1"], "expected one argument"),
        (["--restore", "r", "--eval", "--hosts", "0/2@n:1"], "--hosts goes with --config NAME"),
        (["--config", "ucf", "--plan", "--hosts", "0/2@n:1"], "--hosts goes with --config NAME"),
    ],
)
def test_what_is_no_place_is_refused(capsys, argv, told):
    with pytest.raises(SystemExit) as ended:
        main.arguments(argv)
    assert ended.value.code == 2 and told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("seeds", "count", "shares"),
    [(4, 2, [[0, 1], [2, 3]]), (5, 2, [[0, 1, 2], [3, 4, 4]]), (5, 4, [[0, 1], [2, 3], [4, 4]])],
)
def test_shares_are_equally_large_and_filled_up_with_the_last_seed(seeds, count, shares):
    assert [Hosts(i, count).share(seeds).tolist() for i in range(len(shares))] == shares


# ---- what hosts tell each other


def test_all_are_told_what_each_says_and_host_0_gets_the_arrays():
    def work(joined):
        told = [joined.exchange({"host": joined.index, "x": 0.1}) for _ in range(2)]
        of_seeds = joined.of_all_seeds([f"{joined.index}a", f"{joined.index}b"], 5)
        arrays = [np.full((2, 3), joined.index, kind) for kind in (np.float32, bool)]
        return told, of_seeds, joined.gather(arrays)

    found = together(work, work, work)
    said = [{"host": i, "x": 0.1} for i in range(3)]
    for told, of_seeds, _ in found:
        assert told == [said, said] and of_seeds == ["0a", "0b", "1a", "1b", "2a"]
    assert found[1][2] is None and found[2][2] is None
    floats, flags = found[0][2]
    assert floats.dtype == np.float32 and flags.dtype == bool
    assert floats.tolist() == [[i] * 3 for i in (0, 0, 1, 1, 2, 2)]
    assert flags.tolist() == [[i > 0] * 3 for i in (0, 0, 1, 1, 2, 2)]


def test_hosts_that_do_not_agree_all_say_so():
    agree = [lambda joined, x=x: joined.agree(x, "has another x than host 0") for x in (1, 1, 2)]
    assert together(*agree) == ["host 2 has another x than host 0"] * 3


def test_a_host_that_ends_is_missed_by_the_others():
    def twice(joined):
        joined.exchange(1)
        joined.exchange(2)

    for gone in (0, 1):
        works = [twice, twice, twice]
        works[gone] = lambda joined: joined.exchange(1)
        found = together(*works)
        left = [told for told in found if isinstance(told, str)]
        assert len(left) == 2
        assert f"host {gone} has ended or cannot be reached any more" in left[0]
        assert all("has ended" in told and "--resume on every host" in told for told in left)


def test_hosts_that_do_not_come_are_named(monkeypatch):
    monkeypatch.setattr(hosts, "WAIT", 0.3)
    port = free_port()
    with pytest.raises(BadInput, match=f"host 1 of 3 did not come to 127.0.0.1:{port} within 0"):
        with hosts.joined(Place(0, 3, "127.0.0.1", port)):
            pass
    with pytest.raises(BadInput, match=f"host 0 cannot be reached at 127.0.0.1:{port}: .* refused"):
        with hosts.joined(Place(1, 3, "127.0.0.1", port)):
            pass
    told = "host 0 cannot wait for others at 192.0.2.1:80: [^(]*; give an address"
    with pytest.raises(BadInput, match=told), hosts.joined(Place(0, 2, "192.0.2.1", 80)):
        pass


def test_a_name_that_nobody_knows_is_told_at_once(monkeypatch):
    def unknown(*_):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "create_connection", unknown)
    told = "host 0 cannot be reached at nod1:80: Name or service not known; give the address"
    with pytest.raises(BadInput, match=told), hosts.joined(Place(1, 2, "nod1", 80)):
        pass


@pytest.mark.parametrize("came", [(1, 3), (0, 2), (2, 2)])
def test_a_host_of_another_number_or_count_is_refused(came):
    place, told = Place(0, 2, "127.0.0.1", free_port()), []

    def first():
        with pytest.raises(BadInput) as refused, hosts.joined(place):
            pass
        told.append(str(refused.value))

    waiting = threading.Thread(target=first)
    waiting.start()
    hosts._connected(Place(*came, *place[2:]), time.monotonic() + 20)
    waiting.join(20)
    assert f"host {came[0]} of {came[1]} came to host 0 of 2, which waits for host 1" in told[0]


def test_what_is_no_host_is_passed_over():
    place, told = Place(0, 2, "127.0.0.1", free_port()), []

    def host(index):
        with hosts.joined(place._replace(index=index)) as joined:
            told.append(joined.exchange(index))

    first, other = (threading.Thread(target=host, args=(i,)) for i in range(2))
    first.start()
    while True:
        try:
            with socket.create_connection(place[2:]) as stranger:
                stranger.sendall(b"GET / HTTP/1.0\r\n\r\n")
            break
        except ConnectionRefusedError:
            time.sleep(0.01)
    other.start()
    first.join(20), other.join(20)
    assert told == [[0, 1], [0, 1]]


# ---- one run


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("hosts")
    make_store(place / "store", train=32, test=8, lengths=(5, 8, 11))
    (place / "tiny.py").write_text(CONFIG)
    return place


def command(place, out, *more):
    data = ["--data", str(place / "store"), "--out", str(out), "--vmap-seeds", "3"]
    return ["--config", str(place / "tiny.py"), *data, *more]


def both(place, out, number, step, *more):
    """(exit status, output, errors) of two hosts of two devices each; the second one is sent the
    signal after the step.
    """
    port, hosts = free_port(), []
    for index, asked in ((0, ("SIGTERM", "-1")), (1, (number, str(step)))):
        script = [sys.executable, str(ROOT / "tests/support/one_host.py"), *asked]
        argv = command(place, out, "--hosts", f"{index}/2@127.0.0.1:{port}", *more)
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        hosts.append(subprocess.Popen([*script, *argv], text=True, **pipes))
    try:
        ends = [host.communicate(timeout=600) for host in hosts]
        return [(host.returncode, *end) for host, end in zip(hosts, ends, strict=True)]
    finally:
        for host in hosts:
            host.kill()


@pytest.mark.slow
def test_two_hosts_stopped_killed_and_resumed_write_what_one_host_writes(place, tmp_path):
    out = tmp_path / "run"
    first, second = both(place, out, "SIGTERM", 3)
    assert (first[0], second[0]) == (130, 130) and second[1] == ""
    assert "stopped at step 3 of 9 and saved" in " ".join(first[1].split())
    first, second = both(place, out, "SIGKILL", 6, "--resume")
    assert (first[0], second[0]) == (2, -9)
    assert first[2].startswith("error: host 1 has ended") and first[2].count("\n") == 1
    first, second = both(place, out, "SIGTERM", -1, "--resume")
    assert (first[0], second[0]) == (0, 0) and second[1:] == ("", "")

    main.main(command(place, tmp_path / "one"))
    for name in ("metrics.jsonl", "config.json", "checkpoint/meta.json"):
        assert (out / name).read_bytes() == (tmp_path / "one" / name).read_bytes()
    one, two = (json.loads((r / "summary.json").read_text()) for r in (tmp_path / "one", out))
    for name in ("device", "wall_seconds", "train_seconds"):
        assert one.pop(name) != two.pop(name)
    assert one == two and len(one["metrics"]["last/binary/auc"]["values"]) == 3
    files = [sorted(p.name for p in r.iterdir()) for r in (tmp_path / "one", out)]
    assert files[0] == files[1]
    states = []
    for of_run in (tmp_path / "one", out):
        program, _, _, _ = run.restore(of_run)
        with Checkpoints(of_run) as saved:
            states.append(jax.tree.leaves(saved.restore(program.saved_state())[0]))
    for a, b in zip(*states, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("settings", "data", "told"),
    [
        (["train.lr=1e-2"], "store", "host 1 was given other settings, seeds or devices"),
        ([], "other", "host 1 reads other features than host 0"),
        ([], "store", "3 hosts have 2 seeds to share"),
    ],
)
def test_hosts_that_were_given_different_things_are_refused(place, tmp_path, settings, data, told):
    if data == "other" and not (place / data).exists():
        make_store(place / data, train=32, test=8, lengths=(5, 8, 11), seed=1)

    def work(settings, data):
        cfg = config.load(str(place / "tiny.py"), [*settings, f"data.store={place / data}"])
        pair, out = [9, 42], tmp_path / "run"
        return lambda joined: run._train(cfg, out, "x", pair, pair, 1, False, False, joined)

    works = [work([], "store"), work(settings, data)]
    works += [work([], "store")] * ("3 hosts" in told)
    assert all(of_host.startswith(told) for of_host in together(*works))
    assert not (tmp_path / "run").exists()


def test_a_run_goes_on_where_all_hosts_see_it(place, tmp_path, monkeypatch):
    """Host 0 sees a run that was begun, host 1 an empty folder."""
    cfg = config.load(str(place / "tiny.py"), [f"data.store={place / 'store'}"])
    monkeypatch.setattr(run, "_resumed", lambda out, cfg, meta, resume: (cfg, meta, None))
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "config.json").write_text("{}")

    def work(joined):
        out = tmp_path / str(joined.index)
        run._train(cfg, out, "x", [9, 42], [9, 42], 1, True, False, joined)

    told = f"host 1 sees something else in {tmp_path}/{{}} than host 0; a run goes on in a folder"
    found = together(work, work)
    assert [of_host.startswith(told.format(i)) for i, of_host in enumerate(found)] == [True, True]


def test_a_run_is_over_when_the_seeds_of_all_hosts_have_stopped(place):
    cfg = config.load(str(place / "tiny.py"), [f"data.store={place / 'store'}"])
    features = store.open(place / "store")
    train = dataclasses.replace(cfg.train, early_stop="run")
    cfg = config.resolve(dataclasses.replace(cfg, train=train), features)
    programs = [seeds.Program(cfg, features, 3, 1, hosts=Hosts(i, 2)) for i in range(2)]
    assert [program.numbers.tolist() for program in programs] == [[0, 1], [2, 2]]

    def finished(*stopped):
        def work(joined):
            programs[joined.index].hosts = joined
            chunk = types.SimpleNamespace(stopped=stopped[joined.index], step=[1])
            return programs[joined.index].finished([chunk])

        return together(work, work)

    assert finished([True, True], [True, False]) == [False, False]
    assert finished([True, True], [True, True]) == [True, True]
