"""Logs on disk: rings come back bit for bit, each row is written once, damage is named,
kills are harmless."""

import contextlib
import json
import os
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.analysis import records
from jaxrl.errors import JaxrlError
from jaxrl.train.best import Best
from jaxrl.train.files import folder as run_folder
from jaxrl.train.files import rows, state_arrays, verified
from jaxrl.train.files.checkpoint import Checkpoints
from jaxrl.types import Log
from tests.train.states import abstract, assert_same

ROW_BYTES = 4 * 3 + 1


class Hand:
    """A log that is written row by row, in Python:
    `members` × `blocks` rings of `capacity` rows."""

    def __init__(self, capacity: int, members: tuple[int, ...] = (), blocks: int = 1) -> None:
        self.capacity, self.members, self.blocks = capacity, members, blocks
        self.slots = int(np.prod(members)) * blocks
        self.x = np.zeros((self.slots, capacity, 3), np.float32)
        self.done = np.zeros((self.slots, capacity), bool)
        self.written = [0] * self.slots

    def append(self, *numbers: int) -> "Hand":
        """So many rows to each slot; the last number holds for those that are left."""
        for slot in range(self.slots):
            for _ in range(numbers[min(slot, len(numbers) - 1)]):
                place = self.written[slot] % self.capacity
                self.x[slot, place] = [slot, self.written[slot], -1]
                self.done[slot, place] = self.written[slot] % 2
                self.written[slot] += 1
        return self

    def state(self) -> dict:
        words = [[count % 2**32, count >> 32] for count in self.written]
        shape = (*self.members, self.blocks * self.capacity)
        found = {"x": self.x.reshape(*shape, 3), "done": self.done.reshape(shape)}
        counter = np.array(words, np.uint32).reshape(*self.members, self.blocks, 2)
        return {
            "iteration": jnp.asarray(sum(self.written) % 1000),
            "log": Log(jax.tree.map(jnp.array, found), jnp.array(counter)),
        }


def segments(folder):
    return {path.name for path in (folder / "checkpoints" / "rows").iterdir()}


def named(folder, iteration):
    manifest = json.loads(
        (folder / "checkpoints" / f"{iteration:09d}" / "manifest.json").read_text()
    )
    return manifest["logs"][0]


def restored(folder, hand, **options):
    found = Checkpoints(folder).restore_latest(abstract(hand.state()), **options)
    assert not found.problems
    assert_same(found.state, hand.state())
    return found


@pytest.mark.parametrize("members", [(), (2, 1), (2, 3)])
@pytest.mark.parametrize("blocks", [1, 2])
@pytest.mark.parametrize("resumed", [False, True])
def test_rings_come_back_however_they_were_filled(tmp_path, members, blocks, resumed):
    hand, checkpoints = Hand(5, members, blocks), Checkpoints(tmp_path)
    steps = [(0,), (3,), (1,), (4,), (0,), (5,), (2, 0), (1, 4, 3), (17,), (6, 1), (2**7 + 1,)]
    for iteration, numbers in enumerate(steps):
        if resumed and iteration:
            checkpoints = Checkpoints(tmp_path)
            checkpoints.restore_latest(abstract(hand.state()))
        checkpoints.save(iteration, hand.append(*numbers).state(), {})
        restored(tmp_path, hand)
        assert segments(tmp_path) == {
            each["sha256"] for saved in checkpoints.iterations() for each in named(tmp_path, saved)
        }


def test_a_segment_holds_the_new_rows_in_the_order_in_which_they_were_written(tmp_path):
    hand, checkpoints = Hand(5), Checkpoints(tmp_path)
    checkpoints.save(1, hand.append(4).state(), {})
    checkpoints.save(2, hand.append(3).state(), {})
    first, second = named(tmp_path, 2)
    assert first["pieces"] == [[0, 1, 0, 4]] and second["pieces"] == [[0, 1, 4, 7]]
    assert second["bytes"] == 3 * ROW_BYTES
    data = (checkpoints.path / "rows" / second["sha256"]).read_bytes()
    x = np.frombuffer(data[3:], np.float32).reshape(3, 3)
    assert x[:, 1].tolist() == [4, 5, 6] and list(data[:3]) == [0, 1, 0]
    checkpoints.save(
        3, hand.append(1).state(), {}
    )  # rows 3 … 7 are left: the first segment still holds one
    checkpoints.save(4, hand.append(1).state(), {})
    assert [each["pieces"][0][2:] for each in named(tmp_path, 3)] == [[0, 4], [4, 7], [7, 8]]
    assert [each["pieces"][0][2:] for each in named(tmp_path, 4)] == [[4, 7], [7, 8], [8, 9]]


def test_slots_with_equal_rows_are_one_entry(tmp_path):
    hand, checkpoints = Hand(4, (3, 2)), Checkpoints(tmp_path)
    checkpoints.save(1, hand.append(2).state(), {})
    checkpoints.save(2, hand.append(1, 1, 0, 0, 3).state(), {})
    assert [each["pieces"] for each in named(tmp_path, 2)] == [
        [[0, 6, 0, 2]],
        [[0, 2, 2, 3], [4, 6, 2, 5]],
    ]


def test_nothing_new_is_no_segment_and_a_turned_ring_is_one(tmp_path):
    hand, checkpoints = Hand(5), Checkpoints(tmp_path, keep=1)
    for iteration, (number, expected) in enumerate(
        [(0, []), (2, [[0, 2]]), (0, [[0, 2]]), (11, [[8, 13]])]
    ):
        checkpoints.save(iteration, hand.append(number).state(), {})
        assert [each["pieces"][0][2:] for each in named(tmp_path, iteration)] == expected
        assert len(segments(tmp_path)) == len(expected)
        restored(tmp_path, hand)


def test_counters_go_past_32_bits(tmp_path):
    hand, checkpoints = Hand(5), Checkpoints(tmp_path)
    hand.written = [2**32 - 2]
    checkpoints.save(1, hand.append(5).state(), {})
    checkpoints.save(2, hand.append(1).state(), {})
    assert named(tmp_path, 2)[1]["pieces"] == [[0, 1, 2**32 + 3, 2**32 + 4]]
    restored(tmp_path, hand)


def test_a_run_that_goes_on_writes_what_is_new_and_one_that_does_not_writes_all(tmp_path):
    hand, checkpoints = Hand(50), Checkpoints(tmp_path)
    checkpoints.save(1, hand.append(20).state(), {})
    resumed = Checkpoints(tmp_path)
    resumed.restore_latest(abstract(hand.state()))
    resumed.save(2, hand.append(4).state(), {})
    assert [each["bytes"] for each in named(tmp_path, 2)] == [20 * ROW_BYTES, 4 * ROW_BYTES]
    Checkpoints(tmp_path).save(3, hand.append(1).state(), {})  # whose state this is, it cannot know
    assert [each["bytes"] for each in named(tmp_path, 3)] == [25 * ROW_BYTES]
    restored(tmp_path, hand)


def test_going_back_leaves_the_rows_of_an_abandoned_future(tmp_path):
    hand, checkpoints = Hand(9), Checkpoints(tmp_path)
    checkpoints.save(1, hand.append(4).state(), {})
    checkpoints.save(2, Hand(9).append(7).state(), {})
    back = Checkpoints(tmp_path)
    back.restore(1, abstract(hand.state()))
    hand.written[0] += 1  # another row than the abandoned one: left empty
    back.save(2, hand.append(1).state(), {})
    restored(tmp_path, hand)
    assert len(segments(tmp_path)) == 2
    back.save(3, Hand(9).append(2).state(), {})  # a log that is shorter than before is another one
    restored(tmp_path, Hand(9).append(2))


def test_a_segment_that_is_gone_is_written_again(tmp_path):
    hand, checkpoints = Hand(9), Checkpoints(tmp_path)
    checkpoints.save(1, hand.append(4).state(), {})
    (checkpoints.path / "rows" / named(tmp_path, 1)[0]["sha256"]).unlink()
    checkpoints.save(2, hand.append(2).state(), {})
    assert len(named(tmp_path, 2)) == 1
    restored(tmp_path, hand)


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def link(path):
    shutil.move(path, path.parent.parent / "elsewhere")
    path.symlink_to(path.parent.parent / "elsewhere")


def pipe(path):
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (flip, "was altered"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "was altered"),
        (lambda path: path.write_bytes(path.read_bytes() + b"x"), "was altered"),
        (lambda path: path.unlink(), "is missing"),
        (link, "is no file"),
        (pipe, "is no file"),
    ],
)
def test_a_damaged_segment_damages_those_that_name_it(tmp_path, damage, text):
    hand, checkpoints = Hand(50), Checkpoints(tmp_path)
    for iteration in (1, 2, 3):
        checkpoints.save(iteration, hand.append(4).state(), {})
        if iteration == 1:
            older = hand.state()
    policy = {"w": jnp.ones(2)}
    checkpoints.save_best(3, state_arrays.host_leaves(policy), {})
    name = named(tmp_path, 2)[1]["sha256"]
    damage(checkpoints.path / "rows" / name)
    found = Checkpoints(tmp_path).restore_latest(abstract(older))
    assert found.iteration == 1
    assert_same(found.state, older)
    for iteration, problem in zip((3, 2), found.problems, strict=True):
        assert f"{iteration:09d} is damaged: checkpoints/rows/{name} {text}" in problem
    assert_same(checkpoints.restore_best(abstract(policy)).state, policy)
    resumed = Checkpoints(tmp_path)
    resumed.restore_latest(abstract(older))
    assert len(resumed.set_aside_damaged(1)) == 2
    resumed.save(2, older, {})
    kept = json.loads((checkpoints.path / "damaged-1-000000003" / "manifest.json").read_text())[
        "logs"
    ][0]
    assert {each["sha256"] for each in kept} - {name} <= segments(
        tmp_path
    )  # what is set aside keeps its rows


def broken(change):
    def damage(manifest):
        change(manifest["logs"][0])

    return damage


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (broken(lambda log: log.pop()), "do not hold the 8 rows"),
        (broken(lambda log: log.pop(0)), "do not hold the 8 rows"),
        (
            broken(lambda log: log[1].update(sha256="../../x")),
            "logs is .* but must be a list with the segments",
        ),
        (broken(lambda log: log[1].update(bytes=-1)), "logs is"),
        (broken(lambda log: log[1].pop("pieces")), "logs is"),
        (broken(lambda log: log[1].update(pieces=[[0, 1, 8, 4]])), "logs is"),
        (broken(lambda log: log[1].update(pieces=[[0, 1, 4, 8, 9]])), "logs is"),
        (broken(lambda log: log[1].update(pieces=[[0, 2, 4, 8]])), "is of another log"),
        (broken(lambda log: log[1].update(pieces=[[0, 1, 4, 9]])), "do not hold the 8 rows"),
        (broken(lambda log: log[0].update(pieces=[[0, 1, 0, 400]])), "is of another log"),
        (lambda manifest: manifest.update(logs={}), "logs is"),
        (lambda manifest: manifest.update(logs=[]), "not of the same logs"),
        (lambda manifest: manifest.pop("logs"), "not of the same logs"),
        (
            lambda manifest: [row.pop("counts", 0) for row in manifest["leaves"]],
            "not of the same logs",
        ),
        (
            lambda manifest: [row.update(log=7) for row in manifest["leaves"] if "log" in row],
            "not of the same logs",
        ),
    ],
)
def test_manifests_are_checked(tmp_path, damage, text):
    hand, checkpoints = Hand(50), Checkpoints(tmp_path)
    for iteration in (1, 2):
        checkpoints.save(iteration, hand.append(4).state(), {})
    path = checkpoints.newest / "manifest.json"
    manifest, values = verified.read(checkpoints.newest)
    damage(manifest)
    with contextlib.suppress(Exception):
        manifest["sha256"] = state_arrays.digest(manifest, values)
    path.write_text(json.dumps(manifest))
    with pytest.raises(JaxrlError, match=text):
        Checkpoints(tmp_path).restore(2, abstract(hand.state()))


def test_what_is_a_strangers_is_left_alone(tmp_path):
    folder = run_folder.create(tmp_path / "run", {})
    hand, checkpoints = Hand(5), Checkpoints(folder, keep=1)
    checkpoints.save(1, hand.append(2).state(), {})
    place, other = checkpoints.path / "rows", tmp_path / "other"
    other.write_text("mine")
    mine = ["notes.txt", "A" * 64, "a" * 63, "a" * 65, ".tmp-x", ".tmp-ABCDEFGH"]
    for name in mine:
        (place / name).write_text("mine")
    (place / ("b" * 64)).mkdir()
    (place / ("c" * 64)).symlink_to(other)
    (place / ".tmp-abcdefgh").symlink_to(other)
    begun = [place / ("d" * 64), place / ".tmp-01234567"]
    for path in begun:
        path.write_text("what a kill has left")
    kept = {*mine, "b" * 64, "c" * 64, ".tmp-abcdefgh"}
    for iteration in (2, 3):
        checkpoints.save(iteration, hand.append(7).state(), {})
        assert len(segments(folder)) == len(kept) + 1 and kept < segments(folder)
    run_folder.create(folder, {}, overwrite=True)
    assert segments(folder) == kept and other.read_text() == "mine"


def test_overwriting_removes_the_segments(tmp_path):
    folder = run_folder.create(tmp_path / "run", {})
    Checkpoints(folder).save(1, Hand(5).append(2).state(), {})
    run_folder.create(folder, {}, overwrite=True)
    assert not list((folder / "checkpoints").iterdir())


def test_nothing_is_written_through_a_link(tmp_path):
    folder = run_folder.create(tmp_path / "run", {})
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim" / ("a" * 64)).write_text("mine")
    (folder / "checkpoints" / "rows").symlink_to(tmp_path / "victim")
    with pytest.raises(JaxrlError, match="checkpoints/rows is a symbolic link"):
        run_folder.create(folder, {}, overwrite=True)
    with pytest.raises(JaxrlError, match="symbolic link"):
        Checkpoints(folder).save(1, Hand(5).append(2).state(), {})
    Checkpoints(folder).save(1, {"x": jnp.ones(2)}, {})
    assert [path.name for path in (tmp_path / "victim").iterdir()] == ["a" * 64]


def test_a_name_that_is_taken_is_not_replaced(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, Hand(5).append(2).state(), {})
    (name,) = segments(tmp_path)
    shutil.rmtree(checkpoints.path)
    (checkpoints.path / "rows").mkdir(parents=True)
    (checkpoints.path / "rows" / name).symlink_to(tmp_path / "mine")
    with pytest.raises(
        JaxrlError, match=f"cannot save the checkpoint .*{name} is no file of jaxrl's"
    ):
        checkpoints.save(1, Hand(5).append(2).state(), {})
    assert segments(tmp_path) == {name} and not checkpoints.iterations()


class Killed(BaseException):
    """The process is no more."""


@contextlib.contextmanager
def killed_at(moment):
    """A process that dies at the `moment`-th call to the system that changes files;
    yields how many there were."""
    calls, quiet = [0], [False]

    def dying(function):
        def call(*arguments, **options):
            if not quiet[0]:
                calls[0] += 1
                if calls[0] >= moment:
                    raise Killed
            return function(*arguments, **options)

        return call

    def save_arrays(*arguments):  # Orbax has threads of its own
        quiet[0] = True
        try:
            return original(*arguments)
        finally:
            quiet[0] = False

    original = state_arrays.save_arrays
    with pytest.MonkeyPatch.context() as patch:
        for name in ("mkdir", "rename", "replace", "unlink", "rmdir", "fsync", "fchmod"):
            patch.setattr(os, name, dying(getattr(os, name)))
        patch.setattr(state_arrays, "save_arrays", save_arrays)
        with contextlib.suppress(Killed):
            yield calls


def test_a_kill_at_any_step_of_a_save_leaves_one_of_two_states(tmp_path):
    hand = Hand(8, (2,))
    base = Checkpoints(tmp_path / "base", keep=2)
    for iteration in (1, 2, 3):
        base.save(iteration, hand.append(3).state(), {})
    before = hand.state()
    after = hand.append(4).state()
    third = hand.append(1).state()
    moment, seen = 0, set()
    while True:
        moment += 1
        folder = shutil.copytree(tmp_path / "base", tmp_path / str(moment))
        checkpoints = Checkpoints(folder, keep=2)
        checkpoints.restore_latest(abstract(before))
        with killed_at(moment) as calls:
            checkpoints.save(4, after, {})
        resumed = Checkpoints(folder, keep=2)
        found = resumed.restore_latest(abstract(before))
        assert not found.problems
        assert_same(found.state, {3: before, 4: after}[found.iteration])
        seen.add(found.iteration)
        resumed.save(5, third, {})
        assert_same(Checkpoints(folder).restore_latest(abstract(before)).state, third)
        kept = {f"{saved:09d}" for saved in resumed.iterations()}
        assert {path.name for path in resumed.path.iterdir()} == {*kept, "rows"} and len(kept) == 2
        wanted = {each["sha256"] for saved in resumed.iterations() for each in named(folder, saved)}
        assert segments(folder) == wanted
        shutil.rmtree(folder)
        if calls[0] < moment:
            break
    assert seen == {3, 4} and moment > 15


def test_rows_are_written_once_and_tiny_segments_are_merged(tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "MOST_SEGMENTS", 16)
    monkeypatch.setattr(rows, "MERGED", 8)
    sizes, save = [], rows.SegmentFolder._save

    def recorded(self, log, ranges):
        segment = save(self, log, ranges)
        sizes.append(segment.size)
        return segment

    monkeypatch.setattr(rows.SegmentFolder, "_save", recorded)
    monkeypatch.setattr(
        state_arrays, "save_arrays", lambda path, *_: path.mkdir()
    )  # the ordinary leaves do not matter here
    hand, checkpoints = Hand(10_000), Checkpoints(tmp_path, keep=1)
    for iteration in range(16):
        checkpoints.save(iteration, hand.append(3).state(), {})
    assert sum(sizes) == 16 * 3 * ROW_BYTES  # an ordinary run: once
    for iteration in range(16, 100):
        checkpoints.save(iteration, hand.append(3).state(), {})
        assert len(segments(tmp_path)) <= 16
    assert sum(sizes) <= 3 * 100 * 3 * ROW_BYTES
    manifest = json.loads((checkpoints.newest / "manifest.json").read_text())
    values = [np.zeros(row["shape"], row["dtype"]) for row in manifest["leaves"]]
    values[-1] = np.asarray(hand.state()["log"].written)
    rows.read(checkpoints.path / "rows", manifest, values)
    np.testing.assert_array_equal(values[2], hand.state()["log"].rows["x"])


def test_no_copy_is_made_while_saving():
    state = Hand(5000).append(3000).state()
    (log,) = rows.rings(*state_arrays.host_leaves(state))
    leaf = log.leaves[1]
    memory = np.asarray(leaf)
    total = 0
    for data in rows._bytes_of(log._replace(leaves=[leaf]), [rows.Piece(0, 1, 500, 3000)]):
        assert np.shares_memory(np.frombuffer(data, np.uint8), memory)
        total += len(data)
    assert total == 2500 * 12


@pytest.mark.parametrize(("first", "number"), [(0, 10), (3, 1), (5, 5), (9, 1), (2, 3), (0, 7)])
def test_an_accelerators_rows_are_fetched_by_windows(first, number):
    leaf = jnp.arange(2 * 3 * 10 * 2).reshape(2, 3, 10, 2)
    np.testing.assert_array_equal(
        rows._fetch(leaf, (1, 2), first, number), leaf[1, 2, first : first + number]
    )
    np.testing.assert_array_equal(
        rows._fetch(leaf[1, 2], (), first, number), leaf[1, 2, first : first + number]
    )


def test_a_log_that_devices_share_is_read_from_each_of_them(tmp_path):
    mesh = jax.make_mesh((2, 2), ("seed", "env"), devices=jax.devices()[:4])
    sharding = jax.NamedSharding(mesh, jax.P(None, "seed", "env"))
    hand, checkpoints = Hand(4, (1, 2), 2), Checkpoints(tmp_path)
    for iteration, numbers in enumerate([(3,), (2,), (0, 6, 1)]):
        state = hand.append(*numbers).state()
        state["log"] = jax.device_put(state["log"], sharding)
        checkpoints.save(iteration, state, {})
        found = checkpoints.restore_latest(state).state
        assert_same(found, state)
        assert found["log"].rows["x"].sharding == sharding


def whole(hand, member):
    """The rows of a member of a Hand, whichever block they are in, oldest first."""
    slots = range(member * hand.blocks, (member + 1) * hand.blocks)
    x = [hand.x[slot, row % hand.capacity] for slot in slots for row in _alive(hand, slot)]
    when = [row * hand.blocks + slot % hand.blocks for slot in slots for row in _alive(hand, slot)]
    return [row.tolist() for _, row in sorted(zip(when, x, strict=True), key=lambda pair: pair[0])]


def _alive(hand, slot):
    return range(max(0, hand.written[slot] - hand.capacity), hand.written[slot])


@pytest.mark.parametrize("number", [0, 3, 4, 7, 29])
def test_other_devices_share_the_same_rows(tmp_path, number):
    hand = Hand(4, (2,), 2).append(number)
    Checkpoints(tmp_path).save(1, hand.state(), {})
    for blocks in (1, 4):
        checkpoints = Checkpoints(tmp_path)
        like = abstract(Hand(8 // blocks, (2,), blocks).state())
        log = checkpoints.restore(1, like).state["log"]
        other = Hand(8 // blocks, (2,), blocks)
        other.x = np.array(log.rows["x"]).reshape(other.x.shape)
        other.done = np.array(log.rows["done"]).reshape(other.done.shape)
        other.written = [int(low) for low, _ in log.written.reshape(-1, 2)]
        assert sum(other.written) == sum(hand.written)
        for member in range(2):
            assert whole(other, member) == whole(hand, member)
        checkpoints.save(2, other.append(1).state(), {})
        restored(tmp_path, other)
        back = checkpoints.restore(2, abstract(hand.state())).state["log"]
        assert back.written.tolist() == [
            [[total // 2 + total % 2, 0], [total // 2, 0]] for total in [2 * number + blocks] * 2
        ]
    with pytest.raises(JaxrlError, match="another configuration"):
        Checkpoints(tmp_path).restore(1, abstract(Hand(2, (2,), 3).state()))


@pytest.mark.parametrize(("number", "blocks"), [(0, 2), (3, 2), (4, 2), (3, 4)])
def test_a_log_that_nothing_was_lost_of_may_be_given_more_room(tmp_path, number, blocks):
    hand = Hand(4, (2,), 2).append(number)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, hand.state(), {})
    larger = Hand(12 // blocks * 2, (2,), blocks)
    log = checkpoints.restore(1, abstract(larger.state())).state["log"]
    larger.x = np.array(log.rows["x"]).reshape(larger.x.shape)
    larger.done = np.array(log.rows["done"]).reshape(larger.done.shape)
    larger.written = [int(low) for low, _ in log.written.reshape(-1, 2)]
    for member in range(2):
        assert whole(larger, member) == whole(hand, member)
    for iteration in (2, 3):  # what no segment holds yet, and round the larger ring
        checkpoints.save(iteration, larger.append(9).state(), {})
        restored(tmp_path, larger)


def test_two_logs_and_one_without_a_name(tmp_path):
    one, two = Hand(5).append(7).state()["log"], Hand(3, (2,), 2).append(2).state()["log"]
    for name, state in {"two": (one, jnp.ones(2), {"b": two}), "alone": one}.items():
        checkpoints = Checkpoints(tmp_path / name)
        checkpoints.save(1, state, {})
        checkpoints.save(2, state, {})
        assert_same(checkpoints.restore_latest(abstract(state)).state, state)


def test_another_capacity_is_another_configuration(tmp_path):
    Checkpoints(tmp_path).save(1, Hand(5).append(7).state(), {})
    match = (
        r"another configuration: it holds log\.rows\.done bool\[5\], "
        r"where this configuration needs .*bool\[6\]"
    )
    with pytest.raises(JaxrlError, match=match):
        Checkpoints(tmp_path).restore_latest(abstract(Hand(6).state()))


def test_what_cannot_be_a_log_or_hold_one_is_refused(tmp_path):
    keys = Log({"k": jax.random.split(jax.random.key(0), 3)}, jnp.zeros((1, 2), jnp.uint32))
    with pytest.raises(JaxrlError, match=r"rows\.k holds keys: a log can keep their data"):
        Checkpoints(tmp_path).save(1, keys, {})
    with pytest.raises(JaxrlError, match=r"the policy holds a log \(log\.rows\.done\)"):
        Best(Checkpoints(tmp_path), (1, 1), Hand(5).state())
    odd = Log({"x": jnp.zeros(3)}, jnp.zeros((2, 2), jnp.uint32))
    with pytest.raises(JaxrlError, match="cannot save the checkpoint .*3"):
        Checkpoints(tmp_path).save(1, odd, {})


def test_manifests_of_before_there_were_logs_are_read(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, {"x": jnp.ones(2)}, {})
    manifest, _ = verified.read(checkpoints.newest)
    del manifest["logs"]
    records.check_manifest(manifest, 1)
    assert not (checkpoints.path / "rows").exists()
