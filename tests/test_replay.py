"""The ring buffer against a brute-force model that keeps plain Python lists."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from eqcrl import replay as rb
from eqcrl.assemble import assemble
from eqcrl.config import Config
from eqcrl.epoch import collect, epoch, init
from eqcrl.relabel import Geometric, Uniform
from eqcrl.types import EnvSpec, Transition

SPEC = EnvSpec(observation_size=4, action_size=2, goal_size=4)

# Drawing a buffer fills one, and the first of each size compiles.
unhurried = settings(max_examples=50, suppress_health_check=[HealthCheck.too_slow])
insert = jax.jit(rb.insert)
horizon = jax.jit(rb.horizon)
sample = jax.jit(rb.sample, static_argnums=2)
sample_chunks = jax.jit(rb.sample, static_argnums=2, static_argnames="chunk")


class History:
    """Every step ever taken, labelled (time, env, episode, step within the episode)."""

    def __init__(self, num_envs: int, longest: int, seed: int):
        self.rng = np.random.default_rng(seed)
        self.longest = longest
        self.labels: list[list[tuple[int, int, int, int]]] = [[] for _ in range(num_envs)]
        self.ended: list[list[bool]] = [[] for _ in range(num_envs)]
        self.remaining = [self.draw() for _ in range(num_envs)]
        self.episode = [0] * num_envs
        self.step = [0] * num_envs

    def draw(self) -> int:
        return int(self.rng.integers(1, self.longest + 1))

    def time(self) -> int:
        return len(self.labels[0])

    def unroll(self, length: int) -> Transition:
        """Play `length` steps; the observation and the achieved goal both spell out the label."""
        start = self.time()
        for env, labels in enumerate(self.labels):
            for time in range(start, start + length):
                labels.append((time, env, self.episode[env], self.step[env]))
                self.step[env] += 1
                self.remaining[env] -= 1
                self.ended[env].append(self.remaining[env] == 0)
                if self.remaining[env] == 0:
                    self.remaining[env], self.step[env] = self.draw(), 0
                    self.episode[env] += 1
        label = np.array([labels[start:] for labels in self.labels], np.float32).swapaxes(0, 1)
        seen = jnp.asarray(label)
        ended = np.array([self.ended[env][start:] for env in range(len(self.labels))]).T
        # Odd episodes are terminated by their last step, even ones run out of time.
        odd = label[..., 2].astype(int) % 2 == 1
        return Transition(
            seen, -seen[..., :2], seen, seen[..., 2].astype(jnp.int32), 2 * seen, jnp.asarray(ended & odd)
        )

    def alive(self, capacity: int) -> list[tuple[int, int, int, int]]:
        """Labels of what a buffer of this capacity must still hold."""
        return [label for labels in self.labels for label in labels[-capacity:]]

    def horizon(self, capacity: int, label: tuple[int, int, int, int]) -> int:
        """Steps of the same episode from this one on that are in the buffer."""
        time, env, episode, _ = label
        return sum(1 for t, _, e, _ in self.labels[env][-capacity:] if e == episode and t >= time)


@st.composite
def filled(draw: st.DrawFn) -> tuple[rb.Replay, History]:
    """A buffer after some unrolls of any lengths: wrapped not at all, once or many times."""
    # Few sizes, because each one compiles; 1 and primes are where a modulus goes wrong.
    capacity, num_envs = draw(st.sampled_from([1, 2, 5, 7, 8])), draw(st.sampled_from([1, 3]))
    lengths = draw(st.lists(st.integers(1, capacity), min_size=1, max_size=8))
    history = History(num_envs, draw(st.integers(1, 2 * capacity)), draw(st.integers(0, 2**32 - 1)))
    replay = rb.empty(SPEC, capacity, num_envs)
    for length in lengths:
        replay = insert(replay, history.unroll(length))
    return replay, history


@unhurried
@given(filled())
def test_insert_keeps_exactly_the_last_rows(case: tuple[rb.Replay, History]) -> None:
    replay, history = case
    capacity = replay.capacity()
    assert int(replay.inserted) == history.time()
    assert int(replay.size()) == min(history.time(), capacity)
    labels = np.array(history.alive(capacity))
    at = labels[:, 0] % capacity, labels[:, 1]
    np.testing.assert_array_equal(np.asarray(replay.data.observation)[at], labels)
    np.testing.assert_array_equal(np.asarray(replay.data.next_achieved_goal)[at], labels)
    np.testing.assert_array_equal(np.asarray(replay.data.action)[at], -labels[:, :2])
    np.testing.assert_array_equal(np.asarray(replay.data.episode)[at], labels[:, 2])


@unhurried
@given(filled())
def test_horizon_of_every_live_transition_is_what_counting_finds(case: tuple[rb.Replay, History]) -> None:
    replay, history = case
    capacity = replay.capacity()
    labels = history.alive(capacity)
    row = jnp.array([label[0] % capacity for label in labels])
    env = jnp.array([label[1] for label in labels])
    counted = [history.horizon(capacity, label) for label in labels]
    np.testing.assert_array_equal(horizon(replay, row, env), counted)


@unhurried
@given(filled(), st.integers(0, 2**31 - 1), st.sampled_from([Geometric(0.5), Geometric(0.999), Uniform()]))
def test_pairs_stay_inside_the_episode_and_the_buffer(
    case: tuple[rb.Replay, History], seed: int, relabeller: Geometric | Uniform
) -> None:
    replay, history = case
    batch = sample(replay, relabeller, 64, key=jax.random.key(seed))
    here, there = np.asarray(batch.observation), np.asarray(batch.goal)
    newest, oldest = history.time() - 1, max(history.time() - replay.capacity(), 0)
    alive = set(history.alive(replay.capacity()))
    for state, goal in zip(here.astype(int).tolist(), there.astype(int).tolist(), strict=True):
        assert tuple(state) in alive
        assert tuple(goal) in alive
        assert state[1:3] == goal[1:3], "another environment or another episode"
        assert oldest <= state[0] <= goal[0] <= newest, "the goal was not reached later"
    np.testing.assert_array_equal(batch.action, -here[:, :2])


@unhurried
@given(filled(), st.integers(0, 2**31 - 1))
def test_outcomes_are_of_the_step_and_say_what_is_not_known(case: tuple[rb.Replay, History], seed: int) -> None:
    replay, history = case
    batch = sample(replay, Uniform(), 64, key=jax.random.key(seed))
    outcome = batch.outcome
    assert outcome is not None
    np.testing.assert_array_equal(outcome.next_achieved_goal, batch.observation)
    np.testing.assert_array_equal(outcome.desired_goal, 2 * batch.observation)
    here, there = np.asarray(batch.observation).astype(int), np.asarray(outcome.next_observation).astype(int)
    for row, (time, env, episode, step) in enumerate(here.tolist()):
        ended = history.ended[env][time]
        assert bool(outcome.terminated[row]) == (ended and episode % 2 == 1)
        newest = time == history.time() - 1
        assert bool(outcome.known[row]) == (bool(outcome.terminated[row]) or not (ended or newest))
        if not (ended or newest):
            assert there[row].tolist() == [time + 1, env, episode, step + 1]


@unhurried
@given(filled(), st.integers(0, 2**31 - 1), st.sampled_from([2, 3]))
def test_a_chunk_is_of_one_episode_and_its_goal_lies_behind_it(
    case: tuple[rb.Replay, History], seed: int, chunk: int
) -> None:
    replay, history = case
    batch = sample_chunks(replay, Uniform(), 64, key=jax.random.key(seed), chunk=chunk)
    assert batch.action.shape == (64, chunk * SPEC.action_size)
    here, there = np.asarray(batch.observation).astype(int), np.asarray(batch.goal).astype(int)
    actions = np.asarray(batch.action).astype(int).reshape(64, chunk, SPEC.action_size)
    for row, (time, env, episode, step) in enumerate(here.tolist()):
        left = history.horizon(replay.capacity(), (time, env, episode, step))
        for k in range(chunk):
            assert actions[row, k].tolist() == ([-(time + k), -env] if k < left else [0, 0])
        assert there[row, 1:3].tolist() == [env, episode]
        assert there[row, 0] >= time + min(chunk, left) - 1


def wrapped() -> tuple[rb.Replay, History]:
    """48 rows of 3 environments after 130 steps in unrolls of uneven length."""
    history = History(num_envs=3, longest=25, seed=7)
    replay = rb.empty(SPEC, 48, 3)
    for length in (40, 13, 48, 29):
        replay = insert(replay, history.unroll(length))
    return replay, history


def law(history: History, capacity: int, weights: str, gamma: float) -> dict[tuple[int, int, int], float]:
    """Brute force: probability of each (time, env, offset)."""
    alive = history.alive(capacity)
    probability = {}
    for label in alive:
        offsets = np.arange(1, history.horizon(capacity, label) + 1)
        mass = gamma ** offsets.astype(np.float64) if weights == "geometric" else np.ones(len(offsets))
        for offset, share in zip(offsets, mass / mass.sum(), strict=True):
            probability[label[0], label[1], int(offset)] = share / len(alive)
    return probability


def p_value(observed: np.ndarray, expected: np.ndarray) -> float:
    """Chi-square test; cells that expect fewer than 10 are pooled into one."""
    rare = expected < 10
    observed = np.append(observed[~rare], observed[rare].sum())
    expected = np.append(expected[~rare], expected[rare].sum())
    keep = expected > 0
    observed, expected = observed[keep], expected[keep]
    return float(chisquare(observed, expected * observed.sum() / expected.sum()).pvalue)


@pytest.mark.parametrize(
    ("relabeller", "weights", "gamma", "wrong"),
    [
        (Geometric(0.9), "geometric", 0.9, ("geometric", 0.91)),
        (Geometric(0.99), "geometric", 0.99, ("uniform", 1.0)),
        (Uniform(), "uniform", 1.0, ("geometric", 0.99)),
    ],
)
def test_sampled_law_is_the_brute_force_categorical_law(
    relabeller: Geometric | Uniform, weights: str, gamma: float, wrong: tuple[str, float]
) -> None:
    replay, history = wrapped()
    count = 1_000_000
    batch = sample(replay, relabeller, count, key=jax.random.key(2024))
    state, goal = np.asarray(batch.observation).astype(int), np.asarray(batch.goal).astype(int)
    drawn = np.stack([state[:, 0], state[:, 1], goal[:, 0] - state[:, 0] + 1], axis=1)
    cells, counts = np.unique(drawn, axis=0, return_counts=True)
    seen = {tuple(cell): n for cell, n in zip(cells.tolist(), counts.tolist(), strict=True)}

    def fit(weights: str, gamma: float) -> float:
        expected = law(history, replay.capacity(), weights, gamma)
        assert seen.keys() <= expected.keys(), "an impossible offset was drawn"
        observed = np.array([seen.get(cell, 0) for cell in expected], float)
        return p_value(observed, count * np.array(list(expected.values())))

    assert fit(weights, gamma) > 1e-3
    assert fit(*wrong) < 1e-9, "the test could not tell this law from a close one"


def test_offsets_follow_the_categorical_law_at_every_horizon() -> None:
    replay, history = wrapped()
    gamma = 0.95
    batch = sample(replay, Geometric(gamma), 1_000_000, key=jax.random.key(5))
    state, goal = np.asarray(batch.observation).astype(int), np.asarray(batch.goal).astype(int)
    offset = goal[:, 0] - state[:, 0] + 1
    of_label = {label: history.horizon(48, label) for label in history.alive(48)}
    horizons = np.array([of_label[tuple(label)] for label in state.tolist()])
    assert len(set(of_label.values())) > 10, "the episodes should have many lengths"
    for h in sorted(set(of_label.values()) - {1}):
        mass = gamma ** np.arange(1, h + 1, dtype=np.float64)
        counts = np.bincount(offset[horizons == h], minlength=h + 1)[1:].astype(float)
        assert p_value(counts, counts.sum() * mass / mass.sum()) > 1e-4, f"horizon {h}"


@pytest.mark.parametrize("unrolls", [(17,), (40, 13, 48, 29)], ids=["partly filled", "wrapped"])
def test_times_and_environments_are_drawn_uniformly(unrolls: tuple[int, ...]) -> None:
    history, replay = History(3, 25, 11), rb.empty(SPEC, 48, 3)
    for length in unrolls:
        replay = insert(replay, history.unroll(length))
    batch = sample(replay, Geometric(0.9), 300_000, key=jax.random.key(0))
    _, counts = np.unique(np.asarray(batch.observation)[:, :2], axis=0, return_counts=True)
    assert len(counts) == len(history.alive(48))
    assert chisquare(counts).pvalue > 1e-3


def test_rows_of_a_batch_are_drawn_independently() -> None:
    """`actor_goals` takes the next row's goal for a random one, so neighbors must not be related."""
    replay, history = wrapped()
    batch = sample(replay, Geometric(0.9), 500_000, key=jax.random.key(3))
    env = np.asarray(batch.observation)[:, 1].astype(int)
    age = (history.time() - 1 - np.asarray(batch.observation)[:, 0].astype(int)) // 8
    for label, kinds in ((env, 3), (age, 6)):
        pairs = np.bincount(label[:-1:2] * kinds + label[1::2], minlength=kinds**2)
        assert chisquare(pairs).pvalue > 1e-3


def test_a_key_decides_the_batch() -> None:
    replay, _ = wrapped()
    one, again, other = (sample(replay, Geometric(), 32, key=jax.random.key(k)) for k in (1, 1, 2))
    np.testing.assert_array_equal(one.observation, again.observation)
    np.testing.assert_array_equal(one.goal, again.goal)
    assert not np.array_equal(one.observation, other.observation)


def test_an_unroll_longer_than_the_buffer_is_refused() -> None:
    with pytest.raises(ValueError, match=r"unroll of 6 steps does not fit into a replay of 5"):
        rb.insert(rb.empty(SPEC, 5, 2), History(2, 3, 0).unroll(6))


def tree_bytes(tree: object) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def large() -> tuple[rb.Replay, Transition]:
    """Shapes of a replay of 205 MB, beside which a copy cannot hide, and of one unroll."""
    replay = jax.eval_shape(lambda: rb.empty(SPEC, 50_000, 93))
    unroll = jax.eval_shape(lambda: jax.tree.map(lambda leaf: leaf[:10], rb.empty(SPEC, 50_000, 93).data))
    return replay, unroll


def rolling(replay: rb.Replay, steps: Transition) -> rb.Replay:
    """The usual way: shift everything and write at the end."""
    data = jax.tree.map(lambda ring, new: jnp.concatenate([ring[len(new) :], new]), replay.data, steps)
    return rb.Replay(data, replay.last, replay.inserted + len(steps.episode))


def test_a_donated_insert_writes_in_place() -> None:
    replay, unroll = large()
    total = tree_bytes(replay)
    memory = jax.jit(rb.insert, donate_argnums=0).lower(replay, unroll).compile().memory_analysis()
    assert memory.alias_size_in_bytes >= total
    assert memory.temp_size_in_bytes < total / 1000


def test_the_memory_analysis_would_show_a_copy() -> None:
    replay, unroll = large()
    total = tree_bytes(replay)
    kept = jax.jit(rb.insert).lower(replay, unroll).compile().memory_analysis()
    assert kept.alias_size_in_bytes == 0
    shifted = jax.jit(rolling, donate_argnums=0).lower(replay, unroll).compile().memory_analysis()
    assert shifted.temp_size_in_bytes > total / 3


def test_a_donated_buffer_keeps_its_address() -> None:
    replay, history = rb.empty(SPEC, 64, 2), History(2, 9, 0)
    before = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(replay.data)]
    after = jax.jit(rb.insert, donate_argnums=0)(replay, history.unroll(8))
    assert [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(after.data)] == before
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(replay.data))


@pytest.mark.parametrize("program", [collect, epoch])
def test_training_holds_the_replay_once(program: object) -> None:
    algorithm = assemble(
        Config.load(
            overrides={
                "arch": "resnet-4",
                "arch.width": 8,
                "agent.representation_size": 4,
                "replay.capacity": 400_000,
                "replay.min_filled": 10,
                "train.num_envs": 16,
                "train.unroll_length": 10,
                "train.updates_per_epoch": 3,
                "train.batch_size": 32,
            }
        )
    ).algorithm
    state = jax.eval_shape(partial(init, algorithm), key=jax.random.key(0))
    total = tree_bytes(state.replay)
    compiled = jax.jit(partial(program, algorithm), donate_argnums=0).lower(state).compile()
    memory = compiled.memory_analysis()
    assert total > 200e6
    assert memory.alias_size_in_bytes >= total
    assert memory.temp_size_in_bytes < total / 100
